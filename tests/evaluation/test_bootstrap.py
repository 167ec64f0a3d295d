"""Intervals near the analytic ones, from a seed alone, that cover the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from treino.evaluation.bootstrap import BLOCK_BYTES, FEW_DOCUMENTS, mean_interval, ratio_interval, units

NORMAL = 1.96
"""Standard deviations of a normal distribution that 95 % of it lie within."""
NEAR = 0.1
"""Relative error of an interval's width that 2,000 resamples leave (its end is a quantile of them)."""


def documents(count: int, seed: int = 0, longest: int = 80) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Losses and bytes of the tokens of some documents; end tokens stand for no byte."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, longest, count)
    losses = [draw.exponential(2.0, length + 1).astype(np.float32) for length in lengths]
    return losses, [np.append(draw.integers(1, 9, length), 0) for length in lengths]


def test_mean_of_independent_values_has_the_analytic_interval() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    found = mean_interval(values, resamples=2000, seed=0)
    error = NORMAL * values.std() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=NEAR * error)
    assert found.high == pytest.approx(values.mean() + error, abs=NEAR * error)


def test_ratio_of_sums_has_the_interval_of_the_delta_method() -> None:
    """Long documents have more of both; the variance of Σx / Σd is that of x − r·d, divided by n and mean(d)²."""
    draw = np.random.default_rng(2)
    sizes = draw.integers(100, 2000, 500).astype(float)
    nats = 0.7 * sizes + draw.normal(0, 40, 500)
    found = ratio_interval(nats, sizes, resamples=2000, seed=0)
    ratio = nats.sum() / sizes.sum()
    error = NORMAL * (nats - ratio * sizes).std() / math.sqrt(500) / sizes.mean()
    assert found.low is not None and found.high is not None
    assert found.mean == pytest.approx(ratio)
    assert found.high - found.low == pytest.approx(2 * error, rel=NEAR)
    assert found.low < found.mean < found.high


def test_the_seed_decides() -> None:
    values = np.random.default_rng(3).exponential(size=50)
    first, again, other = (mean_interval(values, resamples=100, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other and first.mean == other.mean


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """200 skewed samples of 60: the bootstrap is a little short there (Efron 1979), and three deviations of 95 % are 5 %."""
    draw = np.random.default_rng(4)
    covered = 0
    for trial in range(200):
        found = mean_interval(draw.exponential(size=60), resamples=200, seed=trial)
        assert found.low is not None and found.high is not None
        covered += found.low <= 1.0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_single_unit_has_no_interval() -> None:
    found = ratio_interval(np.array([3.0]), np.array([2.0]), resamples=100, seed=0)
    assert (found.mean, found.low, found.high) == (1.5, None, None)


def test_values_without_spread_have_an_interval_of_no_width() -> None:
    found = mean_interval(np.full(40, 0.25), resamples=100, seed=0)
    assert found.low == found.mean == found.high == 0.25


def test_units_are_documents_where_there_are_enough() -> None:
    losses, sizes = documents(FEW_DOCUMENTS)
    over, nats, counts = units(losses, sizes)
    assert over == "documents"
    assert nats.tolist() == pytest.approx([loss.sum(dtype=np.float64) for loss in losses])
    assert counts.tolist() == [size.sum() for size in sizes]


def test_units_are_blocks_within_documents_where_documents_are_few() -> None:
    losses, sizes = documents(FEW_DOCUMENTS - 1, longest=3000)
    over, nats, counts = units(losses, sizes)
    assert over == "blocks"
    assert nats.sum() == pytest.approx(sum(loss.sum(dtype=np.float64) for loss in losses))
    assert counts.sum() == sum(size.sum() for size in sizes)
    wholes = [int(size.sum()) // BLOCK_BYTES + 1 for size in sizes]
    assert len(counts) == sum(wholes), "each document has its own blocks"
    for last, whole in zip(np.cumsum(wholes), wholes, strict=True):
        of_document = counts[last - whole : last]
        assert (np.abs(of_document[:-1] - BLOCK_BYTES) < 9).all() and of_document[-1] < BLOCK_BYTES + 9


def test_one_document_is_drawn_from_in_blocks() -> None:
    losses, sizes = documents(1, seed=5, longest=9000)
    _, nats, counts = units(losses, sizes)
    assert len(counts) > 5
    found = ratio_interval(nats, counts, resamples=200, seed=0)
    assert found.low is not None and found.high is not None
    assert found.low < found.mean < found.high

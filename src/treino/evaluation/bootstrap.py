"""Intervals: the percentile bootstrap (Efron 1979) of ratios of sums and of means, and Student's of a few repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
FEW_DOCUMENTS = 30
BLOCK_BYTES = 2000


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its 95 % interval, which are None where a single unit leaves nothing to draw from."""

    mean: float
    low: float | None
    high: float | None


def units(losses: Sequence[np.ndarray], sizes: Sequence[np.ndarray]) -> tuple[str, np.ndarray, np.ndarray]:
    """What is drawn anew, with its losses and bytes summed up: "documents", or where there are fewer than 30 of them
    "blocks" of about 2 kB, none of which crosses documents.

    Args:
        losses: of every token, one array for each document.
        sizes: the bytes that each token stands for, in the same shape.
    """
    if len(losses) >= FEW_DOCUMENTS:
        return "documents", np.array([loss.sum(dtype=np.float64) for loss in losses]), np.array([*map(np.sum, sizes)])
    blocks = [np.cumsum(size) // BLOCK_BYTES for size in sizes]
    nats = [np.bincount(block, weights=loss) for block, loss in zip(blocks, losses, strict=True)]
    counts = [np.bincount(block, weights=size) for block, size in zip(blocks, sizes, strict=True)]
    return "blocks", np.concatenate(nats), np.concatenate(counts)


def ratio_interval(numerators: np.ndarray, denominators: np.ndarray, *, resamples: int, seed: int) -> Interval:
    """Σ numerators / Σ denominators over units (documents, blocks) drawn anew with replacement."""
    mean, units = float(numerators.sum() / denominators.sum()), len(numerators)
    if units < 2:
        return Interval(mean, None, None)
    draw = np.random.Generator(np.random.PCG64(seed))
    ratios = np.empty(resamples)
    for index in range(resamples):
        weight = np.bincount(draw.integers(units, size=units), minlength=units)
        ratios[index] = weight @ numerators / (weight @ denominators)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high))


def mean_interval(values: np.ndarray, *, resamples: int, seed: int) -> Interval:
    """The mean of independent values."""
    return ratio_interval(values, np.ones(len(values)), resamples=resamples, seed=seed)


def student_interval(values: Sequence[float]) -> Interval:
    """The mean of a few repetitions (seeds): m ± t · s / √n, t the quantile 0.975 of Student's distribution, n − 1 degrees."""
    from scipy.stats import t as student

    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    reach = float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return Interval(mean, mean - reach, mean + reach)

"""Extrapolation by a power law: exact points give the law back, and from noisy ones intervals come that hold."""

from __future__ import annotations

import numpy as np
import pytest

from treino.evaluation.learning_curve import extrapolate, proportional

SIZES = [64, 128, 256, 512, 1024]


def law(n: float) -> float:
    return 0.05 + 1.5 * n**-0.35


def deviations(errors: list[float], judged: int) -> list[float]:
    return [(error * (1 - error) / judged) ** 0.5 for error in errors]


def test_points_of_a_law_give_it_back() -> None:
    errors = [law(n) for n in SIZES]
    found = extrapolate(SIZES, errors, deviations(errors, 10**7), 4096, judged=10**7, judged_then=10**7, seed=1)
    assert found.mean == pytest.approx(law(4096), abs=0.01)
    assert found.low < law(4096) < found.high


def test_the_interval_holds_nineteen_times_in_twenty_and_is_not_empty_talk() -> None:
    draw = np.random.default_rng(5)
    held, widths, truth = 0, [], law(2048)
    for seed in range(40):
        rows = draw.random(400)  # the same rows judge all sizes
        errors = [float((rows < law(n)).mean()) for n in SIZES]
        found = extrapolate(SIZES, errors, deviations(errors, 400), 2048, judged=400, judged_then=1000, seed=seed)
        held += found.low <= draw.binomial(1000, truth) / 1000 <= found.high
        widths.append(found.high - found.low)
    assert held >= 36
    assert np.median(widths) < 0.2


def test_further_away_is_less_certain() -> None:
    errors = [law(n) for n in SIZES]
    near, far = (
        extrapolate(SIZES, errors, deviations(errors, 1000), at, judged=1000, judged_then=1000, seed=1)
        for at in (1024, 64 * 1024)
    )
    assert far.high - far.low > 1.5 * (near.high - near.low)


def test_seconds_grow_with_the_rows() -> None:
    found = proportional([100, 200, 400], [1.0, 2.1, 3.9], 1600)
    assert found.mean == pytest.approx(16, rel=0.05)
    assert found.low < 14 and found.high > 18

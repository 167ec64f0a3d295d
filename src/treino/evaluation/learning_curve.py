"""What a classifier would reach on more rows than it was tried on, by a power law, with an interval that says how little is
known.

error(n) = c + a · n^(−b): Hestness et al. 2017 (1712.00409) found that form over many tasks, with b from .07 to .5. It is a
guess beyond the sizes that were tried: a task that is understood all at once, or not at all, does not follow it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SLOPES = np.geomspace(0.05, 1.5, 24)
"""Values of b that are tried."""

USUAL_SLOPE, SLOPE_SPREAD = 0.35, 0.7
"""What is believed of b before the points are seen: its logarithm is normal around this, with this deviation."""

FLOORS = np.linspace(0.0, 1.0, 11)
"""Values of c that are tried, as shares of the smallest error."""

STRAY = 0.03
"""Deviation by which an error strays from its law for each doubling beyond the last size that was tried. An assumption, held
against full runs by `benchmarks/pilot.py`."""

RESAMPLES = 300


@dataclass(frozen=True)
class Extrapolated:
    """A figure with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def extrapolate(
    sizes: Sequence[float],
    errors: Sequence[float],
    deviations: Sequence[float],
    at: float,
    *,
    judged: int,
    judged_then: int,
    seed: int,
) -> Extrapolated:
    """What will be measured at `at` rows on `judged_then` others, from errors at smaller sizes, each with the deviation that
    its being measured on `judged` rows leaves.

    The interval is a parametric bootstrap: points drawn anew around the law by those deviations and what they scatter
    themselves, and the law fitted again. All points were judged on the same rows, so that no number of them makes up for which
    rows these are: one more deviation stands around the prediction, with that of the other rows, and `STRAY` for each doubling.
    """
    n, y = np.asarray(sizes, float), np.asarray(errors, float)[None]
    spread = np.maximum(np.asarray(deviations, float), 0.5 / judged)[None]
    fitted, values = _fit(n, y, spread, at)
    scatter = max(0.0, float(((y - values) ** 2).sum()) / max(1, len(n) - 2) - float((spread**2).mean()))
    draw = np.random.Generator(np.random.PCG64(seed))
    drawn = values + np.sqrt(spread**2 + scatter) * draw.standard_normal((RESAMPLES, len(n)))
    found, _ = _fit(n, np.clip(drawn, 0, 1), spread, at)
    mean, of_rows = float(fitted[0]), float(np.sqrt((spread**2).mean()))
    doublings = max(0.0, math.log2(at / n.max()))
    around = (of_rows, of_rows * math.sqrt(judged / judged_then), STRAY * doublings)
    found += draw.standard_normal(RESAMPLES) * math.hypot(*around)
    low, high = np.clip(np.quantile(found, [0.025, 0.975]), 0, 1)
    return Extrapolated(mean, float(min(low, mean)), float(max(high, mean)))


def _fit(n: np.ndarray, y: np.ndarray, spread: np.ndarray, at: float) -> tuple[np.ndarray, np.ndarray]:
    """For each row of errors (rows, sizes) the likeliest law: its value at `at`, and its values at the points."""
    weights = np.broadcast_to(spread**-2, y.shape)
    cost, then, values = np.full(len(y), np.inf), np.zeros(len(y)), y.copy()
    for b in SLOPES:
        shape = n**-b
        belief = ((math.log(b) - math.log(USUAL_SLOPE)) / SLOPE_SPREAD) ** 2
        for floor in (share * y.min(1, keepdims=True) for share in FLOORS):
            a = (weights * shape * (y - floor)).sum(1) / (weights * shape**2).sum(1)
            law = floor + np.maximum(a, 0)[:, None] * shape
            costs = (weights * (y - law) ** 2).sum(1) + belief
            better = costs < cost
            cost[better] = costs[better]
            then[better] = (floor[:, 0] + np.maximum(a, 0) * at**-b)[better]
            values[better] = law[better]
    return np.clip(then, 0, 1), np.clip(values, 0, 1)


def proportional(sizes: Sequence[float], amounts: Sequence[float], at: float) -> Extrapolated:
    """An amount (seconds) at `at` rows, of which the logarithm rises with that of the rows: about in proportion, as is believed
    beforehand (slope 1 ± .15), and at least 15 % off.
    """
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(amounts, float))
    target, middle = math.log(at), float(x.mean())
    prior, noise = 1 / 0.15**2, max(0.15, float(np.std(y - x, ddof=1)) if len(x) > 1 else 0.3) ** -2
    spread = float(((x - middle) ** 2).sum())
    slope = (prior + noise * float(((x - middle) * (y - y.mean())).sum())) / (prior + noise * spread)
    value = float(y.mean()) + slope * (target - middle)
    deviation = math.sqrt(1 / noise * (1 + 1 / len(x)) + (target - middle) ** 2 / (prior + noise * spread))
    return Extrapolated(math.exp(value), math.exp(value - 1.96 * deviation), math.exp(value + 1.96 * deviation))

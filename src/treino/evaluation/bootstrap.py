"""Percentile bootstrap (Efron 1979) of ratios of sums and of means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def ratio_interval(numerators: np.ndarray, denominators: np.ndarray, *, resamples: int, seed: int) -> Interval:
    """Σ numerators / Σ denominators over units (documents, blocks) drawn anew with replacement."""
    draw = np.random.Generator(np.random.PCG64(seed))
    units = len(numerators)
    ratios = np.empty(resamples)
    for index in range(resamples):
        weight = np.bincount(draw.integers(units, size=units), minlength=units)
        ratios[index] = weight @ numerators / (weight @ denominators)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(numerators.sum() / denominators.sum()), float(low), float(high))


def mean_interval(values: np.ndarray, *, resamples: int, seed: int) -> Interval:
    """The mean of independent values."""
    return ratio_interval(values, np.ones(len(values)), resamples=resamples, seed=seed)

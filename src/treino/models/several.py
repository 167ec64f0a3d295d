"""Answers of a classifier whose texts may have several classes or none: each class has a probability, and a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

HALF = 0.5
"""The threshold where nothing chooses another."""

NO_ANSWER = -1.0
"""In place of probabilities: the classes were asked for, and what came back names none that could be counted."""


def named(chances: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Which classes each text has, (texts, classes) of truth values: those whose probability reaches their threshold."""
    return chances >= np.asarray(thresholds)


def best_thresholds(truth: np.ndarray, chances: np.ndarray) -> list[float]:
    """For each class the threshold with the highest F1 = 2TP / (2TP + FP + FN) on these texts; of equals that nearest to ½.

    A threshold lies half-way between two probabilities that occur. Where a class never occurs, ½. Texts without an answer
    (NaN) are left out.
    """
    judged = ~np.isnan(chances).any(1)
    return [_best(truth[judged, column], chances[judged, column]) for column in range(chances.shape[1])]


def _best(truth: np.ndarray, chances: np.ndarray) -> float:
    if not truth.any():
        return HALF
    order = np.argsort(-chances, kind="stable")
    sorted_chances, right = chances[order], np.cumsum(truth[order])
    said = np.arange(1, len(order) + 1)
    f1 = 2 * right / (said + truth.sum())
    below = np.append(sorted_chances[1:], 0.0)
    cuts = np.flatnonzero(sorted_chances > below)  # behind the last of equal probabilities
    if not len(cuts):
        return HALF
    thresholds = (sorted_chances[cuts] + below[cuts]) / 2
    best = f1[cuts] >= f1[cuts].max() - 1e-12
    return float(min(thresholds[best], key=lambda value: abs(value - HALF)))

"""How well a classifier does: accuracy, macro-F1, figures by class, confusion and calibration, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 10
CONFIDENCE = 1.959964
"""Deviations of the normal distribution that enclose 95 %."""

SMALLEST = 1e-12
"""A probability of 0 for the true class counts as this in the log loss."""


def measure(
    targets: Sequence[int], probabilities: np.ndarray, labels: Sequence[str], *, resamples: int = 1000, seed: int = 1
) -> dict[str, Any]:
    """All measures of probabilities (rows, classes) against the true classes; rows of NaN are left out and counted. A row of
    zeros is no answer, and wrong: it misses its class, and is held against no other.

    accuracy: share of right rows, with Wilson's 95 % interval. macro_f1: mean of F1 = 2TP / (2TP + FP + FN) over the
    classes that occur as truth or as answer, with an interval by bootstrap over rows. log_loss: mean −ln p(truth).
    calibration_error: of the likeliest class's probability.
    """
    judged = ~np.isnan(probabilities).any(1)
    truth, chances = np.asarray(targets)[judged], probabilities[judged]
    classes = len(labels)
    answers = np.where(chances.any(1), chances.argmax(1), classes)
    confusion = np.zeros((classes, classes + 1), np.int64)  # the last column: no answer
    np.add.at(confusion, (truth, answers), 1)
    rows = int(judged.sum())
    if not rows:
        return {"rows": 0, "unjudged": int((~judged).sum())}
    # Rows are independent, so drawing rows with replacement is drawing the cells of the confusion matrix.
    draws = np.random.default_rng(seed).multinomial(rows, confusion.ravel() / rows, size=resamples)
    drawn, counts = (_counts(cells.reshape(-1, classes, classes + 1)) for cells in (draws, confusion))
    drawn_by_class, by_class = f1(drawn), f1(counts)[0]
    bins = reliability(chances.max(1), truth == answers)
    return {
        "rows": rows,
        "unjudged": int((~judged).sum()),
        "accuracy": {"mean": float((truth == answers).mean())} | wilson(int((truth == answers).sum()), rows),
        "macro_f1": interval(float(np.nanmean(by_class)), np.nanmean(drawn_by_class, 1)),
        "log_loss": float(-np.log(np.maximum(chances[np.arange(rows), truth], SMALLEST)).mean()),
        "calibration_error": calibration_error(bins),
        "reliability": bins,
        "by_class": figures_by_class(labels, counts[0], by_class, drawn_by_class),
        "confusion": confusion[:, :classes].tolist(),
    } | ({"unanswered": int(confusion[:, classes].sum())} if confusion[:, classes].any() else {})


def _counts(confusion: np.ndarray) -> np.ndarray:
    """The counts (draws, [TP, FP, FN], classes) of confusion matrices (draws, truth, answer); an answer more is none."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    return np.stack([right, confusion.sum(1)[:, : right.shape[1]] - right, confusion.sum(2) - right], 1)


def f1(counts: np.ndarray) -> np.ndarray:
    """F1 = 2TP / (2TP + FP + FN) (draws, classes) of counts (draws, [TP, FP, FN], classes); NaN for a class that neither
    occurs nor is said.
    """
    right, wrong, missed = (counts[:, place].astype(float) for place in range(3))
    total = 2 * right + wrong + missed
    return np.divide(2 * right, total, out=np.full_like(right, np.nan), where=total > 0)


def figures_by_class(
    labels: Sequence[str], counts: np.ndarray, by_class: np.ndarray, drawn: np.ndarray
) -> list[dict[str, Any]]:
    """Rows, precision TP / (TP + FP), recall TP / (TP + FN) and F1 of each class, from counts ([TP, FP, FN], classes), `f1` of
    them and of what was drawn; None where the figure is undefined.
    """
    return [
        {
            "label": label,
            "rows": int(right + missed),
            "precision": float(right / (right + wrong)) if right + wrong else None,
            "recall": float(right / (right + missed)) if right + missed else None,
            "f1": None if math.isnan(mean) else interval(float(mean), draws),
        }
        for label, (right, wrong, missed), mean, draws in zip(labels, counts.T, by_class, drawn.T, strict=True)
    ]


def wilson(right: int, rows: int) -> dict[str, float]:
    """The 95 % interval of a share (Wilson 1927): (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)."""
    share, z = right / rows, CONFIDENCE
    middle = share + z * z / (2 * rows)
    reach = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return {"low": max(0.0, (middle - reach) / scale), "high": min(1.0, (middle + reach) / scale)}


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """Rows, mean confidence and share that is right, in ten bins of the confidence; empty bins are left out."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    insides = (place == number for number in range(BINS))
    return [
        {"rows": int(it.sum()), "confidence": float(confidence[it].mean()), "accuracy": float(right[it].mean())}
        for it in insides
        if it.any()
    ]


def calibration_error(bins: Sequence[dict[str, float]]) -> float:
    """Σ_bins share of the rows · |accuracy − confidence| of `reliability`'s ten bins of equal width (Naeini et al. 2015)."""
    return sum(item["rows"] * abs(item["accuracy"] - item["confidence"]) for item in bins) / sum(
        item["rows"] for item in bins
    )


def figure(measures: dict[str, Any], name: str, label: str = "") -> float:
    """One figure by the name that a gate uses: "accuracy", "log_loss", or, of a class, "f1"; NaN where it is undefined."""
    if label:
        row = next(item for item in measures["by_class"] if item["label"] == label)
        value = row[name]
    else:
        # Where every text has one class and one answer, micro-F1 is the accuracy.
        value = measures["accuracy" if name == "micro_f1" and name not in measures else name]
    value = value["mean"] if isinstance(value, dict) else value
    return math.nan if value is None else float(value)


def interval(mean: float, draws: np.ndarray) -> dict[str, float]:
    """A figure with the 2.5 and 97.5 percent points of what was drawn."""
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, (0.025, 0.975)) if len(draws) else (mean, mean)
    return {"mean": mean, "low": float(low), "high": float(high)}

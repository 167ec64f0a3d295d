"""How well texts with several classes are classified; and what stands beside: shares, and TF-IDF one class against the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treino.evaluation.baselines import ANALYSERS, STRENGTHS, UNTUNED, Shares, fit_vectors
from treino.evaluation.measures import (
    SMALLEST,
    calibration_error,
    f1,
    figures_by_class,
    interval,
    reliability,
    wilson,
)
from treino.models.several import named


def measure_several(
    targets: np.ndarray,
    chances: np.ndarray,
    labels: Sequence[str],
    thresholds: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 1,
) -> dict[str, Any]:
    """All measures of probabilities (rows, classes) against the true classes, zeros and ones of the same shape; rows of NaN
    are left out and counted. A row of `NO_ANSWER` is wrong, though its text have no class: it misses its classes, and is held
    against no other.

    accuracy: share of rows with exactly the right classes (subset accuracy), with Wilson's 95 % interval. F1 = 2TP / (2TP +
    FP + FN): micro_f1 with the counts of all classes together, macro_f1 the mean over the classes that occur as truth or as
    answer, both with intervals by bootstrap over rows. log_loss: mean binary cross-entropy over rows and classes.
    calibration_error: of the probability of every class, against the share that has it.
    """
    judged = ~np.isnan(chances).any(1)
    truth, chances = np.asarray(targets, bool)[judged], chances[judged]
    rows, unjudged = len(truth), int((~judged).sum())
    if not rows:
        return {"rows": 0, "unjudged": unjudged}
    said, silent = named(chances, thresholds), (chances < 0).any(1)
    chances = np.maximum(chances, 0.0)
    counts = _counts(truth, said)
    drawn = _drawn(truth, said, resamples, seed)
    by_class, drawn_by_class = f1(counts[None])[0], f1(drawn)
    micro, drawn_micro = f1(counts[None].sum(2, keepdims=True))[0, 0], f1(drawn.sum(2, keepdims=True))[:, 0]
    exact = int(((truth == said).all(1) & ~silent).sum())
    bins = reliability(chances.ravel(), truth.ravel())
    return {
        "several": True,
        "rows": rows,
        "unjudged": unjudged,
        "thresholds": [float(value) for value in thresholds],
        "accuracy": {"mean": exact / rows} | wilson(exact, rows),
        "macro_f1": interval(_mean(by_class[None])[0], _mean(drawn_by_class)),
        "micro_f1": interval(float(np.nan_to_num(micro)), drawn_micro),
        "log_loss": cross_entropy(truth, chances),
        "calibration_error": calibration_error(bins),
        "reliability": bins,
        "by_class": figures_by_class(labels, counts, by_class, drawn_by_class),
    } | ({"unanswered": int(silent.sum())} if silent.any() else {})


def cross_entropy(truth: np.ndarray, chances: np.ndarray) -> float:
    """−[y ln p + (1 − y) ln(1 − p)], the mean over rows and classes."""
    chances = np.clip(chances, SMALLEST, 1 - SMALLEST)
    return float(-np.where(truth, np.log(chances), np.log1p(-chances)).mean())


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the classes that have a figure; 0 where none has."""
    there = ~np.isnan(values)
    return np.nansum(values, 1) / np.maximum(1, there.sum(1))


def _counts(truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    """[TP, FP, FN] by class."""
    return np.stack([(truth & said).sum(0), (~truth & said).sum(0), (truth & ~said).sum(0)])


def _drawn(truth: np.ndarray, said: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The counts (draws, 3, classes) of rows drawn with replacement. Rows are independent, so drawing rows is drawing how often
    each pattern of truth and answer comes.
    """
    patterns, often = np.unique(np.hstack([truth, said]), axis=0, return_counts=True)
    there, told = np.hsplit(patterns, 2)
    each = np.stack([there & told, ~there & told, there & ~told], 1).reshape(len(patterns), -1)
    draws = np.random.default_rng(seed).multinomial(len(truth), often / len(truth), size=resamples)
    return (draws @ each.astype(np.int64)).reshape(resamples, 3, truth.shape[1])


@dataclass(frozen=True)
class OneAgainstRest:
    """For each class a logistic regression of its own on the same sublinear TF-IDF weights; a class that all or no training
    rows have gets that as its probability.
    """

    analyser: str
    strength: float
    vectors: Any
    regressions: tuple[Any, ...]

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        weights = self.vectors.transform(texts)
        columns = [
            np.full(len(texts), one) if isinstance(one, float) else one.predict_proba(weights)[:, 1]
            for one in self.regressions
        ]
        return np.stack(columns, 1)

    def settings(self) -> dict[str, Any]:
        """What was chosen."""
        return {"analyser": self.analyser, "strength": self.strength}


def fit_shares(targets: np.ndarray) -> Shares:
    """The shares of the classes."""
    return Shares(np.asarray(targets, float).mean(0))


def fit_one_against_rest(
    texts: Sequence[str], targets: np.ndarray, validation: Sequence[str], truth: np.ndarray, *, balanced: bool = False
) -> OneAgainstRest:
    """As `treino.evaluation.baselines.fit_tfidf`: the analyser and the strength with the lowest mean binary cross-entropy on
    validation, the same for all classes.
    """
    fitted = {analyser: fit_vectors(texts, analyser) for analyser in (ANALYSERS if len(validation) else UNTUNED[:1])}

    def fit(analyser: str, strength: float) -> OneAgainstRest:
        vectors, weights = fitted[analyser]
        regressions = tuple(_regression(weights, column, strength, balanced) for column in np.asarray(targets).T)
        return OneAgainstRest(analyser, strength, vectors, regressions)

    if not len(validation):
        return fit(*UNTUNED)
    made = [fit(analyser, strength) for analyser in ANALYSERS for strength in STRENGTHS]
    return min(made, key=lambda one: cross_entropy(np.asarray(truth, bool), one.predict(validation)))


def _regression(weights: Any, column: np.ndarray, strength: float, balanced: bool) -> Any:
    from sklearn.linear_model import LogisticRegression

    if column.min() == column.max():
        return float(column[0])
    rule = "balanced" if balanced else None
    return LogisticRegression(C=strength, max_iter=1000, class_weight=rule).fit(weights, column)

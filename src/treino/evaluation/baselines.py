"""What stands beside every classifier: the commonest class, and logistic regression on TF-IDF weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from treino.evaluation.measures import SMALLEST

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""C of the logistic regression, the inverse of its L2 penalty, of which validation chooses one."""

ANALYSERS: dict[str, dict[str, Any]] = {
    "words": {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 5)},
}
"""What is counted: words and pairs of them, or runs of two to five characters within words."""

UNTUNED = ("words", 10.0)
"""Without validation rows to choose by."""


class Baseline(Protocol):
    """A fitted baseline."""

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (texts, classes)."""
        ...


@dataclass(frozen=True)
class Shares:
    """Every text gets the shares of the classes among the training rows; so the likeliest is always the commonest class."""

    shares: np.ndarray

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        return np.tile(self.shares, (len(texts), 1))


@dataclass(frozen=True)
class Tfidf:
    """L2-regularised logistic regression on sublinear TF-IDF weights."""

    analyser: str
    strength: float
    vectors: Any
    regression: Any
    classes: int

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        chances = np.zeros((len(texts), self.classes))
        chances[:, self.regression.classes_] = self.regression.predict_proba(self.vectors.transform(texts))
        return chances

    def settings(self) -> dict[str, Any]:
        """What was chosen."""
        return {"analyser": self.analyser, "strength": self.strength}


def fit_majority(targets: Sequence[int], classes: int) -> Shares:
    """The shares of the classes."""
    return Shares(np.bincount(targets, minlength=classes) / len(targets))


def fit_tfidf(
    texts: Sequence[str],
    targets: Sequence[int],
    validation: Sequence[str],
    validation_targets: Sequence[int],
    classes: int,
    *,
    balanced: bool = False,
) -> Tfidf:
    """Fit every combination of `ANALYSERS` and `STRENGTHS` and keep the one with the lowest log loss on validation (the
    first of equals); without validation rows, `UNTUNED`. `balanced`: every class weighs the same, in both.
    """
    if not len(validation):
        return _fit(texts, targets, *UNTUNED, classes, balanced)
    best, lowest = None, math.inf
    truth = np.asarray(validation_targets)
    counts = np.bincount(truth, minlength=classes)
    weights = 1 / counts[truth] if balanced else np.ones(len(truth))
    for analyser in ANALYSERS:
        for strength in STRENGTHS:
            fitted = _fit(texts, targets, analyser, strength, classes, balanced)
            chances = fitted.predict(validation)[np.arange(len(truth)), truth]
            loss = float(np.average(-np.log(np.maximum(chances, SMALLEST)), weights=weights))
            if loss < lowest:
                best, lowest = fitted, loss
    assert best is not None
    return best


def _fit(
    texts: Sequence[str], targets: Sequence[int], analyser: str, strength: float, classes: int, balanced: bool
) -> Tfidf:
    from sklearn.linear_model import LogisticRegression

    vectors, weights = fit_vectors(texts, analyser)
    rule = "balanced" if balanced else None
    regression = LogisticRegression(C=strength, max_iter=1000, class_weight=rule).fit(weights, targets)
    return Tfidf(analyser, strength, vectors, regression, classes)


def fit_vectors(texts: Sequence[str], analyser: str) -> tuple[Any, Any]:
    """The sublinear TF-IDF weights of texts, and what makes them of others."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(sublinear_tf=True, **ANALYSERS[analyser])
    try:
        return vectors, vectors.fit_transform(texts)
    except ValueError:  # not one word in all the texts
        vectors = TfidfVectorizer(sublinear_tf=True, analyzer="char")
        return vectors, vectors.fit_transform(texts)

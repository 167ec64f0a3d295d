"""A small linear model over words and pairs of words: logistic regression with few weights, trained from labelled rows.

p(toxic | sentence) = 1 / (1 + exp(−(b + Σ w[feature]))) over the distinct features of the sentence: its words, its pairs of
neighbours, and the weight of the terms on the list. The L1 penalty leaves a few hundred weights, which a person can read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from treino import files

WANTED_PRECISION = 0.9
"""Share of the sentences called toxic that are to be so: the threshold is the lowest that has it on rows not learnt from."""

FOLDS, FEWEST_TIMES = 5, 3
"""Parts of the rows that are left out in turn; rows that a feature must occur in."""

_TERMS = "#terms"
"""Feature that says that the terms alone would call the sentence toxic; no word begins with the sign."""


@dataclass(frozen=True)
class LinearModel:
    """Weights by feature, the constant, and the probability from which a sentence counts as toxic."""

    weights: dict[str, float]
    bias: float
    threshold: float

    def probability(self, words: Sequence[str], weight: float) -> float:
        """p(toxic) of a sentence by its words in small letters and the weight of its terms."""
        score = self.bias + sum(self.weights.get(feature, 0.0) for feature in features(words, weight))
        return 1 / (1 + math.exp(-min(max(score, -60.0), 60.0)))

    def is_positive(self, words: Sequence[str], weight: float) -> bool:
        """Whether the sentence counts as toxic."""
        return self.probability(words, weight) >= self.threshold


def features(words: Sequence[str], weight: float) -> set[str]:
    """Distinct words, pairs of neighbours, and the sign of the terms."""
    found = set(words) | {f"{one} {two}" for one, two in pairwise(words)}
    return found | {_TERMS} if weight >= 1 else found


def train(
    rows: Sequence[set[str]], toxic: Sequence[bool], strength: float = 1.0
) -> tuple[LinearModel, dict[str, float]]:
    """A model from the features of sentences and their labels; and what it reached on rows that it had not seen.

    The threshold comes from `FOLDS`-fold predictions, each by a model without that row: the lowest probability from which on
    at least `WANTED_PRECISION` of the rows are toxic.
    """
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    vectoriser = DictVectorizer()
    table: Any = vectoriser.fit_transform([dict.fromkeys(sorted(row), 1.0) for row in rows])
    labels = np.asarray(toxic, bool)
    common = np.flatnonzero(np.asarray(table.sum(0)).ravel() >= FEWEST_TIMES)
    table = table[:, common]
    names = vectoriser.get_feature_names_out()[common]
    classifier = LogisticRegression(solver="liblinear", l1_ratio=1, C=strength, random_state=0)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    guesses: Any = cross_val_predict(classifier, table, labels, cv=folds, method="predict_proba")
    unseen = guesses[:, 1]
    threshold = _threshold(unseen, labels)
    classifier.fit(table, labels)
    learnt: Any = classifier.coef_
    constant: Any = classifier.intercept_
    weights = {str(name): float(value) for name, value in zip(names, learnt[0], strict=True) if value}
    called = unseen >= threshold
    reached = {
        "precision": float(labels[called].mean()) if called.any() else 0.0,
        "recall": float(called[labels].mean()),
        "rows": len(labels),
        "toxic_rows": int(labels.sum()),
        "weights": len(weights),
        "threshold": threshold,
    }
    return LinearModel(weights, float(constant[0]), threshold), reached


def _threshold(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The lowest probability p such that of the rows with p or more at least `WANTED_PRECISION` are toxic; else the top one."""
    order = np.argsort(-probabilities, kind="stable")
    precision = np.cumsum(labels[order]) / np.arange(1, len(order) + 1)
    last_of_equals = np.append(np.diff(probabilities[order]) != 0, True)
    good = np.flatnonzero((precision >= WANTED_PRECISION) & last_of_equals)
    return float(probabilities[order][good[-1] if len(good) else 0])


def save_model(model: LinearModel, path: Path) -> None:
    """Write a model as JSON that a person can read."""
    weights = dict(sorted(model.weights.items(), key=lambda item: -item[1]))
    files.write_json(path, {"threshold": model.threshold, "bias": model.bias, "weights": weights})


@lru_cache(maxsize=2)
def load_model(path: Path) -> LinearModel:
    """A model from its file, read once a process."""
    return LinearModel(**files.read_json(path))

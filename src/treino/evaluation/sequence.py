"""What a body still can of each lesson after each phase of a sequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from treino.evaluation.forgetting import with_original_head
from treino.evaluation.loss import mean_loss
from treino.models.base import LanguageModel
from treino.models.build import copy_of
from treino.models.classifier import Classifier, features, predict
from treino.tokens.labelled import Pieces
from treino.tokens.tokenizer import Tokenizer
from treino.training.sequence import Learnt, Lesson


def accuracy(classifier: Classifier, pieces: Pieces) -> float:
    """Share of the texts whose likeliest class is theirs; a text that was dropped as too long counts as missed."""
    chances = predict(classifier, pieces)
    judged = ~np.isnan(chances).any(1)
    right = chances[judged].argmax(1) == pieces.text_targets[judged]
    return float(right.sum()) / pieces.count


def judged(learnt: Learnt, lessons: Sequence[Lesson], number: int, part: str = "test") -> float:
    """The accuracy on one lesson, NaN where its head is not there yet."""
    lesson = lessons[number]
    return accuracy(learnt.classifier(number, lesson), lesson.pieces[part]) if number in learnt.heads else float("nan")


def row_of(learnt: Learnt, lessons: Sequence[Lesson], part: str = "test") -> list[float]:
    """A row of R: the accuracy on each lesson, NaN for those whose head is not there yet."""
    return [judged(learnt, lessons, number, part) for number in range(len(lessons))]


def probe(body: LanguageModel, lesson: Lesson, part: str = "test") -> float:
    """Accuracy of logistic regression on the body as it is: what it offers to a lesson before it has seen it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    classifier = Classifier(copy_of(body, dropout=0.0), lesson.labels)
    learnt, judged = (features(classifier, lesson.pieces[name]).numpy() for name in ("training", part))
    scale = StandardScaler().fit(learnt)
    fitted = LogisticRegression(max_iter=500).fit(scale.transform(learnt), lesson.pieces["training"].targets)
    return float(fitted.score(scale.transform(judged), lesson.pieces[part].targets))


def language_loss(
    body: LanguageModel, base: LanguageModel, documents: Sequence[np.ndarray], tokenizer: Tokenizer
) -> float:
    """Loss of the next token (nats) on the base model's held-out documents, spoken through the base model's head."""
    return mean_loss(with_original_head(body, base), documents, tokenizer)

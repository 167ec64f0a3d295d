"""Measures against scikit-learn and against closed forms; baselines against what they must do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from treino.evaluation.baselines import UNTUNED, fit_majority, fit_tfidf
from treino.evaluation.measures import figure, measure, reliability, wilson

LABELS = ("a", "b", "c", "d")


def drawn(rows: int, seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    chances = draw.dirichlet(np.full(classes, 0.6), rows)
    return draw.integers(0, classes, rows), chances


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 200), seed=st.integers(0, 10_000))
def test_figures_are_those_of_scikit_learn(rows: int, seed: int) -> None:
    truth, chances = drawn(rows, seed)
    answers = chances.argmax(1)
    found = measure(truth.tolist(), chances, LABELS, resamples=10)
    assert found["accuracy"]["mean"] == pytest.approx(accuracy_score(truth, answers))
    seen = sorted(set(truth) | set(answers))
    assert found["macro_f1"]["mean"] == pytest.approx(f1_score(truth, answers, labels=seen, average="macro"))
    assert found["log_loss"] == pytest.approx(log_loss(truth, chances, labels=range(4)))
    assert found["confusion"] == confusion_matrix(truth, answers, labels=range(4)).tolist()
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, answers, labels=range(4), zero_division=np.nan
    )
    for number, row in enumerate(found["by_class"]):
        assert row["rows"] == support[number]
        for name, expected in (("precision", precision), ("recall", recall)):
            assert row[name] is None if math.isnan(expected[number]) else row[name] == pytest.approx(expected[number])
        if number in seen:
            assert row["f1"]["mean"] == pytest.approx(0.0 if math.isnan(f1[number]) else f1[number])
        else:
            assert row["f1"] is None


def test_the_bootstrap_by_document_covers_what_it_should() -> None:
    """Resampling the cells of the confusion matrix is resampling the documents: the same spread."""
    truth, chances = drawn(300, 3, classes=3)
    chances[np.arange(300), truth] += 0.6
    answers = chances.argmax(1)
    found = measure(truth.tolist(), chances, LABELS[:3], resamples=4000)["macro_f1"]
    draw = np.random.default_rng(9)
    direct = [f1_score(truth[rows], answers[rows], average="macro") for rows in draw.integers(0, 300, (1500, 300))]
    np.testing.assert_allclose([found["low"], found["high"]], np.quantile(direct, (0.025, 0.975)), atol=0.006)


def test_wilson_is_the_interval_of_the_score_test() -> None:
    """Its ends are the shares p for which the observed one lies z deviations √(p(1−p)/n) away."""
    for right, rows in ((0, 12), (3, 12), (12, 12), (470, 601)):
        for end in wilson(right, rows).values():
            if 0 < end < 1:
                assert abs(right / rows - end) / math.sqrt(end * (1 - end) / rows) == pytest.approx(1.959964, abs=1e-4)
    assert wilson(0, 12)["low"] == 0
    assert wilson(12, 12)["high"] == 1


def test_calibration_error_of_known_answers() -> None:
    """Eight answers at 0.85 of which four are right, two at 0.55 of which one is: 0.8·0.35 + 0.2·0.05."""
    chances = np.array([[0.85, 0.15]] * 8 + [[0.55, 0.45]] * 2)
    truth = [0, 0, 0, 0, 1, 1, 1, 1, 0, 1]
    assert measure(truth, chances, ("a", "b"), resamples=2)["calibration_error"] == pytest.approx(0.29)
    bins = reliability(chances.max(1), np.array(truth) == chances.argmax(1))
    assert [item["rows"] for item in bins] == [2, 8]


def test_rows_without_an_answer_are_left_out_and_counted() -> None:
    truth, chances = drawn(20, 1)
    chances[[3, 7]] = np.nan
    found = measure(truth.tolist(), chances, LABELS, resamples=5)
    kept = [row for row in range(20) if row not in (3, 7)]
    assert (found["rows"], found["unjudged"]) == (18, 2)
    expected = measure(truth[kept].tolist(), chances[kept], LABELS, resamples=5)
    assert found["accuracy"] == expected["accuracy"]


def test_a_gate_asks_for_figures_by_name() -> None:
    truth, chances = drawn(50, 2)
    found = measure(truth.tolist(), chances, LABELS, resamples=5)
    assert figure(found, "accuracy") == found["accuracy"]["mean"]
    assert figure(found, "recall", "b") == found["by_class"][1]["recall"]
    assert figure(found, "f1", "b") == found["by_class"][1]["f1"]["mean"]
    never = measure([0, 1], np.eye(4)[[0, 1]], LABELS, resamples=5)
    assert math.isnan(figure(never, "f1", "d"))


def test_the_majority_says_the_commonest_class() -> None:
    chances = fit_majority([2, 0, 2, 2], 4).predict(["x", "y"])
    np.testing.assert_allclose(chances, [[0.25, 0, 0.75, 0]] * 2)


def test_tfidf_learns_words_and_is_tuned_on_validation() -> None:
    good, bad = ["adorei o {}", "o {} foi ótimo"], ["detestei o {}", "o {} foi péssimo"]
    things = ["filme", "jogo", "jantar", "passeio", "livro", "dia"]
    texts = [text.format(thing) for thing in things for text in good + bad]
    targets = [1, 1, 0, 0] * len(things)
    fitted = fit_tfidf(texts[:16], targets[:16], texts[16:], targets[16:], 2)
    assert (fitted.predict(["adorei o show", "o show foi péssimo"]).argmax(1) == [1, 0]).all()
    assert fitted.strength > 0.1  # so strong a penalty has the highest loss here
    untuned = fit_tfidf(texts, targets, [], [], 2)
    assert (untuned.analyser, untuned.strength) == UNTUNED


def test_a_balanced_tfidf_says_the_rare_class_more_often() -> None:
    texts = [f"palavra {index % 7} aqui" for index in range(40)]
    targets = [1 if index % 8 == 0 else 0 for index in range(40)]
    plain, even = (fit_tfidf(texts, targets, [], [], 2, balanced=balanced).predict(texts) for balanced in (False, True))
    assert even[:, 1].mean() > plain[:, 1].mean() + 0.2
    assert fit_tfidf(texts, targets, texts, targets, 2, balanced=True).predict(texts)[:, 1].mean() > 0.3


def test_tfidf_without_a_word_or_a_class_still_answers() -> None:
    fitted = fit_tfidf(["!", "?", "!!"], [0, 2, 0], [], [], 3)
    chances = fitted.predict(["!", "..."])
    assert chances.shape == (2, 3)
    np.testing.assert_allclose(chances.sum(1), 1)
    assert (chances[:, 1] == 0).all()

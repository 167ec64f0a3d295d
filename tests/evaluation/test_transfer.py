"""Measures of learning task after task, by cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from treino.evaluation.transfer import average_accuracy, backward_transfer, forgetting, forward_transfer

R = np.array([[0.9, 0.4, 0.3], [0.7, 0.8, 0.5], [0.6, 0.85, 0.95]])
"""Three tasks in order: the first forgets twice, the second gains from the third."""


def test_a_sequence_in_order() -> None:
    learnt = [0, 1, 2]
    assert average_accuracy(R, learnt) == pytest.approx((0.6 + 0.85 + 0.95) / 3)
    assert backward_transfer(R, learnt) == pytest.approx(((0.6 - 0.9) + (0.85 - 0.8)) / 2)
    assert forgetting(R, learnt) == pytest.approx(((0.9 - 0.6) + (0.8 - 0.85)) / 2)
    assert forward_transfer(R, learnt, [0.1, 0.35, 0.2]) == pytest.approx(((0.4 - 0.35) + (0.5 - 0.2)) / 2)


def test_forgetting_counts_from_the_best_and_transfer_from_the_last() -> None:
    """A task that gained after its phase and lost again forgot more than its backward transfer says."""
    matrix = np.array([[0.5, 0.2, 0.2], [0.9, 0.8, 0.2], [0.6, 0.8, 0.7]])
    assert forgetting(matrix, [0, 1, 2]) == pytest.approx((0.3 + 0.0) / 2)
    assert backward_transfer(matrix, [0, 1, 2]) == pytest.approx((0.1 + 0.0) / 2)


def test_a_task_that_is_learnt_again() -> None:
    """A, B, A: B alone may be forgotten at the end; A was learnt in the last phase."""
    matrix = np.array([[0.9, np.nan], [0.5, 0.8], [0.95, 0.6]])
    assert average_accuracy(matrix, [0, 1, 0]) == pytest.approx((0.95 + 0.6) / 2)
    assert backward_transfer(matrix, [0, 1, 0]) == pytest.approx(-0.2)
    assert forgetting(matrix, [0, 1, 0]) == pytest.approx(0.2)


def test_one_task_has_nothing_to_lose() -> None:
    matrix = np.array([[0.9]])
    assert average_accuracy(matrix, [0]) == pytest.approx(0.9)
    assert backward_transfer(matrix, [0]) is None
    assert forgetting(matrix, [0]) is None
    assert forward_transfer(matrix, [0], [0.5]) is None

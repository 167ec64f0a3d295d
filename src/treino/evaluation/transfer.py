"""What a model that learns task after task keeps, gains and loses, from the matrix of its accuracies.

R[i, j] is the accuracy on task j after phase i, i = 0 … T − 1; NaN where it was not judged. `learnt[i]` is the task of phase i;
ℓ(j) is the last phase in which task j was learnt. Where each task is learnt once and in order, ℓ(j) = j, and these are the
measures of Lopez-Paz & Ranzato 2017 (1706.08840) and Chaudhry et al. 2018 (1801.10112).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Matrix = np.ndarray


def average_accuracy(accuracies: Matrix, learnt: Sequence[int]) -> float:
    """A = Σ_j R[T − 1, j] / number of tasks learnt, at the end of the sequence."""
    last = np.asarray(accuracies)[len(learnt) - 1]
    return float(np.mean([last[task] for task in _order(learnt)]))


def backward_transfer(accuracies: Matrix, learnt: Sequence[int]) -> float | None:
    """BWT = mean of R[T − 1, j] − R[ℓ(j), j] over the tasks with ℓ(j) < T − 1: what learning later ones did to earlier ones.

    None where there is no such task.
    """
    matrix, end = np.asarray(accuracies), len(learnt) - 1
    gains = [matrix[end, task] - matrix[last, task] for task, last in _last(learnt).items() if last < end]
    return float(np.mean(gains)) if gains else None


def forgetting(accuracies: Matrix, learnt: Sequence[int]) -> float | None:
    """F = mean of max_{i < T − 1} R[i, j] − R[T − 1, j] over the tasks with ℓ(j) < T − 1, the maximum from the first phase of
    j on: how far each is below its best. None where there is no such task.
    """
    matrix, end = np.asarray(accuracies), len(learnt) - 1
    lost = [
        np.max(matrix[list(learnt).index(task) : end, task]) - matrix[end, task]
        for task, last in _last(learnt).items()
        if last < end
    ]
    return float(np.mean(lost)) if lost else None


def forward_transfer(accuracies: Matrix, learnt: Sequence[int], before: Sequence[float]) -> float | None:
    """FWT = mean of R[f(j) − 1, j] − b_j over the tasks first learnt in a phase f(j) > 0: what earlier tasks do for one that
    comes later.

    Args:
        before: b_j, the accuracy on task j of the model that the sequence starts from. With a head for each task, both are
            those of a fresh head on the body as it is (a linear probe), for a head that was never trained says nothing.
    """
    matrix, order = np.asarray(accuracies), list(learnt)
    gains = [matrix[order.index(task) - 1, task] - before[task] for task in _order(learnt) if order.index(task)]
    return float(np.mean(gains)) if gains else None


def _order(learnt: Sequence[int]) -> list[int]:
    """The tasks, each once, in the order in which they were first learnt."""
    return list(dict.fromkeys(learnt))


def _last(learnt: Sequence[int]) -> dict[int, int]:
    return {task: phase for phase, task in enumerate(learnt)}

"""Cures for forgetting on scikit-learn's digits, in the protocol of van de Ven & Tolias 2019 (1904.07734).

    python benchmarks/digits.py [--seeds 10] [--json]

*Split* digits: five tasks of two digits each. *Permuted* digits: ten tasks of ten digits, each with the pixels in an order of
its own. Three scenarios: *task* (the task is told at the test, each has outputs of its own), *domain* (it is not told and need
not be: all tasks share outputs), *class* (it must be found out: one of all classes seen so far). A perceptron of two hidden
layers learns one task after the other by Treino's loop and is judged on all of them at the end.

Methods, all of them Treino's own (`treino.training.cures`): none; L2-SP and EWC, a penalty for each task before; LwF, the old
model's answers to the new images at temperature 2; replay of a tenth of the rows of each task before; joint, all tasks at once
for as many steps (the bound). The terms of LwF and replay weigh as many times as there are tasks before, as in the paper; the
strengths of L2-SP and EWC are chosen on validation rows with a seed that is not reported. Figures: mean accuracy over the tasks
(percent) with Student's 95 % interval over seeds, and the paired differences that the paper's order of methods is read from.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import copy
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from treino.evaluation.bootstrap import student_interval
from treino.tokens.labelled import ClassBatch
from treino.training.classification import Classification
from treino.training.cures import Anchored, Rehearsed, WithOldTasks, class_fisher
from treino.training.loop import train
from treino.training.objective import Penalty
from treino.training.plan import TrainingPlan
from treino.training.schedule import Schedule
from treino.training.task import Task

BATCH, RATE = 64, 1e-3
STEPS, WIDTHS = {"split": 120, "permuted": 60}, {"split": 100, "permuted": 400}
"""Steps of a task, and the width of both hidden layers: many permutations need room, as in the paper (400 and 1,000 there)."""
TEMPERATURE = 2.0
FISHER_ROWS = 200
KEPT = 0.1
"""Share of a task's rows that replay keeps."""

SHARES = {"training": 0.7, "validation": 0.1, "test": 0.2}
TASKS = {"split": 5, "permuted": 10}
SCENARIOS = ("task", "domain", "class")
METHODS = ("none", "l2_sp", "ewc", "lwf", "replay", "joint")
STRENGTHS = {"l2_sp": (0.0001, 0.001, 0.01, 0.1), "ewc": (1.0, 10.0, 100.0, 1000.0)}
CHOOSING_SEED = 1000
CLOSED = -1e9
"""Logit of an output that is not among the choices; finite, so that 0 · ln 0 is 0."""

PUBLISHED: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("split", "task"): (("ewc", "none"), ("lwf", "none"), ("replay", "none"), ("joint", "none")),
    ("split", "domain"): (("ewc", "none"), ("lwf", "ewc"), ("replay", "lwf"), ("joint", "replay")),
    ("split", "class"): (("lwf", "none"), ("lwf", "ewc"), ("replay", "lwf"), ("joint", "replay")),
    ("permuted", "task"): (("ewc", "none"), ("ewc", "lwf"), ("replay", "none"), ("joint", "ewc")),
    ("permuted", "domain"): (("ewc", "none"), ("ewc", "lwf"), ("replay", "none"), ("joint", "ewc")),
    ("permuted", "class"): (("ewc", "none"), ("ewc", "lwf"), ("replay", "ewc"), ("joint", "replay")),
}
"""Pairs (better, worse) of the paper's tables 4 and 5, its generative replay standing for ours."""

Rows = tuple[Tensor, Tensor]
"""Images (rows, 64) in [0, 1], and the digit's number within its task."""


class Perceptron(nn.Module):
    """64 → width → width → outputs, with ReLU; outputs that a row may not choose are closed."""

    def __init__(self, outputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
        )

    def forward(self, x: Tensor, choices: Tensor) -> Tensor:
        """Logits (rows, outputs); `choices` (rows, outputs), bool."""
        return self.layers(x).masked_fill(~choices, CLOSED)


@dataclass(frozen=True)
class Protocol:
    """What the outputs are in a scenario."""

    scenario: str
    tasks: int
    classes: int

    @property
    def outputs(self) -> int:
        return self.classes if self.scenario == "domain" else self.tasks * self.classes

    def first(self, task: int) -> int:
        """The output of a task's class 0."""
        return 0 if self.scenario == "domain" else task * self.classes

    def choices(self, task: int, seen: int) -> Tensor:
        """Which outputs a row of a task may choose when the tasks 0 to `seen` are known, (outputs,)."""
        first, last = self.first(task), self.first(task) + self.classes
        if self.scenario == "class":
            first, last = 0, (seen + 1) * self.classes
        open_ones = torch.zeros(self.outputs, dtype=torch.bool)
        open_ones[first:last] = True
        return open_ones

    def batch(self, rows: Rows, chosen: np.ndarray, task: int, seen: int) -> ClassBatch:
        """Some of a task's rows as the model reads them."""
        images, digits = rows[0][chosen], rows[1][chosen] + self.first(task)
        return ClassBatch((images, self.choices(task, seen).expand(len(chosen), -1)), digits)


class TaskRows:
    """Batches of one or several tasks' rows, drawn anew for each step: a function of (seed, step)."""

    def __init__(self, protocol: Protocol, rows: Sequence[tuple[int, Rows]], seen: int, seed: int) -> None:
        self.protocol, self.rows, self.seen, self.seed = protocol, rows, seen, seed

    def step(self, step: int) -> list[ClassBatch]:
        draw = np.random.default_rng([self.seed, self.seen, step])
        counts = np.bincount(draw.integers(len(self.rows), size=BATCH), minlength=len(self.rows))
        parts = [
            self.protocol.batch(rows, draw.integers(len(rows[1]), size=count), task, self.seen)
            for (task, rows), count in zip(self.rows, counts, strict=True)
            if count
        ]
        inputs = (torch.cat([part.inputs[0] for part in parts]), torch.cat([part.inputs[1] for part in parts]))
        return [ClassBatch(inputs, torch.cat([part.targets for part in parts]))]


class OldAnswers:
    """What the model answered to the new images before it learnt their task: once for each task, or (class) for all; the
    outputs of the new classes are among the choices then, and the old answers give them nothing.
    """

    def __init__(self, protocol: Protocol, old: Perceptron, task: int) -> None:
        self.old = old
        groups = range(task) if protocol.scenario == "task" else [task - 1]
        self.before = [protocol.choices(group, task - 1) for group in groups]
        self.now = [protocol.choices(group, task) for group in groups]

    def count(self, batch: ClassBatch) -> float:
        return float(len(batch.targets))

    def asked(self, batch: ClassBatch) -> Tensor:
        return self._answers(self.old, batch, self.before)

    def answers(self, model: nn.Module, batch: ClassBatch) -> Tensor:
        return self._answers(model, batch, self.now)

    def _answers(self, model: nn.Module, batch: ClassBatch, choices: Sequence[Tensor]) -> Tensor:
        logits = model.layers(batch.inputs[0]) / TEMPERATURE  # type: ignore[operator]
        return torch.cat([logits.masked_fill(~open_ones, CLOSED) for open_ones in choices])


@cache
def digits(protocol: str, seed: int) -> list[dict[str, Rows]]:
    """Each task's rows by part; the split, and the order of the pixels, follow from the seed."""
    from sklearn.datasets import load_digits

    images, numbers = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(numbers)
    draw = np.random.default_rng(seed)
    order, ends = draw.permutation(len(y)), np.cumsum([round(share * len(y)) for share in SHARES.values()])
    parts = dict(zip(SHARES, np.split(order, ends[:-1]), strict=True))
    tasks = []
    for task in range(TASKS[protocol]):
        pixels = torch.from_numpy(draw.permutation(64)) if protocol == "permuted" else torch.arange(64)
        of_task = {}
        for name, rows in parts.items():
            kept = rows if protocol == "permuted" else rows[np.isin(numbers[rows], (2 * task, 2 * task + 1))]
            of_task[name] = (x[kept][:, pixels], y[kept] - (0 if protocol == "permuted" else 2 * task))
        tasks.append(of_task)
    return tasks


def sequence(
    name: str, scenario: str, method: str, seed: int, strength: float = 0.0, part: str = "test", steps: int = 0
) -> float:
    """Learn all tasks by one method; mean accuracy over the tasks on the rows of a part."""
    tasks, classes = digits(name, seed), 2 if name == "split" else 10
    protocol = Protocol(scenario, len(tasks), classes)
    torch.manual_seed(seed)
    steps, model = steps or STEPS[name], Perceptron(protocol.outputs, WIDTHS[name])
    if method == "joint":
        every = [(task, rows["training"]) for task, rows in enumerate(tasks)]
        _train(Task(model, Classification(), TaskRows(protocol, every, len(tasks) - 1, seed)), len(tasks) * steps, seed)
        return _accuracy(model, protocol, tasks, part)
    penalties: list[Penalty] = []
    kept: list[tuple[int, Rows]] = []
    for number, rows in enumerate(tasks):
        training = rows["training"]
        objective: Any = Classification()
        source: Any = TaskRows(protocol, [(number, training)], number, seed)
        if number and method == "lwf":
            teacher = OldAnswers(protocol, copy.deepcopy(model).requires_grad_(False), number)
            groups = number if scenario == "task" else 1  # answers of each image
            weight = number * TEMPERATURE**2
            objective = WithOldTasks(objective, teachers=[teacher], distillation=weight / groups)
        if number and method == "replay":
            objective = WithOldTasks(objective, old=[Classification()], rehearsal=float(number))
            source = Rehearsed(source, TaskRows(protocol, kept, number, seed + 1))
        _train(Task(model, objective, source, penalties=tuple(penalties)), steps, seed * 100 + number)
        kept.append((number, tuple(item[: round(KEPT * len(item))] for item in training)))  # type: ignore[arg-type]
        if method in ("l2_sp", "ewc"):
            penalties.append(_anchor(model, protocol, training, number, method, strength, seed))
    return _accuracy(model, protocol, tasks, part)


def _anchor(
    model: Perceptron, protocol: Protocol, rows: Rows, task: int, method: str, strength: float, seed: int
) -> Penalty:
    if method == "l2_sp":
        return Anchored(model, strength)
    alone = (protocol.batch(rows, np.array([row]), task, task) for row in range(min(FISHER_ROWS, len(rows[1]))))
    return Anchored(model, strength, class_fisher(model, model, alone, "sampled", seed))


def _train(task: Task, steps: int, seed: int) -> None:
    plan = TrainingPlan(
        steps=steps,
        batch=BATCH,
        accumulation=1,
        schedule=Schedule(RATE, steps, kind="constant"),
        weight_decay=0.0,
        beta2=0.999,
        clip=0.0,
        precision="float32",
        seed=seed,
        log_every=steps,
        validate_every=steps,
        checkpoint_seconds=3600,
    )
    with tempfile.TemporaryDirectory(prefix="treino-digits-") as folder:
        train(task, plan, Path(folder))


@torch.no_grad()
def _accuracy(model: Perceptron, protocol: Protocol, tasks: Sequence[dict[str, Rows]], part: str) -> float:
    scores = []
    for number, rows in enumerate(tasks):
        batch = protocol.batch(rows[part], np.arange(len(rows[part][1])), number, len(tasks) - 1)
        scores.append(float((model(*batch.inputs).argmax(-1) == batch.targets).double().mean()))
    return statistics.mean(scores)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of Student's 95 % interval."""
    found = student_interval(values)
    return found.mean, found.mean - (found.low if found.low is not None else float("nan"))


def _one_thread() -> None:
    torch.set_num_threads(1)


def measure(seeds: int) -> dict[str, Any]:
    """All protocols, scenarios and methods: {accuracy: {protocol/scenario: {method: by seed}}, strengths, order}."""
    settings = [(name, scenario) for name in TASKS for scenario in SCENARIOS]
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(mp_context=spawn, initializer=_one_thread) as pool:
        tried = {
            (*setting, method, strength): pool.submit(sequence, *setting, method, CHOOSING_SEED, strength, "validation")
            for setting in settings
            for method, grid in STRENGTHS.items()
            for strength in grid
        }
        best = {
            (*setting, method): max(grid, key=lambda value: tried[(*setting, method, value)].result())
            for setting in settings
            for method, grid in STRENGTHS.items()
        }
        waiting = {
            (*setting, method): [
                pool.submit(sequence, *setting, method, seed, best.get((*setting, method), 0.0))
                for seed in range(1, seeds + 1)  # widths and steps were settled on seed 0
            ]
            for setting in settings
            for method in METHODS
        }
        found = {key: [100 * future.result() for future in futures] for key, futures in waiting.items()}
    accuracy = {f"{a}/{b}": {method: found[a, b, method] for method in METHODS} for a, b in settings}
    order = [_difference(found, setting, pair) for setting, pairs in PUBLISHED.items() for pair in pairs]
    return {
        "seeds": seeds,
        "accuracy": accuracy,
        "strengths": {"/".join(key): value for key, value in best.items()},
        "order": order,
    }


def _difference(found: dict[Any, list[float]], setting: tuple[str, str], pair: tuple[str, str]) -> dict[str, Any]:
    better, worse = (found[(*setting, method)] for method in pair)
    mean, reach = interval([a - b for a, b in zip(better, worse, strict=True)])
    seen = "yes" if mean - reach > 0 else "no" if mean + reach < 0 else "open"
    return {"setting": "/".join(setting), "pair": pair, "mean": mean, "reach": reach, "reproduced": seen}


def lines(found: dict[str, Any]) -> list[str]:
    """The result as two tables."""
    told = [f"{'':16}" + "".join(f"{method:>16}" for method in METHODS)]
    for setting, row in found["accuracy"].items():
        cells = ("{:.1f} ± {:.1f}".format(*interval(row[method])) for method in METHODS)
        told.append(f"{setting:16}" + "".join(f"{cell:>16}" for cell in cells))
    told.append("")
    for row in found["order"]:
        better, worse = row["pair"]
        told.append(
            f"{row['setting']:16} {better} over {worse}: {row['mean']:+.1f} ± {row['reach']:.1f}  {row['reproduced']}"
        )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="all figures, by seed")
    chosen = parser.parse_args()
    started = time.monotonic()
    found = measure(chosen.seeds) | {"seconds": time.monotonic() - started}
    print(json.dumps(found, indent=1) if chosen.json else "\n".join(lines(found)))


if __name__ == "__main__":
    main()

"""What of a pretraining's forecast is counted or tried on its own rows, and how a forecast is told."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from treino import events, files
from treino.planning.forecast import Forecast
from treino.tokens.packing import Batch
from treino.training.objective import NextToken
from treino.training.plan import TrainingPlan
from treino.training.source import RowSource
from treino.training.task import Task

SAVED_BYTES_PER_SECOND = 400e6
"""Of a checkpoint: what all processors copy, write and sum up in a second, beside the steps: 282 MB took 0.7 s (two Zen 5)."""

STEPS_COUNTED = 16
"""Of an epoch, where rows are of different lengths: by them the tokens of a step are known."""


def learnt(batches: Iterable[Batch]) -> float:
    """How many tokens of batches are learnt."""
    return sum(NextToken().counts(batch)["next_token"] for batch in batches)


def learnt_in_a_step(source: RowSource, steps_per_epoch: float) -> float:
    """The mean over some steps from all parts of an epoch."""
    chosen = {int(step) for step in np.linspace(0, max(0.0, steps_per_epoch - 1), STEPS_COUNTED)}
    return sum(learnt(source.step(step)) for step in sorted(chosen)) / len(chosen)


def seconds_of_looks(task: Task[Batch], plan: TrainingPlan, seconds: float, *, samples: bool) -> float:
    """What the looks should take: at validation forward passes alone, which are a third (.32 to .34 were measured) of what
    steps over as much take (`seconds`), and a sample, as long as one takes now.
    """
    begun = time.perf_counter()
    if task.sample and samples:
        training = task.model.training
        task.model.eval()
        task.sample()
        task.model.train(training)
    return (plan.steps // plan.validate_every + 1) * (seconds / 3 + time.perf_counter() - begun)


def store(expected: Forecast, path: Path) -> None:
    """Write a forecast once, before the first step, and tell it; a resumed run leaves it as it is."""
    if not path.exists():
        files.write_json(path, asdict(expected))
    events.emit("forecast", stage="pretrain", **files.read_json(path))

"""A few steps on throw-away weights: how fast a training is on this machine."""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import dataclass, replace

from treino.measure import keep_memory
from treino.training.plan import TrainingPlan
from treino.training.step import Stepper
from treino.training.task import Task


@dataclass(frozen=True)
class Speed:
    """Measured speed of a number format.

    Attributes:
        error: standard error of the seconds of a step.
        cold_seconds: the compiler's time, where the steps are compiled, which is what the first took beyond a warm one.
    """

    precision: str
    seconds_per_step: float
    tokens_per_second: float
    cold_seconds: float = 0.0
    error: float = 0.0


ENOUGH_SECONDS = 8.0
"""A calibration that has taken so long ends with the steps that it has, if there are three."""


def measure_speed(
    task: Task, plan: TrainingPlan, *, steps: int = 8, warm_up: int = 3, throw_away: bool = False
) -> Speed:
    """Median seconds of a whole step of a plan on a copy of the model; the model itself is left as it was, unless it may be
    thrown away.

    Of slow steps fewer are taken, and the first one alone is left out.
    """
    begun = time.perf_counter()
    trial = replace(task, model=(task.model if throw_away else copy.deepcopy(task.model)).train())
    take = Stepper(trial, plan)
    keep_memory()
    seconds, tokens = [], []
    for step in range(warm_up + steps):
        started = time.perf_counter()
        loss, learnt = take(step)
        loss.item()  # where a device works ahead, wait for it
        seconds.append(time.perf_counter() - started)
        tokens.append(learnt)
        if len(seconds) == 1 and plan.compile:
            begun = time.perf_counter()  # what the compiler took is no reason to measure less
        if len(seconds) >= 3 and time.perf_counter() - begun > ENOUGH_SECONDS:
            break
    warm = min(warm_up, len(seconds) - 2)
    median = statistics.median(seconds[warm:])
    cold = max(0.0, seconds[0] - median) if plan.compile else 0.0
    return Speed(plan.precision, median, statistics.mean(tokens[warm:]) / median, cold, _error(seconds[warm:]))


def _error(seconds: list[float]) -> float:
    """Standard error of the median, 1.253 · σ / √n for normal noise, with σ = 1.483 times the median deviation from it, which a
    single disturbed step does not move.
    """
    middle = statistics.median(seconds)
    deviation = 1.483 * statistics.median(abs(value - middle) for value in seconds)
    return 1.253 * deviation / len(seconds) ** 0.5

"""What is trained on what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from torch import nn

from treino.training.objective import B, Objective, Penalty
from treino.training.source import BatchSource


@dataclass(frozen=True)
class Task(Generic[B]):
    """The parts that differ between pretraining, classification, chat tuning and the rest.

    `sample` gives a text, `measure` figures beside the validation loss, at each look.
    """

    model: nn.Module
    objective: Objective[B]
    source: BatchSource[B]
    penalties: Sequence[Penalty] = ()
    validation: Sequence[B] = ()
    sample: Callable[[], dict[str, str]] | None = None
    measure: Callable[[], dict[str, float]] | None = None

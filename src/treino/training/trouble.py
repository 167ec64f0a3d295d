"""What is done about a loss that is not a number or leaps up.

The rule: a step whose loss or gradient is not finite is not taken, is told, and its batch is kept; three in a row end the
training. A loss that leaps by half of the mean before it, and by one at least, is told and its batch kept; its step stays as
it was taken, for the limit on the gradient's length (`clip`) already bounded it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from treino import events, files
from treino.errors import DataError
from treino.messages import N_
from treino.training.ranks import ALONE, Ranks
from treino.training.source import BatchSource

SKIPPED_IN_A_ROW = 3
LEAP_SHARE, LEAP = 0.5, 1.0
BATCHES_KEPT = 8


class NotFinite(DataError):
    """A training whose loss ran away."""


class Watch:
    """Looks at the losses of the steps when a line of progress is due."""

    def __init__(self, source: BatchSource[Any], rate: float, records: Path | None, ranks: Ranks = ALONE) -> None:
        self.source, self.rate, self.records = source, rate, records
        self.owner = f"-rank-{ranks.rank}" if ranks.size > 1 else ""
        self.in_a_row = 0

    def mean(self, losses: Sequence[float], step: int, before: float | None) -> float | None:
        """Mean of the losses of the steps up to `step` that were taken, None where none was; `before`: that of the line before.

        Raises:
            NotFinite: after three steps in a row that could not be taken, or where not even the first could.
        """
        first = step - len(losses)
        for place, loss in enumerate(losses):
            self.in_a_row = 0 if math.isfinite(loss) else self.in_a_row + 1
            if not math.isfinite(loss):
                events.emit("warning.step_skipped", step=first + place + 1, path=self._keep(first + place))
            elif before is not None and loss > before + max(LEAP, LEAP_SHARE * before):
                path = self._keep(first + place)
                events.emit("warning.loss_leapt", step=first + place + 1, path=path, loss=loss, before=before)
            if self.in_a_row >= SKIPPED_IN_A_ROW:
                break
        taken = [loss for loss in losses if math.isfinite(loss)]
        if self.in_a_row >= SKIPPED_IN_A_ROW or (before is None and not taken):
            raise self.lost(step)
        return sum(taken) / len(taken) if taken else None

    def lost(self, step: int) -> NotFinite:
        """The error of a training whose loss ran away."""
        return NotFinite(
            N_("the loss is no longer a number at step {step:raw}"),
            fix=N_("lower the learning rate (now {rate:6})"),
            step=step,
            rate=self.rate,
        )

    def _keep(self, index: int) -> str:
        """Write the tensors of this process's micro-batches of a step, which its number alone gives back; the file's path,
        if there is room.
        """
        if not self.records or len(list(self.records.glob(f"trouble-*{self.owner}.safetensors"))) >= BATCHES_KEPT:
            return ""
        tensors = {
            f"{number}.{field.name}": value.cpu().contiguous()
            for number, batch in enumerate(self.source.step(index))
            for field in fields(batch)
            if isinstance(value := getattr(batch, field.name), Tensor)
        }
        path = files.make_private(self.records) / f"trouble-step-{index + 1}{self.owner}.safetensors"
        files.write_bytes(path, save(tensors))
        return str(path)

"""Batch sources: the micro-batches of any step, from (seed, cursor) alone."""

from __future__ import annotations

from typing import Protocol, TypeVar

from treino.tokens.packing import Batch, Rows, make_batch

B_out = TypeVar("B_out")


class BatchSource(Protocol[B_out]):
    """Yields the micro-batches of a step. Asking twice gives the same: order is a function of seed and step."""

    def step(self, step: int) -> list[B_out]: ...


class RowSource:
    """Micro-batches of consecutive rows: step s holds rows s·b·a to (s+1)·b·a − 1 of the endless order of epochs.

    Args:
        rows: the order of rows by epoch (`treino.tokens.packing`).
        batch: b, rows of a micro-batch.
        accumulation: a, micro-batches of a step.
    """

    def __init__(self, rows: Rows, batch: int, accumulation: int = 1) -> None:
        self.rows, self.batch, self.accumulation = rows, batch, accumulation

    def step(self, step: int) -> list[Batch]:
        first = step * self.batch * self.accumulation
        return [
            make_batch(self.rows, [self.rows.locate(first + micro * self.batch + row) for row in range(self.batch)])
            for micro in range(self.accumulation)
        ]

"""Batch sources: the micro-batches of any step, from (seed, cursor) alone."""

from __future__ import annotations

from typing import Protocol, TypeVar

from treino.tokens.packing import Batch, Rows, make_batch
from treino.training.ranks import ALONE, Ranks, check_share, share

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
        ranks: with several processes, each has its share of the same b·a rows.

    Attributes:
        at_once: rows of a pass through the model: b, unless it is set to fewer because more do not fit into memory.

    Raises:
        UsageError: for more processes than rows.
    """

    def __init__(self, rows: Rows, batch: int, accumulation: int = 1, ranks: Ranks = ALONE) -> None:
        check_share(batch * accumulation, ranks.size)
        self.at_once = batch
        self.rows, self.batch, self.accumulation, self.ranks = rows, batch, accumulation, ranks

    def step(self, step: int) -> list[Batch]:
        count = self.batch * self.accumulation
        return [
            make_batch(self.rows, [self.rows.locate(step * count + row) for row in part])
            for part in share(count, self.at_once, self.ranks.rank, self.ranks.size)
        ]

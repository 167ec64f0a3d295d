"""A curriculum: rows of easy documents first, the pool growing as the training goes on, and chance inside the pool.

Bengio et al. 2009 (*Curriculum Learning*) add harder examples in steps; Platanios et al. 2019 (*Competence-based Curriculum
Learning for Neural Machine Translation*) let the share of the examples that may be read grow with the training. Both draw from
the pool with repetition. Here it is drawn without: over the training every row is read equally often, so a curriculum, its
reverse and its random control read the same tokens in another order.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from treino.tokens.packing import Row, Rows
from treino.tokens.shards import Shard

if TYPE_CHECKING:
    from treino.recipe import OrderSettings

ROWS_OF_BUCKET = 8
"""Rows that a bucket has at least: the last row of each is not full, and inside one there should be room for chance."""

Maker = Callable[[np.ndarray, int], Rows]
"""Rows of chosen documents, as the number so and so of several streams."""


def competence(settings: OrderSettings, progress: float) -> float:
    """Share of the tokens, easiest first, that may be read when the share `progress` of the training is over.

    linear: min(1, s + (1 − s) · progress / u); steps: the same with progress / u rounded down to one of n levels. s is
    `start`, u `until`, n `steps`.
    """
    way = min(1.0, progress / settings.until)
    if settings.pacing == "steps":
        way = int(way * settings.steps) / settings.steps
    return settings.start + (1 - settings.start) * way


def buckets(shard: Shard, settings: OrderSettings, context: int, seed: int) -> list[np.ndarray]:
    """Numbers of the documents in groups of about equal tokens, in the order in which the curriculum adds them."""
    assert shard.difficulty is not None
    rank = shard.difficulty
    if settings.direction == "hard_first":
        rank = -rank
    elif settings.direction == "random":
        rank = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(shard)]))).random(len(shard))
    order = np.argsort(rank, kind="stable")
    tokens = np.diff(shard.offsets)[order] * (1.0 if shard.repeats is None else shard.repeats[order])
    ends = np.cumsum(tokens)
    count = max(1, min(settings.buckets, int(ends[-1] // (ROWS_OF_BUCKET * context)))) if len(order) else 1
    middle = (ends - tokens / 2) / max(1.0, ends[-1]) if len(order) else ends
    groups = [np.sort(order[(middle * count).astype(int) == number]) for number in range(count)]
    return [group for group in groups if len(group)]


class CurriculumRows(Rows):
    """Rows of several buckets, each an endless order of its own, mixed as the pool grows.

    A training reads `total` rows; bucket b gives T_b of them, in proportion to its size. What is called an epoch here is the
    time from the joining of one bucket to that of the next: its rows come from the buckets of the pool in proportion to what
    each has left to give, in random order. After `total` rows all begins anew. Without a total, all are there from the start.
    """

    def __init__(self, sources: Sequence[Rows], settings: OrderSettings, seed: int, total: int | None = None) -> None:
        super().__init__(sources[0].shard, seed)
        self.sources, self.settings = sources, settings
        self.masks_documents, self.one_length = sources[0].masks_documents, sources[0].one_length
        sizes = [source.rows_in_epoch(0) for source in sources]
        self._due = sizes if total is None else apportion(total, sizes)
        self._joins = [0, *self._later_joins(total)] if total else [0] * len(sources)
        self._read: list[list[int]] = [[0] * len(sources)]

    def for_training(self, total: int) -> CurriculumRows:
        return CurriculumRows(self.sources, self.settings, self.seed, total)

    def _later_joins(self, total: int) -> list[int]:
        """Rows read when each bucket but the first joins: where the competence passes the share of those before it, and
        where they have nothing left at the latest.
        """
        rows, whole = range(total + 1), sum(self._due) or 1
        given = np.cumsum(self._due)[:-1].tolist()
        passes = [
            bisect.bisect_right(rows, before / whole, key=lambda row: competence(self.settings, row / total))
            for before in given
        ]
        return [min(*pair) for pair in zip(passes, given, strict=True)]

    def taken(self, number: int) -> list[tuple[int, int]]:
        """(first, last + 1) of the rows that a stretch takes of each bucket's order."""
        while len(self._read) <= number + 1:
            before = self._read[-1]
            self._read.append([one + more for one, more in zip(before, self._next(before), strict=True)])
        return list(zip(self._read[number], self._read[number + 1], strict=True))

    def _next(self, read: list[int]) -> list[int]:
        """Rows that the next stretch takes of each bucket."""
        whole = sum(self._due)
        if not whole:
            return [0] * len(read)
        round_, done = divmod(sum(read), whole)
        pool = bisect.bisect_right(self._joins, done)
        room = (self._joins[pool] if pool < len(self._joins) else whole) - done
        left = [
            due * (round_ + 1) - one if place < pool else 0
            for place, (due, one) in enumerate(zip(self._due, read, strict=True))
        ]
        return apportion(room, left)

    def rows_in_epoch(self, epoch: int) -> int:
        return sum(last - first for first, last in self.taken(epoch))

    def plan(self, epoch: int, draw: np.random.Generator) -> list[tuple[int, int]]:
        taken = self.taken(epoch)
        turns = draw.permutation(np.repeat(np.arange(len(taken)), [last - first for first, last in taken]))
        places = [first for first, _ in taken]
        rows = []
        for (
            bucket
        ) in turns.tolist():  # within a bucket in its own order, so that it is gone through one epoch after the other
            rows.append((bucket, places[bucket]))
            places[bucket] += 1
        return rows

    def build(self, planned: object) -> Row:
        assert isinstance(planned, tuple)
        bucket, cursor = planned
        return self.sources[bucket].row(*self.sources[bucket].locate(cursor))


def apportion(total: int, sizes: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to sizes that add up to the total (largest remainders, the first of equal ones)."""
    whole = sum(sizes)
    shares = [divmod(total * size, whole) for size in sizes] if whole else [(0, 0)] * len(sizes)
    missing = total - sum(share for share, _ in shares)
    raised = sorted(range(len(sizes)), key=lambda place: (-shares[place][1], place))[:missing]
    return [share + (place in raised) for place, (share, _) in enumerate(shares)]


def with_curriculum(shard: Shard, settings: OrderSettings, context: int, seed: int, make: Maker) -> CurriculumRows:
    """The rows of a shard whose documents have a difficulty, in the order of a curriculum; `make` packs a choice of them."""
    return CurriculumRows(
        [make(group, number) for number, group in enumerate(buckets(shard, settings, context, seed))], settings, seed
    )

"""From documents to rows of training: every order here is a function of (seed, epoch), and no token is lost or repeated.

A document t1 … tn gives the pairs (begin, t1), (t1, t2), …, (tn, end) of input and target; in tokenizers made here, begin
and end are one token. A row holds pairs.
"""

from __future__ import annotations

import bisect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from treino.tokens.shards import Shard

IGNORED = -100
"""Target of a place that does not count."""

PADDING = -1
"""Segment of a place that holds nothing."""

BUFFER = 4096
"""Pieces that are packed together: enough to fill rows well, few enough to pack in no time."""

REPEATS = 2**31 - 1
"""Stands for an epoch where the random numbers of `times` are made: no training has so many."""


@dataclass(frozen=True)
class Batch:
    """Rows as int64 tensors of one shape (rows, length): input ids, targets (`IGNORED` does not count), positions
    within the document, and the number of the document within its row (`PADDING` where there is none).
    """

    ids: Tensor
    targets: Tensor
    positions: Tensor
    segments: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The batch on another device."""
        ids, targets, positions = (moved(part, device) for part in (self.ids, self.targets, self.positions))
        return Batch(ids, targets, positions, None if self.segments is None else moved(self.segments, device))


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on another device. To a GPU of NVIDIA's it goes through pinned memory, so that the copy waits for nothing and
    the next batch is made meanwhile.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


Row = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Ids, targets, positions, segments of one row."""


class Rows(ABC):
    """All rows of an endless order of epochs. A cursor counts rows from the beginning of the first epoch.

    `chosen`: numbers of the documents that they are made of (None: all); `stream`: tells several such choices apart, so that
    each has random numbers of its own.
    """

    def __init__(self, shard: Shard, seed: int, chosen: np.ndarray | None = None, stream: int | None = None) -> None:
        self.shard, self.seed, self.chosen = shard, seed, chosen
        self._stream = () if stream is None else (stream,)
        self._epoch = -1
        self._starts = [0]

    @abstractmethod
    def plan(self, epoch: int, draw: np.random.Generator) -> Sequence[object]:
        """What the rows of an epoch hold, in order."""

    @abstractmethod
    def build(self, planned: object) -> Row:
        """The arrays of a planned row."""

    masks_documents = False
    """Whether rows hold several documents that must not see each other."""

    one_length = False
    """Whether rows are packed to one length, so that a step compiled once serves them all."""

    def for_training(self, total: int) -> Rows:
        """The rows of a training that reads so many of them."""
        return self

    def documents(self, epoch: int) -> np.ndarray:
        """Numbers of the documents of an epoch, each as often as it is to be read."""
        numbers = np.arange(len(self.shard)) if self.chosen is None else self.chosen
        if self.shard.repeats is None:
            return numbers
        return np.repeat(numbers, times(self.shard.repeats, epoch, self.seed)[numbers])

    def _planned(self, epoch: int) -> Sequence[object]:
        if epoch != self._epoch:
            draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch, *self._stream])))
            self._plan = self.plan(epoch, draw)
            self._epoch = epoch
        return self._plan

    def rows_in_epoch(self, epoch: int) -> int:
        """Number of rows of an epoch."""
        return len(self._planned(epoch))

    def row(self, epoch: int, index: int) -> Row:
        """A row's arrays."""
        return self.build(self._planned(epoch)[index])

    def locate(self, cursor: int) -> tuple[int, int]:
        """(epoch, index) of the row at a cursor."""
        while self._starts[-1] <= cursor:
            self._starts.append(self._starts[-1] + self.rows_in_epoch(len(self._starts) - 1))
        epoch = bisect.bisect_right(self._starts, cursor) - 1
        return epoch, cursor - self._starts[epoch]


@dataclass(frozen=True)
class Piece:
    """Pairs `first` to `last` − 1 of a document."""

    document: int
    first: int
    last: int


class PackedRows(Rows):
    """Documents side by side in rows of `context` pairs, packed best-fit; longer ones are cut, elsewhere in each epoch.

    With `isolate` each document is a segment of its own and its positions begin at 0; otherwise a row is one segment.
    """

    one_length = True

    def __init__(
        self,
        shard: Shard,
        context: int,
        seed: int,
        chosen: np.ndarray | None = None,
        stream: int | None = None,
        *,
        isolate: bool = True,
    ) -> None:
        super().__init__(shard, seed, chosen, stream)
        self.context, self.isolate = context, isolate
        self.masks_documents = isolate

    def plan(self, epoch: int, draw: np.random.Generator) -> list[list[Piece]]:
        pieces = cut(self.shard, self.documents(epoch), self.context, draw)
        rows: list[list[Piece]] = []
        for first in range(0, len(pieces), BUFFER):
            rows += best_fit(pieces[first : first + BUFFER], self.context)
        return [rows[index] for index in draw.permutation(len(rows))]

    def build(self, planned: object) -> Row:
        assert isinstance(planned, list)
        return _row(self.shard, planned, self.context, self.isolate)


class DocumentRows(Rows):
    """One document, or one window of a long one, a row; rows of like length stand together and are shuffled in groups."""

    GROUP = 64

    def __init__(
        self, shard: Shard, context: int, seed: int, chosen: np.ndarray | None = None, stream: int | None = None
    ) -> None:
        super().__init__(shard, seed, chosen, stream)
        self.context = context

    def plan(self, epoch: int, draw: np.random.Generator) -> list[list[Piece]]:
        pieces = cut(self.shard, self.documents(epoch), self.context, draw)
        rows: list[list[Piece]] = []
        for first in range(0, len(pieces), BUFFER):
            rows += [
                [piece] for piece in sorted(pieces[first : first + BUFFER], key=lambda item: item.last - item.first)
            ]
        groups = [rows[first : first + self.GROUP] for first in range(0, len(rows), self.GROUP)]
        return [row for index in draw.permutation(len(groups)) for row in groups[index]]

    def build(self, planned: object) -> Row:
        assert isinstance(planned, list)
        return _row(self.shard, planned, planned[0].last - planned[0].first, True)


class WordWindows(Rows):
    """The samples of a course: `window` tokens and the one that follows; only that one counts."""

    def __init__(
        self, shard: Shard, window: int, seed: int, chosen: np.ndarray | None = None, stream: int | None = None
    ) -> None:
        super().__init__(shard, seed, chosen, stream)
        self.window = window

    def plan(self, epoch: int, draw: np.random.Generator) -> list[tuple[int, int]]:
        starts = [
            (index, first)
            for index in self.documents(epoch).tolist()
            for first in range(len(self.shard.document(index)) - self.window)
        ]
        return [starts[index] for index in draw.permutation(len(starts))]

    def build(self, planned: object) -> Row:
        assert isinstance(planned, tuple)
        index, first = planned
        tokens = self.shard.document(index)[first : first + self.window + 1].astype(np.int64)
        targets = np.full(self.window, IGNORED, np.int64)
        targets[-1] = tokens[-1]
        return tokens[:-1], targets, np.arange(self.window), np.zeros(self.window, np.int64)


def times(repeats: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """How often an epoch reads each document: r = ⌊r⌋ + f times on average, so ⌊r⌋ + ⌊(e + 1)·f + u⌋ − ⌊e·f + u⌋ times in
    epoch e, with u in [0, 1) of the document's own. After any number of epochs a document is less than one reading off.
    """
    start = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, REPEATS]))).random(len(repeats))
    whole = np.floor(repeats)
    part = repeats - whole
    return (whole + np.floor((epoch + 1) * part + start) - np.floor(epoch * part + start)).astype(np.int64)


def cut(shard: Shard, documents: np.ndarray, context: int, draw: np.random.Generator) -> list[Piece]:
    """Documents (their numbers) cut to the context, in random order. The first cut of a long one falls at random, so that other
    epochs have other cuts and no place stands at a beginning more often than others.
    """
    pieces = []
    lengths = np.diff(shard.offsets)[documents]
    for index, length in zip(documents.tolist(), lengths.tolist(), strict=True):
        if length <= context:
            pieces.append(Piece(index, 0, length))
            continue
        cuts = [0, *range(1 + int(draw.integers(context)), length, context), length]
        pieces += [Piece(index, first, last) for first, last in itertools.pairwise(cuts)]
    return [pieces[index] for index in draw.permutation(len(pieces))]


def best_fit(pieces: Sequence[Piece], context: int) -> list[list[Piece]]:
    """Put pieces into rows of `context` pairs: longest first, each into the fullest row that still holds it."""
    rows: list[list[Piece]] = []
    open_rows: dict[int, list[int]] = {}  # free places → rows with exactly so many
    sizes: list[int] = []  # the keys of open_rows, sorted
    for piece in sorted(pieces, key=lambda item: item.first - item.last):
        length = piece.last - piece.first
        place = bisect.bisect_left(sizes, length)
        if place < len(sizes):
            free = sizes[place]
            index = open_rows[free].pop()
            if not open_rows[free]:
                del open_rows[free], sizes[place]
            rows[index].append(piece)
        else:
            free, index = context, len(rows)
            rows.append([piece])
        left = free - length
        if left:
            if left not in open_rows:
                bisect.insort(sizes, left)
                open_rows[left] = []
            open_rows[left].append(index)
    return rows


def _row(shard: Shard, pieces: list[Piece], context: int, isolate: bool) -> Row:
    ids, targets = np.zeros(context, np.int64), np.full(context, IGNORED, np.int64)
    positions, segments = np.zeros(context, np.int64), np.full(context, PADDING, np.int64)
    place = 0
    for number, piece in enumerate(pieces):
        begin, length = int(shard.offsets[piece.document]), piece.last - piece.first
        span = slice(place, place + length)
        tokens = slice(begin + piece.first, begin + piece.last)
        targets[span] = shard.tokens[tokens]
        ids[place] = shard.tokens[begin + piece.first - 1] if piece.first else shard.first_input
        ids[place + 1 : place + length] = targets[place : place + length - 1]
        if shard.supervised is not None:
            targets[span][~shard.supervised[tokens]] = IGNORED
        positions[span] = np.arange(length) if isolate else np.arange(place, place + length)
        segments[span] = number if isolate else 0
        place += length
    return ids, targets, positions, segments


def make_batch(source: Rows, rows: Sequence[tuple[int, int]]) -> Batch:
    """A batch of rows, each given as (epoch, index), padded at the right to the longest of them."""
    built = [source.row(epoch, index) for epoch, index in rows]
    length = max(len(row[0]) for row in built)
    joint = [np.full((len(built), length), fill, np.int64) for fill in (0, IGNORED, 0, PADDING)]
    for index, row in enumerate(built):
        for array, values in zip(joint, row, strict=True):
            array[index, : len(values)] = values
    ids, targets, positions, segments = map(torch.from_numpy, joint)
    return Batch(ids, targets, positions, segments if source.masks_documents else None)

"""Labelled texts as token ids, in batches of like length padded at the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from treino.errors import UsageError
from treino.messages import N_
from treino.tokens.packing import moved
from treino.tokens.tokenizer import Tokenizer

BUCKET = 16
"""Batches whose rows are sorted by length together: little padding, and still a random order."""


@dataclass(frozen=True)
class ClassBatch:
    """What a classifier reads, (ids, present) or features, and the class of each row, (rows,) int64; where a row may have
    several, (rows, classes) zeros and ones.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor

    def to(self, device: torch.device) -> ClassBatch:
        """The batch on another device."""
        return ClassBatch(tuple(moved(item, device) for item in self.inputs), moved(self.targets, device))


@dataclass(frozen=True)
class Pieces:
    """Texts cut to what the model sees at once: the ids of each piece, the text that it belongs to, and its class."""

    ids: list[np.ndarray]
    texts: np.ndarray
    targets: np.ndarray
    text_targets: np.ndarray
    """Class of each text, dropped ones too."""
    count: int
    long: int = 0
    """Texts that were longer than the context."""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, texts: Sequence[int]) -> Pieces:
        """The pieces of some of the texts, which are numbered anew in their order."""
        number = {text: place for place, text in enumerate(texts)}
        kept = [row for row, text in enumerate(self.texts.tolist()) if text in number]
        owners = np.array([number[self.texts[row]] for row in kept], np.int64)
        ids = [self.ids[row] for row in kept]
        return Pieces(ids, owners, self.targets[kept], self.text_targets[list(texts)], len(texts))

    def batch(self, rows: Sequence[int]) -> ClassBatch:
        """Pieces side by side: ids padded with 0, and which places hold one."""
        length = max(len(self.ids[row]) for row in rows)
        ids = np.zeros((len(rows), length), np.int64)
        present = np.zeros((len(rows), length), np.bool_)
        for place, row in enumerate(rows):
            ids[place, : len(self.ids[row])] = self.ids[row]
            present[place, : len(self.ids[row])] = True
        inputs = torch.from_numpy(ids), torch.from_numpy(present)
        return ClassBatch(inputs, torch.from_numpy(self.targets[np.asarray(rows)]))

    def batches(self, rows: int) -> list[ClassBatch]:
        """All pieces by length, so many rows at a time."""
        order = self.by_length()
        return [self.batch(order[first : first + rows]) for first in range(0, len(order), rows)]

    def by_length(self) -> list[int]:
        """Numbers of the pieces, shortest first."""
        return sorted(range(len(self.ids)), key=lambda row: (len(self.ids[row]), row))


def encode(
    texts: Sequence[str], targets: Sequence[Any], tokenizer: Tokenizer, *, context: int, long_texts: str
) -> Pieces:
    """Each text as the tokenizer frames it (ours: `end_of_text`, then its tokens, as in pretraining); long ones are cut,
    split into pieces, or dropped.

    Raises:
        UsageError: there are long texts, and `long_texts` is "".
    """
    encoded = tokenizer.encode_batch(list(texts))
    room = context - len(tokenizer.prefix) - len(tokenizer.suffix)
    long = [len(ids) for ids in encoded if len(ids) > room]
    if long and not long_texts:
        raise UsageError(
            N_(
                "{count} of {texts} texts are longer than the {context:raw} tokens of the context, the longest {longest}"
            ),
            fix=N_('say what becomes of them: finetune.long_texts = "cut", "split" or "drop"'),
            count=len(long),
            texts=len(encoded),
            context=context,
            longest=max(long),
        )
    pieces: list[np.ndarray] = []
    owners: list[int] = []
    for number, ids in enumerate(encoded):
        if len(ids) > room and long_texts == "drop":
            continue
        ends = range(room, len(ids) + room, room) if long_texts == "split" and ids else (room,)
        for end in ends:
            pieces.append(np.array(tokenizer.framed(ids[max(0, end - room) : end]), np.int64))
            owners.append(number)
    texts_of = np.array(owners, np.int64)
    classes = np.asarray(targets, np.int64)
    return Pieces(pieces, texts_of, classes[texts_of], classes, len(encoded), len(long))


class BucketedRows:
    """Batches of pieces of like length, in an order that is a function of (seed, epoch).

    Each epoch: pieces shuffled, sorted by length within groups of `BUCKET` batches, and the batches shuffled. No piece is
    lost or repeated within an epoch; its last batch may be smaller.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed = list(lengths), batch, seed
        self.steps_per_epoch = -(-len(self.lengths) // batch)
        self._epoch, self._plan = -1, list[list[int]]()

    def rows(self, step: int) -> list[int]:
        """Numbers of the pieces of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            draw = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
            order = draw.permutation(len(self.lengths)).tolist()
            group = BUCKET * self.batch
            ordered = [
                row
                for first in range(0, len(order), group)
                for row in sorted(order[first : first + group], key=lambda item: self.lengths[item])
            ]
            batches = [ordered[first : first + self.batch] for first in range(0, len(ordered), self.batch)]
            self._epoch, self._plan = epoch, [batches[index] for index in draw.permutation(len(batches))]
        return self._plan[place]

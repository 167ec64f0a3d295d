"""Memories of what was read, for generation: rows of different lengths go on together, token by token.

Two make the same logits: the plain one, of any model on any device, and the kernel's, of a Transformer in bfloat16 on the CPU
(`kernels/decode.cpp`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, Protocol

import torch
from torch import Tensor

from treino.models.base import LanguageModel
from treino.models.kernels.decode import Packed, packable
from treino.models.transformer import Transformer, head_size, rotations

Precision = Literal["auto", "float32", "bfloat16"]

TOGETHER = 256
"""Tokens of prompts that the kernel reads in one step: enough that reading the weights costs little, and few enough that what
is between its products stays in the cache."""


class Decoder(Protocol):
    """A memory of some rows of tokens, each of its own length."""

    def read(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> Tensor:
        """Row `rows[i]` goes on with `ids[i]`, at least one token; logits of what comes next, (len(rows), vocabulary), float32,
        on the CPU."""
        ...

    def forget(self, row: int) -> None:
        """The row begins anew."""
        ...


def decoder_for(model: LanguageModel, rows: int, length: int, precision: Precision = "auto") -> Decoder:
    """The fastest memory of `rows` rows of up to `length` tokens, of the model's weights as they are now.

    `auto`: bfloat16 where the kernel computes this model, else the weights' own format. A row's logits do not depend on the
    other rows, in the kernel to the bit, else up to the order of a product's additions.
    """
    if precision != "float32" and isinstance(model, Transformer) and packable(model):
        return KernelDecoder(model, rows, length)
    return PlainDecoder(model, rows, length, bfloat16=precision == "bfloat16")


class PlainDecoder:
    """The model's own forward pass; rows that go on with equally many tokens, as all do once the prompts are read, take it
    together.
    """

    def __init__(self, model: LanguageModel, rows: int, length: int, *, bfloat16: bool = False) -> None:
        self._model, self._bfloat16 = model, bfloat16
        self._device = next(model.parameters()).device
        self._cache = model.new_cache(rows, length)

    def read(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> Tensor:
        narrow = torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16)
        logits = torch.empty(len(rows), self._model.vocabulary)
        with torch.inference_mode(), narrow:
            for places in _alike(ids):
                new = torch.tensor([ids[place] for place in places], device=self._device)
                hidden = self._model.hidden(new, cache=self._cache.of([rows[place] for place in places]))
                logits[places] = self._model.logits(hidden[:, -1]).float().cpu()
        return logits

    def forget(self, row: int) -> None:
        self._cache.forget(row)


def _alike(ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """Places of texts of one length, length by length."""
    lengths = sorted({len(part) for part in ids})
    return [[place for place, part in enumerate(ids) if len(part) == length] for length in lengths]


class KernelDecoder:
    """The kernel over tokens of all rows at once: what a row's logits are does not depend, to the bit, on the others."""

    def __init__(self, model: Transformer, rows: int, length: int) -> None:
        settings, places = model.settings, torch.arange(length)[None]
        cosine, sine = rotations(places, head_size(settings, model.family), settings.rope_theta, model.family.scaling)
        self._packed = Packed(model, rows, length, cosine[0], sine[0])
        self._filled = [0] * rows

    def read(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> Tensor:
        numbers = [number for part in ids for number in part]
        owners = [row for row, part in zip(rows, ids, strict=True) for _ in part]
        places = [self._filled[row] + place for row, part in zip(rows, ids, strict=True) for place in range(len(part))]
        ends = [end - 1 for end in accumulate(map(len, ids))]
        found = []
        for begin in range(0, len(numbers), TOGETHER):
            now = slice(begin, begin + TOGETHER)
            chosen = [end - begin for end in ends if begin <= end < begin + TOGETHER]
            found.append(self._packed.step(numbers[now], owners[now], places[now], chosen))
        for row, part in zip(rows, ids, strict=True):
            self._filled[row] += len(part)
        return found[0] if len(found) == 1 else torch.cat(found)

    def forget(self, row: int) -> None:
        self._filled[row] = 0

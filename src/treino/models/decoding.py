"""Memories of what was read, for generation: rows of different lengths go on together, token by token.

Three make the same logits: the plain one, of any model on any device; the kernel's, of a Transformer in bfloat16 on the CPU
(`kernels/decode.cpp`); and on CUDA the plain one with its steps of one token captured in a graph, so that the GPU does not wait
for the hundreds of calls of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from treino.models.base import LanguageModel
from treino.models.kernels.decode import Packed, packable
from treino.models.nf4 import in_four_bits
from treino.models.transformer import KeyValueCache, StepCache, Transformer, head_size, rotations

Precision = Literal["auto", "float32", "bfloat16"]

TOGETHER = 256
"""Tokens of prompts that the kernel reads in one step: enough that reading the weights costs little, and few enough that what
is between its products stays in the cache."""

WARM_UP = 3
"""Steps before one is captured, in which libraries lay out what they keep."""


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
    kind = StepDecoder if next(model.parameters()).device.type == "cuda" and steps_alike(model) else PlainDecoder
    return kind(model, rows, length, bfloat16=precision == "bfloat16")


def steps_alike(model: LanguageModel) -> bool:
    """Whether a step of one token is the same work each time: no weights that come and go (layers on disk, or gathered from
    other processes), none in 4 bits, which are made wide by another library, no dropout, and no state but keys and values.
    """
    gathered = any(hasattr(layer, "unshard") for layer in model.layers_to_gather())
    away = model.stream is not None or gathered or in_four_bits(model)
    return not away and not model.training and isinstance(model.new_cache(1, 1), KeyValueCache)


class PlainDecoder:
    """The model's own forward pass; rows that go on with equally many tokens, as all do once the prompts are read, take it
    together.
    """

    def __init__(self, model: LanguageModel, rows: int, length: int, *, bfloat16: bool = False) -> None:
        self._model, self._bfloat16 = model, bfloat16
        self._device = next(model.parameters()).device
        self._cache: Any = model.new_cache(rows, length)

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


class StepDecoder(PlainDecoder):
    """The plain one, but where rows go on with one token each, all rows take the same step over tensors that stay where they
    are; on CUDA it is captured as a graph the first time, and replayed. Rows that rest take it, too, at a place of no meaning.
    """

    def __init__(self, model: LanguageModel, rows: int, length: int, *, bfloat16: bool = False) -> None:
        super().__init__(model, rows, length + 1, bfloat16=bfloat16)
        self._rest = length
        self._ids = torch.zeros(rows, 1, dtype=torch.int64, device=self._device)
        self._places = torch.full_like(self._ids, self._rest)
        self._logits = torch.empty(rows, model.vocabulary, device=self._device)
        self._memory = StepCache(self._cache, self._places)
        self._take: Callable[[], None] | None = None

    def read(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> Tensor:
        single = [place for place, part in enumerate(ids) if len(part) == 1]
        longer = [place for place, part in enumerate(ids) if len(part) > 1]
        logits = torch.empty(len(rows), self._model.vocabulary)
        if longer:
            logits[longer] = super().read([rows[place] for place in longer], [ids[place] for place in longer])
        if single:
            chosen = [rows[place] for place in single]
            logits[single] = self._step(chosen, [ids[place][0] for place in single])[chosen]
        return logits

    def _step(self, rows: Sequence[int], numbers: Sequence[int]) -> Tensor:
        """Logits of all rows, of which these go on with a token each; those of the others say nothing."""
        ids, places = [0] * len(self._ids), [self._rest] * len(self._ids)
        with torch.inference_mode():
            if self._take is None:
                self._take = self._captured() if self._device.type == "cuda" else self._once
            for row, number in zip(rows, numbers, strict=True):
                ids[row], places[row] = number, self._cache.counts[row]
                self._cache.counts[row] += 1
            self._ids.copy_(torch.tensor(ids)[:, None])
            self._places.copy_(torch.tensor(places)[:, None])
            self._take()
            return self._logits.cpu()

    def _once(self) -> None:
        """One step of all rows, from and into the tensors of this object; no shape depends on what they hold."""
        # A copy of a weight in another format must not outlive the step that made it: a graph would read freed memory.
        narrow = torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16, cache_enabled=False)
        with narrow:
            positions = self._places.clamp(max=self._rest - 1)
            hidden = self._model.hidden(self._ids, positions, cache=self._memory)
            self._logits.copy_(self._model.logits(hidden[:, -1]))

    def _captured(self) -> Callable[[], None]:
        """The step as a CUDA graph; all rows rest meanwhile, so that nothing is written where it counts."""
        current, beside = torch.cuda.current_stream(self._device), torch.cuda.Stream(self._device)
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self._once()
        current.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # Other threads may copy from the GPU meanwhile (a checkpoint is being written).
        with torch.cuda.graph(graph, stream=beside, capture_error_mode="thread_local"):
            self._once()
        current.wait_stream(beside)
        return graph.replay


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

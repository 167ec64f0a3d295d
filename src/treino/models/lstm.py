"""The course's network: embedding → LSTM → linear."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from treino.models.base import Cache, LanguageModel
from treino.models.head import head_loss

if TYPE_CHECKING:
    from treino.recipe import ModelSettings


LONG_ROW = 2048
"""Places that an LSTM reads in one piece: it has no longest context, whatever it was trained on."""


class State(Cache):
    """Hidden and cell state, each (layers, rows, width), of what was read so far; zeros before the first token."""

    def __init__(self, zeros: Tensor) -> None:
        self.values = (zeros, zeros.clone())
        self.rows: list[int] = list(range(zeros.shape[1]))

    def of(self, rows: Sequence[int]) -> State:
        part = copy.copy(self)  # of the same tensors
        part.rows = list(rows)
        return part

    def forget(self, row: int) -> None:
        for value in self.values:
            value[:, row] = 0

    def read(self) -> tuple[Tensor, Tensor]:
        """The states of the rows of this part."""
        hidden, cell = (value[:, self.rows] for value in self.values)
        return hidden, cell

    def write(self, states: tuple[Tensor, Tensor]) -> None:
        """Put them back."""
        for value, state in zip(self.values, states, strict=True):
            value[:, self.rows] = state.to(value.dtype)


class LSTM(LanguageModel):
    """An LSTM language model (Hochreiter & Schmidhuber 1997): one document a row, padding at the right.

    `settings.width` is the hidden width, `settings.embedding` that of the word vectors; dropout falls on the vectors, between
    layers and before the head. A tied head needs both widths equal.
    """

    def __init__(self, settings: ModelSettings, vocabulary: int) -> None:
        super().__init__(settings, vocabulary)
        self.embedding = nn.Embedding(vocabulary, settings.embedding)
        between = settings.dropout if settings.layers > 1 else 0.0
        self.lstm = nn.LSTM(settings.embedding, settings.width, settings.layers, batch_first=True, dropout=between)
        self.head = nn.Linear(settings.width, vocabulary)
        if settings.tied:
            self.head.weight = self.embedding.weight

    def hidden(
        self, ids: Tensor, positions: Tensor | None = None, segments: Tensor | None = None, cache: State | None = None
    ) -> Tensor:
        """As in `LanguageModel`; positions and segments are not needed: a row is one document, and nothing before the
        padding sees it.
        """
        vectors = F.dropout(self.embedding(ids), self.settings.dropout, self.training)
        out, state = self.lstm(vectors, cache.read() if cache else None)
        if cache:
            cache.write(state)
        return F.dropout(out, self.settings.dropout, self.training)

    @property
    def longest_row(self) -> int:
        return LONG_ROW

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return head_loss(hidden, self.head.weight, self.head.bias, targets)

    def new_cache(self, rows: int, length: int) -> State:
        return State(self.embedding.weight.new_zeros(self.settings.layers, rows, self.settings.width))

    def parts(self) -> list[list[nn.Parameter]]:
        layers = range(self.settings.layers)
        named = list(self.lstm.named_parameters())
        return [
            list(self.embedding.parameters()),
            *([value for name, value in named if name.endswith(f"_l{layer}")] for layer in layers),
        ]

"""The course's network: embedding → LSTM → linear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from treino.models.base import LanguageModel
from treino.models.head import head_loss

if TYPE_CHECKING:
    from treino.recipe import ModelSettings


LONG_ROW = 2048
"""Places that an LSTM reads in one piece: it has no longest context, whatever it was trained on."""


@dataclass
class State:
    """Hidden and cell state, each (layers, rows, width), of what was read so far; None before the first token."""

    value: tuple[Tensor, Tensor] | None = None


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
        out, state = self.lstm(vectors, cache.value if cache else None)
        if cache:
            cache.value = state
        return F.dropout(out, self.settings.dropout, self.training)

    @property
    def longest_row(self) -> int:
        return LONG_ROW

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return head_loss(hidden, self.head.weight, self.head.bias, targets)

    def new_cache(self, rows: int, length: int) -> State:
        return State()

    def parts(self) -> list[list[nn.Parameter]]:
        layers = range(self.settings.layers)
        named = list(self.lstm.named_parameters())
        return [
            list(self.embedding.parameters()),
            *([value for name, value in named if name.endswith(f"_l{layer}")] for layer in layers),
        ]

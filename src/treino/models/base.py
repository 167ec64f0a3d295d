"""What every language model answers to, whatever its architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from treino.models.families import OWN, Family

if TYPE_CHECKING:
    from treino.models.streaming import LayerStream
    from treino.recipe import ModelSettings


class Cache(ABC):
    """What a model remembers of rows that it has read; room for all that may come is laid out at once."""

    @abstractmethod
    def of(self, rows: Sequence[int]) -> Cache:
        """The part of these rows: what goes on from it is written into the whole."""

    @abstractmethod
    def forget(self, row: int) -> None:
        """The row begins anew."""


class LanguageModel(nn.Module, ABC):
    """Token ids (rows, length) to logits (rows, length, vocabulary), each place seeing itself and what stands before it.

    Attributes:
        settings: the shape, every value resolved.
        vocabulary: number of tokens.
        context: longest row that it was made for.
        family: what it has beyond its settings, where it was brought along.
        recompute: while training, keep of each layer what goes in alone, and compute the rest again on the way back
            (Chen et al. 2016, 1604.06174): a third more work, and the memory of one layer instead of all. The LSTM has
            nothing to gain and ignores it.
        stream: where the layers' matrices come from when they are called, where they are not in memory.
    """

    recompute = False
    stream: LayerStream | None = None

    def __init__(self, settings: ModelSettings, vocabulary: int, family: Family = OWN) -> None:
        super().__init__()
        self.family = family
        self.settings, self.vocabulary, self.context = settings, vocabulary, settings.context

    @property
    def longest_row(self) -> int:
        """Places that it reads at most in one row."""
        return self.context

    @abstractmethod
    def hidden(
        self, ids: Tensor, positions: Tensor | None = None, segments: Tensor | None = None, cache: Any = None
    ) -> Tensor:
        """Vectors (rows, length, width) before the head.

        Args:
            ids: (rows, length).
            positions: place of each token in its document; by default 0, 1, 2 … along the row (behind the cache).
            segments: number of the document that a token belongs to within its row, −1 for padding. None: one document a
                row; padding at the right needs no mask then, for nothing before it sees it.
            cache: what `new_cache` gave; the row goes on from it, and it is brought up to date.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """The head: (…, width) to (…, vocabulary)."""

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Sum of the cross-entropies of `logits(hidden)` with the targets, (…), in nats; negative targets do not count."""
        logits = self.logits(hidden).float().flatten(0, -2)
        return F.cross_entropy(logits, targets.flatten(), ignore_index=-100, reduction="sum")

    @abstractmethod
    def new_cache(self, rows: int, length: int) -> Cache:
        """Memory of what was read, for generation: up to `length` tokens of `rows` rows."""

    @abstractmethod
    def parts(self) -> list[list[nn.Parameter]]:
        """The body's parameters from the bottom up: the token table first, then a list a layer (the last one with what
        stands above the layers). A head of its own is in none of them.
        """

    def freeze(self, parts: int) -> None:
        """Keep the first parts (1: the token table, 2: also the first layer …) as they are."""
        for part in self.parts()[:parts]:
            for parameter in part:
                parameter.requires_grad_(False)

    def through(self, layer: nn.Module, *given: Any) -> Any:
        """What a layer makes of what it is given; with `recompute` it keeps no more than that."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(layer, *given, use_reentrant=False)
        return layer(*given)

    def layers_to_gather(self) -> list[nn.Module]:
        """The layers, called one after the other: what processes that hold a part of each gather in turn; none by default."""
        return []

    def matrices(self) -> list[nn.Parameter]:
        """The matrices that act on hidden vectors, which Muon may train; none by default."""
        return []

    def forward(self, ids: Tensor, positions: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Logits of every place."""
        return self.logits(self.hidden(ids, positions, segments))

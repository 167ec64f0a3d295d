"""What the loop minimises: sums by term over a batch, and the counts that they are divided by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from treino.models.base import LanguageModel
from treino.tokens.packing import IGNORED, Batch


class Movable(Protocol):
    """A batch of whatever an objective reads: all that the loop does with one is to put it on the device."""

    def to(self, device: torch.device) -> Any: ...


B = TypeVar("B", bound=Movable)
B_in = TypeVar("B_in", bound=Movable, contravariant=True)


class Objective(Protocol[B_in]):
    """A loss as a sum of terms, L = Σ_term weight · (Σ sums) / (Σ counts).

    Sums and counts are added up over all micro-batches (and ranks) of a step, and `counts` needs the batch alone, so k
    micro-batches give the gradient of one large batch exactly; dividing by the mean of each micro-batch would not.
    """

    weights: Mapping[str, float]

    def counts(self, batch: B_in) -> dict[str, float]:
        """What each term's sum is divided by: a function of the batch alone (class weights count as weights)."""
        ...

    def sums(self, model: nn.Module, batch: B_in) -> dict[str, Tensor]:
        """Scalar sum of each term over the batch, with its gradient."""
        ...


Penalty = Callable[[nn.Module], Tensor]
"""A function of the parameters (EWC, L2-SP), added once per optimiser step, undivided."""


class NextToken:
    """Cross-entropy of the next token, in natural logarithms; positions whose target is `IGNORED` do not count."""

    weights: Mapping[str, float] = {"next_token": 1.0}

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"next_token": float((batch.targets != IGNORED).sum())}

    def sums(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, LanguageModel)
        hidden = model.hidden(batch.ids, positions=batch.positions, segments=batch.segments)
        return {"next_token": model.loss(hidden, batch.targets)}

"""Cures for forgetting: what holds a fine-tuned body near the model that it came from, or has it go on with the old task.

Penalties on the parameters θ, with θ* those of the base model: L2-SP, λ/2 · Σ (θ − θ*)² (Li et al. 2018, 1802.01483), and EWC,
λ/2 · Σ F (θ − θ*)² (Kirkpatrick et al. 2017, 1612.00796), with F the diagonal of the Fisher information of the old task. And
further terms of the loss: rehearsal, the next token of old rows, and distillation, the old model's answer to new texts (LwF:
Li & Hoiem 2016, 1606.09282). In both the body speaks through the base model's own head, which stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from treino.models.base import LanguageModel
from treino.tokens.labelled import ClassBatch
from treino.tokens.packing import IGNORED, PADDING, Batch, Rows, make_batch
from treino.training.objective import NextToken, Objective
from treino.training.source import BatchSource


class Anchored:
    """λ/2 · Σ F (θ − θ*)² over the parameters that are trained; without `importance` F is 1.

    Args:
        body: the module whose parameters are held; θ* are its values now.
        importance: F by parameter name, as large as the parameter.
        strength: λ.
    """

    def __init__(self, body: nn.Module, strength: float, importance: Mapping[str, Tensor] | None = None) -> None:
        self.body, self.strength, self.importance = body, strength, importance
        trained = {name: value for name, value in body.named_parameters() if value.requires_grad}
        self.start = {name: value.detach().clone() for name, value in trained.items()}

    def __call__(self, model: nn.Module) -> Tensor:
        total = torch.zeros((), device=next(iter(self.start.values())).device)
        for name, value in self.body.named_parameters():
            if name in self.start:
                away = (value - self.start[name]).square()
                total = total + (away if self.importance is None else away * self.importance[name]).sum()
        return self.strength / 2 * total


def fisher(parameters: Mapping[str, Tensor], likelihoods: Iterable[tuple[Tensor, float]]) -> dict[str, Tensor]:
    """F = Σ w · (∂ ln p / ∂θ)² / Σ w over examples, squared one by one and never as a mean.

    Args:
        likelihoods: of each example ln p of a label, a scalar with its graph, and the weight w. The true Fisher information has
            labels drawn from the model, or each label with its probability as the weight; the *empirical* one has those of
            the data, and is another quantity (Kunstner et al. 2019, 1905.12558).
    """
    sums = {name: torch.zeros_like(value) for name, value in parameters.items()}
    weights = 0.0
    for likelihood, weight in likelihoods:
        gradients = torch.autograd.grad(likelihood, list(parameters.values()), allow_unused=True)
        for total, gradient in zip(sums.values(), gradients, strict=True):
            if gradient is not None:
                total.addcmul_(gradient, gradient, value=weight)
        weights += weight
    return {name: total / weights for name, total in sums.items()}


def language_fisher(body: LanguageModel, rows: Rows, count: int, labels: str, seed: int) -> dict[str, Tensor]:
    """F of next-token prediction over `count` rows, for each token: an example is a row, of n tokens, and counts as
    (∂ Σ ln p / ∂θ)² / n, so that F/2 · (θ − θ*)² is about what a token's loss rises by.

    Args:
        labels: "sampled", drawn from the model at each place, or "empirical", the tokens that follow.
    """
    parameters = {name: value for name, value in body.named_parameters() if value.requires_grad}
    was_training = body.training
    found = fisher(parameters, _rows_likelihoods(body.eval(), rows, count, labels, seed))
    body.train(was_training)
    return found


def _rows_likelihoods(
    body: LanguageModel, rows: Rows, count: int, labels: str, seed: int
) -> Iterator[tuple[Tensor, float]]:
    device = next(body.parameters()).device
    draw = torch.Generator().manual_seed(seed)
    for place in range(count):
        batch = make_batch(rows, [rows.locate(place)]).to(device)
        hidden = body.hidden(batch.ids, positions=batch.positions, segments=batch.segments)
        logits = body.logits(hidden[0]).float().log_softmax(-1)
        seen = batch.targets[0] != IGNORED
        targets = batch.targets[0].clamp(min=0)
        if labels == "sampled":
            targets = torch.multinomial(logits.detach().exp().cpu(), 1, generator=draw)[:, 0].to(device)
        likelihood = logits.gather(1, targets[:, None])[seen, 0].sum() / seen.sum().clamp(min=1).sqrt()
        yield likelihood, 1.0


@dataclass(frozen=True)
class OldBatch:
    """Rows of the old task, told apart by this from those of the new one."""

    rows: Batch

    def to(self, device: torch.device) -> OldBatch:
        """The batch on another device."""
        return OldBatch(self.rows.to(device))


class WithOldTask:
    """An objective beside which the body goes on with the old task, through the head of the base model.

    Terms: those of the objective; `next_token` of old rows, times `rehearsal`; and `distilled`, −Σ p_old ln p over the
    vocabulary at each token of the new texts, times `distillation`. The model is a classifier, or the body itself.
    """

    def __init__(self, new: Objective[Any], base: LanguageModel, *, rehearsal: float, distillation: float) -> None:
        self.new, self.base = new, base.eval().requires_grad_(False)
        self.distillation = distillation
        self.weights: Mapping[str, float] = {**new.weights, "next_token": rehearsal, "distilled": distillation}

    def counts(self, batch: ClassBatch | Batch | OldBatch) -> dict[str, float]:
        if isinstance(batch, OldBatch):
            return NextToken().counts(batch.rows)
        counts = self.new.counts(batch)
        return counts | ({"distilled": float(_read(batch)[1].sum())} if self.distillation else {})

    def sums(self, model: nn.Module, batch: ClassBatch | Batch | OldBatch) -> dict[str, Tensor]:
        body = model if isinstance(model, LanguageModel) else cast(LanguageModel, model.body)
        if isinstance(batch, OldBatch):
            old = batch.rows
            hidden = body.hidden(old.ids, positions=old.positions, segments=old.segments)
            return {"next_token": self.base.loss(hidden, old.targets)}
        sums = self.new.sums(model, batch)
        if self.distillation and model.training:
            sums["distilled"] = self._distilled(body, *_read(batch))
        return sums

    def _distilled(self, body: LanguageModel, ids: Tensor, present: Tensor, *places: Tensor | None) -> Tensor:
        # Padding stands behind the tokens, where nothing before it sees it.
        with torch.no_grad():
            old = self.base.logits(self.base.hidden(ids, *places)[present]).float().softmax(-1)
        return -(old * self.base.logits(body.hidden(ids, *places)[present]).float().log_softmax(-1)).sum()


def _read(batch: ClassBatch | Batch) -> tuple[Tensor, ...]:
    """What a body reads of a new batch: ids, which places hold a token, and where these stand, if that is not plain."""
    if isinstance(batch, ClassBatch):
        return batch.inputs
    assert batch.segments is not None, "rows of several documents say where each is"
    return batch.ids, batch.segments != PADDING, batch.positions, batch.segments


class Rehearsed:
    """The batches of a source, and behind them `rows` rows of the old task."""

    def __init__(self, new: BatchSource[Any], old: Rows, rows: int) -> None:
        self.new, self.old, self.rows = new, old, rows

    def step(self, step: int) -> list[Any]:
        chosen: Sequence[tuple[int, int]] = [self.old.locate(step * self.rows + row) for row in range(self.rows)]
        return [*self.new.step(step), OldBatch(make_batch(self.old, chosen))]

"""Cures for forgetting: what holds a model near the one that it came from, or has it go on with old tasks.

Penalties on the parameters θ, with θ* those of the old model: L2-SP, λ/2 · Σ (θ − θ*)² (Li et al. 2018, 1802.01483), and EWC,
λ/2 · Σ F (θ − θ*)² (Kirkpatrick et al. 2017, 1612.00796), with F the diagonal of the Fisher information of the old task. And
further terms of the loss: rehearsal, the old task's own loss on old examples, and distillation, the old model's answers to the
new inputs (LwF: Li & Hoiem 2016, 1606.09282). Where the old task is language, the body speaks through the base model's own
head, which stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from treino.models.base import LanguageModel
from treino.tokens.labelled import ClassBatch
from treino.tokens.packing import IGNORED, PADDING, Batch, Rows, make_batch
from treino.training.objective import Movable, NextToken, Objective
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


def class_fisher(
    model: nn.Module, body: nn.Module, rows: Iterable[ClassBatch], labels: str, seed: int
) -> dict[str, Tensor]:
    """F of the body's parameters for a classification, `rows` being batches of one; `labels` as in `language_fisher`."""
    parameters = {name: value for name, value in body.named_parameters() if value.requires_grad}
    was_training = model.training
    found = fisher(parameters, _class_likelihoods(model.eval(), rows, labels, seed))
    model.train(was_training)
    return found


def _class_likelihoods(
    model: nn.Module, rows: Iterable[ClassBatch], labels: str, seed: int
) -> Iterator[tuple[Tensor, float]]:
    draw = torch.Generator().manual_seed(seed)
    for batch in rows:
        logits = model(*batch.inputs).float().log_softmax(-1)[0]
        drawn = (
            torch.multinomial(logits.detach().exp().cpu(), 1, generator=draw) if labels == "sampled" else batch.targets
        )
        yield logits[int(drawn)], 1.0


@dataclass(frozen=True)
class OldBatch:
    """A batch of an old task, by which an objective tells it from those of the new one; `task` is the old task's number."""

    batch: Any
    task: int = 0

    def to(self, device: torch.device) -> OldBatch:
        """The batch on another device."""
        return OldBatch(self.batch.to(device), self.task)


class Teacher(Protocol):
    """An old model's answers to new inputs, as logits (answers, choices)."""

    def count(self, batch: Any) -> float:
        """How many answers it gives to a batch."""
        ...

    def asked(self, batch: Any) -> Tensor:
        """What the old model answers."""
        ...

    def answers(self, model: nn.Module, batch: Any) -> Tensor:
        """What the model that is trained answers to the same."""
        ...


class WithOldTasks:
    """An objective beside which the model goes on with old tasks.

    Terms: those of the new objective; `old_…` of the old ones on old batches, times `rehearsal`; and `distilled_…` of each
    teacher, −Σ p_old ln p over the choices of each of its answers to a new batch, times `distillation`.

    Args:
        old: the old tasks' objectives, by their number in `OldBatch`.
    """

    def __init__(
        self,
        new: Objective[Any],
        *,
        old: Sequence[Objective[Any]] = (),
        rehearsal: float = 0.0,
        teachers: Sequence[Teacher] = (),
        distillation: float = 0.0,
    ) -> None:
        self.new, self.old = new, old
        self.teachers = {f"distilled_{number}": teacher for number, teacher in enumerate(teachers) if distillation}
        again = {f"old_{name}": rehearsal * weight for task in old for name, weight in task.weights.items()}
        self.weights: Mapping[str, float] = {**new.weights, **again, **dict.fromkeys(self.teachers, distillation)}

    def counts(self, batch: Any) -> dict[str, float]:
        if isinstance(batch, OldBatch):
            return {f"old_{name}": value for name, value in self.old[batch.task].counts(batch.batch).items()}
        return self.new.counts(batch) | {name: teacher.count(batch) for name, teacher in self.teachers.items()}

    def sums(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        if isinstance(batch, OldBatch):
            return {f"old_{name}": value for name, value in self.old[batch.task].sums(model, batch.batch).items()}
        sums = self.new.sums(model, batch)
        for name, teacher in self.teachers.items() if model.training else ():
            with torch.no_grad():
                old = teacher.asked(batch).float().softmax(-1)
            sums[name] = -(old * teacher.answers(model, batch).float().log_softmax(-1)).sum()
        return sums


class OldLanguage:
    """The language that a body knew, as an objective on old rows (`Batch`) and as the teacher on new texts.

    A classifier speaks through the head of the base model; a language model that is trained through its own.
    """

    weights: Mapping[str, float] = NextToken.weights

    def __init__(self, base: LanguageModel) -> None:
        self.base = base.eval().requires_grad_(False)

    def counts(self, batch: Batch) -> dict[str, float]:
        return NextToken().counts(batch)

    def sums(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        hidden = _body(model).hidden(batch.ids, positions=batch.positions, segments=batch.segments)
        return {"next_token": self._head(model).loss(hidden, batch.targets)}

    def count(self, batch: ClassBatch | Batch) -> float:
        return float(_read(batch)[1].sum())

    def asked(self, batch: ClassBatch | Batch) -> Tensor:
        return self._spoken(self.base, self.base, *_read(batch))

    def answers(self, model: nn.Module, batch: ClassBatch | Batch) -> Tensor:
        return self._spoken(_body(model), self._head(model), *_read(batch))

    def _head(self, model: nn.Module) -> LanguageModel:
        return model if isinstance(model, LanguageModel) else self.base

    @staticmethod
    def _spoken(
        body: LanguageModel, head: LanguageModel, ids: Tensor, present: Tensor, *places: Tensor | None
    ) -> Tensor:
        # Padding stands behind the tokens, where nothing before it sees it.
        return head.logits(body.hidden(ids, *places)[present])


def _body(model: nn.Module) -> LanguageModel:
    return model if isinstance(model, LanguageModel) else cast(LanguageModel, model.body)


def _read(batch: ClassBatch | Batch) -> tuple[Tensor, ...]:
    """What a body reads of a new batch: ids, which places hold a token, and where these stand, if that is not plain."""
    if isinstance(batch, ClassBatch):
        return batch.inputs
    if batch.segments is None:  # one document a row, padded behind
        present = batch.positions > 0
        present[:, 0] = True
        return batch.ids, present
    return batch.ids, batch.segments != PADDING, batch.positions, batch.segments


class Rehearsed:
    """The batches of a source, and behind them those of an old task's source; several old ones take turns."""

    def __init__(self, new: BatchSource[Any], *old: BatchSource[Any]) -> None:
        self.new, self.old = new, old

    def step(self, step: int) -> list[Movable]:
        turn, task = divmod(step, len(self.old))
        return [*self.new.step(step), *(OldBatch(batch, task) for batch in self.old[task].step(turn))]

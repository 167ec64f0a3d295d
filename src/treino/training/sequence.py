"""One body, task after task: each a classification with a head of its own, with cures for forgetting the ones before.

The body is trained as a whole (`full`), or stays as it is while heads are learnt (`frozen`), or stays and has one adapter
beside it that goes on from task to task (`lora`, `qlora`): a task then changes what those before it stand on, as with `full`.

What counts as old are the classifications learnt before and, where its text is given, the language of the base model. With
`equal` every way takes as many floating-point operations as plain fine-tuning: what rehearsal, distillation and the Fisher
information cost is taken from the number of its steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from treino.models.adapter_folder import load_adapter
from treino.models.base import LanguageModel
from treino.models.build import copy_of
from treino.models.classifier import Classifier, features
from treino.models.folder import load_model
from treino.models.lora import copy_adapters
from treino.planning.flops import forward_flops_per_token, training_flops_per_token
from treino.planning.tuning import TuningWish
from treino.recipe import ADAPTED, FinetuneSettings, finetuning_rate
from treino.tokens.labelled import BucketedRows, ClassBatch, Pieces
from treino.tokens.packing import Rows
from treino.training.classification import Classification, FeatureSource, PieceSource
from treino.training.cures import Anchored, OldLanguage, Rehearsed, WithOldTasks, class_fisher, language_fisher
from treino.training.foresight import (
    Arranged,
    Decided,
    Load,
    adapters_of,
    arranged,
    decided,
    seconds_of_pass,
    seconds_per_token,
    tell,
    wish_of,
)
from treino.training.loop import train
from treino.training.methods import check_format, finetuning_plan, prepare
from treino.training.objective import Objective, Penalty
from treino.training.source import BatchSource, RowSource
from treino.training.task import Task

TRAINING, FORWARD, THROUGH_A_FROZEN_HEAD = 3, 1, 2
"""Forward passes that a part costs: learnt from; asked; crossed forwards and backwards without a gradient of its own."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Lesson:
    """A task of a sequence: its classes, and its texts as token ids by part ("training", "validation", "test")."""

    name: str
    labels: tuple[str, ...]
    pieces: Mapping[str, Pieces]


@dataclass(frozen=True)
class Learnt:
    """A body after some phases, and what belongs to it.

    Attributes:
        body: with the adapter beside it, where the method trains one.
        heads: of the lessons learnt so far, by their number.
        importance: the sum of the old tasks' Fisher information by the body's parameters, where EWC asks for it; the
            quadratics of several tasks are one, about the newest weights (Huszár 2018, 1712.03847).
    """

    body: LanguageModel
    heads: Mapping[int, nn.Module] = field(default_factory=dict)
    importance: Mapping[str, Tensor] | None = None

    def classifier(self, number: int, lesson: Lesson) -> Classifier:
        """Body and head of a lesson that was learnt."""
        classifier = Classifier(self.body, lesson.labels)
        classifier.head = self.heads[number]  # type: ignore[assignment]
        return classifier.eval()


class Once(Classifier):
    """A classifier that goes over a batch once, however many heads ask for its vectors."""

    _seen: tuple[Tensor, Tensor] | None = None

    def pooled(self, ids: Tensor, present: Tensor) -> Tensor:
        if self._seen is None or self._seen[0] is not ids:
            self._seen = ids, super().pooled(ids, present)
        return self._seen[1]


class OldClasses:
    """An earlier classification through its own head, which stays: an objective on its rows, and the teacher on new texts.

    `before`: a classifier with the body as it was before the new task; all old heads share it.
    """

    def __init__(self, head: nn.Module, before: Once) -> None:
        self.head, self.before = head.eval().requires_grad_(False), before
        self.objective = Classification()
        self.weights: Mapping[str, float] = Classification.weights

    def counts(self, batch: ClassBatch) -> dict[str, float]:
        return self.objective.counts(batch)

    def sums(self, model: nn.Module, batch: ClassBatch) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(self.answers(model, batch).float(), batch.targets, reduction="sum")
        return {"class": loss}

    def count(self, batch: ClassBatch) -> float:
        return float(len(batch.targets))

    def asked(self, batch: ClassBatch) -> Tensor:
        return self.head(self.before.pooled(*batch.inputs))

    def answers(self, model: nn.Module, batch: ClassBatch) -> Tensor:
        assert isinstance(model, Once)
        return self.head(model.pooled(*batch.inputs))


class TaskSequence:
    """Learns lessons one after the other.

    Args:
        base: the body that the sequence starts from; its weights are not changed.
        old_rows: the text of the base model, where its language is to be kept as well.
        settings: method, epochs, batch, rate and the cures with their strengths, as for one fine-tuning.
        equal: as many FLOPs as without cures.

    Attributes:
        arrangement: how the rows of a step go through the model; None: together.

    Raises:
        UsageError: for a base model that the method cannot train.
    """

    def __init__(
        self,
        base: LanguageModel,
        lessons: Sequence[Lesson],
        settings: FinetuneSettings,
        *,
        seed: int,
        old_rows: Rows | None = None,
        equal: bool = True,
    ) -> None:
        check_format(base, settings.method)
        self.base, self.lessons, self.seed, self.old_rows, self.equal = base, lessons, seed, old_rows, equal
        rate = settings.learning_rate or finetuning_rate(settings.method, base.settings.width)
        self.settings = settings.model_copy(update={"learning_rate": rate})
        self.adapted = settings.method in ADAPTED
        self.language = OldLanguage(base) if old_rows is not None else None
        self.arrangement: Arranged | None = None

    def start(self) -> Learnt:
        """The base model, with nothing learnt; where EWC asks for it, with what its language needs of each weight."""
        body, importance = copy_of(self.base, dropout=self.settings.dropout), None
        if self.settings.ewc and self.old_rows is not None:
            Classifier(body, ("a", "b"))  # parameters that no classifier uses are frozen
            settings = self.settings
            importance = language_fisher(body, self.old_rows, settings.ewc_rows, settings.ewc_labels, self.seed)
        return Learnt(body, {}, importance)

    def restored(self, heads: Mapping[int, nn.Module], importance: Mapping[str, Tensor] | None, folder: Path) -> Learnt:
        """A state of which the body stands in a folder: as `model/`, or as `adapter/` of the base model."""
        if not self.adapted:
            return Learnt(load_model(folder / "model")[0], heads, importance)
        body = copy_of(self.base, dropout=self.settings.dropout)
        prepare(body, self.settings)
        load_adapter(body, folder / "adapter")
        return Learnt(body, heads, importance)

    def learn(self, before: Learnt, number: int, output: Path, phase: int = 0) -> tuple[Learnt, dict[str, Any]]:
        """Learn a lesson on top of what was learnt `before`, whose weights stay as they are; the new state, and facts.

        A training that was stopped goes on from `output/checkpoints/`, which the caller removes once what came of it is kept.
        """
        torch.manual_seed(self.seed * 1009 + phase)
        classifier = self._built(before, number)
        counts = classifier.parameter_counts()
        task, old = self._task(classifier, before, number, phase)
        steps, plain, flops = self._steps(number, old, phase)
        plan = finetuning_plan(self.settings, steps, self.seed * 1009 + phase)
        task = replace(task, penalties=self._penalties(classifier.body, before))
        progress = train(task, plan, output / "checkpoints")
        after = Learnt(classifier.body.eval(), {**before.heads, number: classifier.head.eval()}, before.importance)
        if self.settings.ewc:
            after = self.remember(after, number)
        facts = {"steps": steps, "plain_steps": plain, "flops": flops, "train_seconds": progress.seconds}
        return after, facts | {"parameters": counts}

    def load(self, number: int, steps: int = 0) -> Load:
        """What a lesson puts through the model in an epoch; `steps`: of all its training, where cures leave fewer."""
        pieces, order = self.lessons[number].pieces["training"], self._order(number, 0)
        tokens = [_places(pieces, order.rows(step)) for step in range(order.steps_per_epoch)]
        return Load(
            rows=min(self.settings.batch, len(pieces)),
            context=max(map(len, pieces.ids)),
            tokens=tokens,
            passing=sum(tokens),
            looked=0,
            texts=len(pieces),
            classes=len(self.lessons[number].labels),
            steps=steps,
        )

    def decide(self, before: Learnt, number: int, phase: int) -> Decided:
        """How the steps of a phase fit into memory, and how fast they are: measured on a model that is thrown away.

        Raises:
            DoesNotFit: with changes of the recipe that would fit.
        """
        load = self.load(number)
        wish = self._wish(before, load)
        self.arrangement = arranged(wish, CPU)
        torch.manual_seed(self.seed)
        classifier = self._built(before, number)
        if self.settings.method == "frozen":
            pieces = self.lessons[number].pieces["training"]
            some = pieces.batch(pieces.by_length()[-load.rows :])
            return decided(self.arrangement, wish, seconds_of_pass(classifier.eval(), some.inputs))
        task, _ = self._task(classifier, before, number, phase)
        plan = finetuning_plan(self.settings, len(load.tokens), self.seed)
        return decided(self.arrangement, wish, seconds_per_token(task, plan, load))

    def foresee(
        self, before: Learnt, number: int, phase: int, decisions: Mapping[str, Any], output: Path, stage: str
    ) -> None:
        """Take the decisions of a phase, and say what it is expected to need."""
        torch.manual_seed(self.seed)
        steps, _, _ = self._steps(number, self._old(before, number), phase)
        load = self.load(number, steps)
        self.arrangement = tell(self._wish(before, load), load, self.settings, decisions, output, stage)

    def _wish(self, before: Learnt, load: Load) -> TuningWish:
        settings, old = self.settings, (0, 0)
        if settings.rehearsal and (before.heads or self.language):
            lengths = [max(map(len, self.lessons[key].pieces["training"].ids)) for key in before.heads]
            old = self._rehearsed_rows, max([*lengths, self.base.longest_row if self.language else 0])
        wish = wish_of(self.base, CPU, settings, load, old=old)
        return replace(wish, patience=False, distillation=bool(settings.distillation and self.language))

    def _built(self, before: Learnt, number: int) -> Once:
        """Body and head ready to be trained by the method, the body with the numbers that it had before."""
        settings, labels = self.settings, self.lessons[number].labels
        body = before.body
        if settings.method != "frozen":
            body = copy_of(self.base if self.adapted else before.body, dropout=settings.dropout)
        classifier = Once(body, labels, settings.dropout)
        if number in before.heads:
            classifier.head.load_state_dict(before.heads[number].state_dict())
        classifier.head.requires_grad_(True)
        prepare(body, settings)
        copy_adapters(before.body, body)
        if self.arrangement:
            body.recompute = self.arrangement.recompute
        return classifier

    def _order(self, number: int, phase: int) -> BucketedRows:
        pieces = self.lessons[number].pieces["training"]
        return BucketedRows([len(ids) for ids in pieces.ids], self.settings.batch, self.seed * 1009 + phase)

    def _task(self, classifier: Once, before: Learnt, number: int, phase: int) -> tuple[Task[Any], dict[int, Any]]:
        """The training but for what holds the body by its parameters; and what is old to it."""
        pieces, order, old = (
            self.lessons[number].pieces["training"],
            self._order(number, phase),
            self._old(before, number),
        )
        if self.settings.method == "frozen":
            source = FeatureSource(features(classifier, pieces), torch.from_numpy(pieces.targets), order)
            return Task(classifier.head, Classification(), source), old
        at_once = self.arrangement.rows if self.arrangement else None
        objective, batches = self._wired(PieceSource(pieces, order, at_once), old)
        return Task(classifier, objective, batches), old

    def _old(self, before: Learnt, number: int) -> dict[int, Any]:
        """What is old to a lesson, by its number; −1 is the language."""
        old: dict[int, Any] = {-1: self.language} if self.language else {}
        frozen = Once(before.body, ("", "")).eval().requires_grad_(False)
        return old | {key: OldClasses(head, frozen) for key, head in before.heads.items() if key != number}

    def _wired(self, source: BatchSource[Any], old: Mapping[int, Any]) -> tuple[Objective[Any], BatchSource[Any]]:
        settings, tasks = self.settings, list(old.values())
        if not tasks or not (settings.rehearsal or settings.distillation):
            return Classification(), source
        share = settings.rehearsal / (1 - settings.rehearsal)
        # Old tasks take turns at rehearsal, so the weight of each is theirs together.
        objective = WithOldTasks(
            Classification(), old=tasks, rehearsal=share, teachers=tasks, distillation=settings.distillation
        )
        if share:
            source = Rehearsed(source, *(self._old_source(key) for key in old))
        return objective, source

    def _old_source(self, key: int) -> BatchSource[Any]:
        rows = self._rehearsed_rows
        if key < 0:
            assert self.old_rows is not None
            return RowSource(self.old_rows, rows)
        pieces = self.lessons[key].pieces["training"]
        return PieceSource(pieces, BucketedRows([len(ids) for ids in pieces.ids], rows, self.seed))

    @property
    def _rehearsed_rows(self) -> int:
        settings = self.settings
        return max(1, round(settings.batch * settings.rehearsal / (1 - settings.rehearsal)))

    def _penalties(self, body: LanguageModel, before: Learnt) -> list[Penalty]:
        """What holds the body near where it stands now; the language and lessons before are what it is held for."""
        settings, penalties = self.settings, list[Penalty]()
        if not before.heads and not self.language:
            return penalties
        if settings.l2_sp:
            penalties.append(Anchored(body, settings.l2_sp))
        if settings.ewc and before.importance is not None:
            penalties.append(Anchored(body, settings.ewc, before.importance))
        return penalties

    def remember(self, learnt: Learnt, number: int) -> Learnt:
        """Add what a lesson that was just learnt needs of each weight, for EWC in the phases to come."""
        classifier, pieces = learnt.classifier(number, self.lessons[number]), self.lessons[number].pieces["training"]
        rows = (pieces.batch([row]) for row in range(min(self.settings.ewc_rows, len(pieces))))
        found = class_fisher(classifier, classifier.body, rows, self.settings.ewc_labels, self.seed)
        before = learnt.importance or {}
        return replace(learnt, importance={name: value + before.get(name, 0.0) for name, value in found.items()})

    def _steps(self, number: int, old: Mapping[int, Any], phase: int) -> tuple[int, int, float]:
        """Steps of a phase, those without cures, and FLOPs: Σ tokens × forward FLOPs × what each pass costs."""
        settings, pieces, order = self.settings, self.lessons[number].pieces["training"], self._order(number, phase)
        plain = settings.epochs * order.steps_per_epoch
        context = max(map(len, pieces.ids))
        shape = self.base.settings, self.base.vocabulary, context
        cost = forward_flops_per_token(*shape)
        body, head = cost["body"] + cost["attention"], cost["head"]
        places = sum(_places(pieces, order.rows(step)) for step in range(order.steps_per_epoch))
        if settings.method == "frozen":  # one pass over the texts; the head's own steps take next to nothing
            return plain, plain, float(places * body)
        adapters = adapters_of(self.base, settings)
        trained = training_flops_per_token(*shape, method=settings.method, adapters=adapters)
        learnt = trained["total"] - trained["head"]
        new = places / order.steps_per_epoch
        step, once = learnt * new, 0.0
        if settings.rehearsal and old:
            share = self._rehearsed_rows / len(old)
            for key in old:
                tokens = share * (self._old_length(key) if key >= 0 else self.base.longest_row)
                step += tokens * (learnt + (THROUGH_A_FROZEN_HEAD * head if key < 0 else 0.0))
        if settings.distillation and old:
            # Classes are asked of vectors that are there already; language goes over the new texts once more.
            step += new * FORWARD * body if any(key >= 0 for key in old) else 0.0
            language = FORWARD * body + learnt + (FORWARD + THROUGH_A_FROZEN_HEAD) * head
            step += new * language if -1 in old else 0.0
        if settings.ewc:  # the Fisher information is paid for by the phase that uses it
            asked = settings.ewc_rows * TRAINING
            once += asked * new / settings.batch * body if any(key >= 0 for key in old) else 0.0
            once += asked * self.base.longest_row * (body + head) if phase == 0 and -1 in old else 0.0
        steps = max(1, round((plain * learnt * new - once) / step)) if self.equal else plain
        return steps, plain, steps * step + once

    def _old_length(self, key: int) -> float:
        pieces = self.lessons[key].pieces["training"]
        return sum(map(len, pieces.ids)) / len(pieces)


def _places(pieces: Pieces, rows: Sequence[int]) -> int:
    """Places of a batch, padding counted."""
    return len(rows) * max(len(pieces.ids[row]) for row in rows)

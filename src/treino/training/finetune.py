"""Classification: a head of classes on a pretrained body, by the one loop and any method."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from treino import events, files
from treino.errors import UsageError
from treino.messages import N_
from treino.models.adapter_folder import save_adapter
from treino.models.classifier import Classifier, build_classifier, features, predict
from treino.models.classifier_folder import save_classifier
from treino.models.several import HALF, best_thresholds
from treino.planning.tuning import ROWS_LOOKED_AT, TuningWish
from treino.recipe import FinetuneSettings
from treino.tokens.labelled import BucketedRows, Pieces, encode
from treino.tokens.tokenizer import Tokenizer
from treino.training.classification import (
    Classification,
    FeatureSource,
    PieceSource,
    SeveralClasses,
    balanced_weights,
    positive_weights,
)
from treino.training.foresight import (
    Arranged,
    Decided,
    Load,
    arranged,
    decided,
    seconds_of_pass,
    seconds_per_token,
    tell,
    wish_of,
)
from treino.training.loop import train
from treino.training.methods import Method, Origin, facts_of, merge_checked, write_curves
from treino.training.task import Task


@dataclass(frozen=True)
class Examples:
    """Texts with the numbers of their classes; where they may have several or none, with zeros and ones, one a class."""

    texts: list[str]
    targets: list[Any]

    def encode(self, tokenizer: Tokenizer, context: int, long_texts: str) -> Pieces:
        return encode(self.texts, self.targets, tokenizer, context=context, long_texts=long_texts)


class Finetuning:
    """What all trials of a classification share: the base model, the classes, and the encoded texts.

    Args:
        base: folder of a language model.
        labels: the classes, in the order of the logits.
        training, validation: what is learnt from, and what early stopping looks at (may be empty).
        long_texts: "cut", "split", "drop", or "" (refused where a text is too long).
        several: whether a text may have several classes or none.
        cleaning: the settings by which the texts were cleaned, kept with the classifier.
        old_text: folder of the tokens that the base model was trained on, for cures that need them.
        stream, quantised: see `Origin`.

    Attributes:
        arrangement: how the rows of a step go through the model; None: together.
        prepared: seconds of what came before the first steps of all trainings: a frozen body's pass, what cures measure.
    """

    def __init__(
        self,
        base: Path,
        labels: list[str],
        training: Examples,
        validation: Examples,
        *,
        long_texts: str,
        seed: int,
        several: bool = False,
        cleaning: Mapping[str, Any] | None = None,
        old_text: Path | None = None,
        stream: bool = False,
        quantised: Path | None = None,
    ) -> None:
        self.origin = Origin(base, seed, old_text, stream=stream, quantised=quantised)
        self.body, self.tokenizer, self.device = self.origin.body, self.origin.tokenizer, self.origin.device
        self.labels, self.seed, self.long_texts, self.several = labels, seed, long_texts, several
        self.about = {"long_texts": long_texts or "cut", "clean": dict(cleaning or {})}
        self.training = training.encode(self.tokenizer, self.body.longest_row, long_texts)
        self.validation = validation.encode(self.tokenizer, self.body.longest_row, long_texts)
        self.unknown = self._unknown()
        self.arrangement: Arranged | None = None
        self.prepared = 0.0
        if not len(self.training):
            raise UsageError(
                N_("every training text is longer than the context, and dropped"),
                fix=N_('set finetune.long_texts to "cut" or "split"'),
            )

    def _unknown(self) -> float | None:
        """Share of the training texts' words that the tokenizer does not know; None where it spells every text."""
        unknown = self.tokenizer.unknown
        if unknown is None or not len(self.training):
            return None
        words = np.concatenate([ids[1:] for ids in self.training.ids])
        return float((words == unknown).mean()) if len(words) else 0.0

    def facts(self) -> dict[str, Any]:
        """What became of the texts."""
        return {
            "pieces": {"training": len(self.training), "validation": len(self.validation)},
            "long_texts": {"training": self.training.long, "validation": self.validation.long},
            "long_texts_rule": self.long_texts,
            "unknown_words": self.unknown,
        }

    def settled(self, settings: FinetuneSettings) -> FinetuneSettings:
        """The settings with a learning rate, where they left it to the method and the width."""
        return self.origin.settled(settings)

    def load(self, settings: FinetuneSettings) -> Load:
        """What goes through the model."""
        order = self._order(settings)
        steps = range(order.steps_per_epoch)
        return Load(
            rows=min(settings.batch, len(self.training)),
            context=max(map(len, self.training.ids)),
            tokens=[_padded(self.training, order.rows(step)) for step in steps],
            passing=_padded_in_all(self.training) + _padded_in_all(self.validation),
            looked=_padded_in_all(self.validation),
            texts=len(self.training) + len(self.validation),
            classes=len(self.labels),
        )

    def wish(self, settings: FinetuneSettings, load: Load) -> TuningWish:
        """The same as the planner describes it."""
        return wish_of(self.body, self.device, settings, load, old=Method(self.origin, settings).old_load())

    def decide(self, settings: FinetuneSettings) -> Decided:
        """How the steps fit into memory, and how fast they are: measured on a model that is thrown away.

        Raises:
            DoesNotFit: with changes of the recipe that would fit.
        """
        load = self.load(settings)
        wish = self.wish(settings, load)
        self.arrangement = arranged(wish, self.device)
        classifier, method = self._built(settings)
        if settings.method == "frozen":
            some = self.training.batch(self._typical_rows()).to(self.device)
            rate = seconds_of_pass(classifier.eval(), some.inputs)
        else:
            order = self._order(settings)
            plan = method.plan(order.steps_per_epoch, watched=False)
            rate = seconds_per_token(self._task(classifier, method, order), plan, load)
        return decided(self.arrangement, wish, rate)

    def foresee(self, settings: FinetuneSettings, decisions: Mapping[str, Any], output: Path) -> None:
        """Take the decisions, and say what the training is expected to need; the words that it does not know, too."""
        if self.unknown:
            events.emit("note.unknown_words", share=self.unknown)
        load = self.load(settings)
        self.arrangement = tell(self.wish(settings, load), load, settings, decisions, output)

    def arrange(self, settings: FinetuneSettings) -> int:
        """Arrange the steps so that they fit, without measuring their speed; returns the bytes that are expected.

        Raises:
            DoesNotFit: as `decide`.
        """
        wish = self.wish(settings, self.load(settings))
        self.arrangement = arranged(wish, self.device)
        return wish.bytes(batch=self.arrangement.rows, recompute=self.arrangement.recompute)

    def on(self, texts: Sequence[int], draw: int = 0) -> Finetuning:
        """The same on some of the training texts, with other random choices for each draw."""
        part = copy.copy(self)
        part.__dict__.pop("_cached", None)
        part.training, part.prepared, part.seed = self.training.of(texts), 0.0, self.seed + draw
        part.origin = copy.copy(self.origin)
        part.origin.seed = part.seed
        return part

    def _typical_rows(self) -> list[int]:
        """Rows of middle length, as many as are looked at together."""
        order = self.training.by_length()
        first = max(0, (len(order) - self.rows_looked_at) // 2)
        return order[first : first + self.rows_looked_at]

    def _order(self, settings: FinetuneSettings) -> BucketedRows:
        return BucketedRows([len(ids) for ids in self.training.ids], settings.batch, self.seed)

    @property
    def rows_looked_at(self) -> int:
        """Rows that go through the model together where nothing is learnt from them."""
        return min(ROWS_LOOKED_AT, self.arrangement.looked) if self.arrangement else ROWS_LOOKED_AT

    def _built(self, settings: FinetuneSettings) -> tuple[Classifier, Method]:
        """A classifier ready to be trained by the settings' method."""
        torch.manual_seed(self.seed)
        method = Method(self.origin, settings)
        half = [HALF] * len(self.labels) if self.several else None
        classifier = Classifier(method.body(), self.labels, settings.dropout, half).to(self.device)
        method.prepare(classifier.body)
        if self.arrangement:
            classifier.body.recompute = self.arrangement.recompute
        return classifier, method

    def run(self, settings: FinetuneSettings, output: Path) -> tuple[Classifier, dict[str, Any]]:
        """Train by these settings; writes `model/` and `records/`, and returns the classifier and facts."""
        classifier, method = self._built(settings)
        counts = classifier.parameter_counts()
        order = self._order(settings)
        plan = method.plan(order.steps_per_epoch, watched=len(self.validation) > 0)
        events.emit("finetune.started", method=settings.method, steps=plan.steps, **counts)
        records = files.make_private(output / "records")
        started = time.monotonic()
        task = self._task(classifier, method, order)
        task = replace(task, penalties=method.penalties(classifier.body))
        self.prepared += time.monotonic() - started
        progress = train(task, plan, output / "checkpoints", records)
        classifier.eval()
        facts = facts_of(plan, progress) | {"parameters": counts}
        if method.adapted:
            save_adapter(classifier.body, output / "adapter", head=classifier.head)
            some = next(iter(self.training.batches(self.rows_looked_at))).to(self.device)
            facts["merge_difference"] = merge_checked(classifier.body, lambda: classifier(*some.inputs))
        if self.several and settings.thresholds == "validation" and len(self.validation):
            classifier.thresholds = best_thresholds(
                self.validation.text_targets, predict(classifier, self.validation, rows=self.rows_looked_at)
            )
        save_classifier(classifier, self.tokenizer, output / "model", self.about)
        write_curves(output, progress)
        return classifier, facts

    def _task(self, classifier: Classifier, method: Method, order: BucketedRows) -> Task[Any]:
        """The training but for what cures add to the loss by the parameters alone."""
        model: nn.Module = classifier
        if method.settings.method == "frozen":
            cached = self._cached
            source = FeatureSource(cached["training"], torch.from_numpy(self.training.targets), order)
            watched = FeatureSource(cached["validation"], torch.from_numpy(self.validation.targets), order)
            validation = [watched.batch(range(len(self.validation)))] if len(self.validation) else []
            model = classifier.head
        else:
            source = PieceSource(self.training, order, self.arrangement.rows if self.arrangement else None)
            validation = self.validation.batches(self.rows_looked_at)
        validation = [batch.to(self.device) for batch in validation]

        def measure() -> dict[str, float]:
            model.eval()
            with torch.no_grad():
                right = sum(int(self._right(model(*batch.inputs), batch.targets).sum()) for batch in validation)
            model.train()
            return {"accuracy": right / len(self.validation)}

        objective, batches = method.wired(self._objective(method.settings.class_weights), source)
        return Task(model, objective, batches, validation=validation, measure=measure)

    def _objective(self, weighted: bool) -> Classification | SeveralClasses:
        targets = self.training.targets.tolist()
        if self.several:
            return SeveralClasses(positive_weights(targets) if weighted else None)
        return Classification(balanced_weights(targets, len(self.labels)) if weighted else None)

    def _right(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Which rows are right: the likeliest class is theirs, or they have exactly the classes above one half."""
        return ((logits > 0) == (targets > 0)).all(-1) if self.several else logits.argmax(-1) == targets

    @cached_property
    def _cached(self) -> dict[str, Tensor]:
        """What the pretrained body makes of all pieces: computed once, whatever the trials."""
        frozen = build_classifier(self.body, self.labels, dropout=0.0).to(self.device)
        rows = self.rows_looked_at
        return {name: features(frozen, getattr(self, name), rows=rows) for name in ("training", "validation")}


def _padded(pieces: Pieces, rows: Sequence[int]) -> int:
    """Tokens of these pieces side by side, padding counted."""
    return len(rows) * max(len(pieces.ids[row]) for row in rows)


def _padded_in_all(pieces: Pieces, rows: int = ROWS_LOOKED_AT) -> int:
    """Tokens of all pieces as they are looked at."""
    order = pieces.by_length()
    return sum(_padded(pieces, order[first : first + rows]) for first in range(0, len(order), rows))

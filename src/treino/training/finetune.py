"""Classification: a head of classes on a pretrained body, by the one loop and any method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from treino.training.loop import train
from treino.training.methods import Method, Origin, close, facts_of, merge_checked
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
        share = float((words == unknown).mean()) if len(words) else 0.0
        if share:
            events.emit("note.unknown_words", share=share)
        return share

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

    def run(self, settings: FinetuneSettings, output: Path) -> tuple[Classifier, dict[str, Any]]:
        """Train by these settings; writes `model/` and `records/`, and returns the classifier and facts."""
        torch.manual_seed(self.seed)
        method = Method(self.origin, settings)
        half = [HALF] * len(self.labels) if self.several else None
        classifier = Classifier(method.body(), self.labels, settings.dropout, half).to(self.device)
        method.prepare(classifier.body)
        counts = classifier.parameter_counts()
        order = BucketedRows([len(ids) for ids in self.training.ids], settings.batch, self.seed)
        plan = method.plan(order.steps_per_epoch, watched=len(self.validation) > 0)
        events.emit("finetune.started", method=settings.method, steps=plan.steps, **counts)
        records = files.make_private(output / "records")
        progress = train(self._task(classifier, method, order), plan, output / "checkpoints", records)
        classifier.eval()
        facts = facts_of(plan, progress) | {"parameters": counts}
        if method.adapted:
            save_adapter(classifier.body, output / "adapter", head=classifier.head)
            some = next(iter(self.training.batches(64))).to(self.device)
            facts["merge_difference"] = merge_checked(classifier.body, lambda: classifier(*some.inputs))
        if self.several and settings.thresholds == "validation" and len(self.validation):
            classifier.thresholds = best_thresholds(self.validation.text_targets, predict(classifier, self.validation))
        save_classifier(classifier, self.tokenizer, output / "model", self.about)
        close(output, progress)
        return classifier, facts

    def _task(self, classifier: Classifier, method: Method, order: BucketedRows) -> Task[Any]:
        model: nn.Module = classifier
        if method.settings.method == "frozen":
            cached = self._cached
            source = FeatureSource(cached["training"], torch.from_numpy(self.training.targets), order)
            watched = FeatureSource(cached["validation"], torch.from_numpy(self.validation.targets), order)
            validation = [watched.batch(range(len(self.validation)))] if len(self.validation) else []
            model = classifier.head
        else:
            source = PieceSource(self.training, order)
            validation = self.validation.batches(64)
        validation = [batch.to(self.device) for batch in validation]

        def measure() -> dict[str, float]:
            model.eval()
            with torch.no_grad():
                right = sum(int(self._right(model(*batch.inputs), batch.targets).sum()) for batch in validation)
            model.train()
            return {"accuracy": right / len(self.validation)}

        objective, batches = method.wired(self._objective(method.settings.class_weights), source)
        penalties = method.penalties(classifier.body)
        return Task(model, objective, batches, penalties=penalties, validation=validation, measure=measure)

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
        return {name: features(frozen, getattr(self, name)) for name in ("training", "validation")}

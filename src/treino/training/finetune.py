"""One fine-tuning: a classification head on a pretrained body, by the one loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from treino import environment, events, files
from treino.errors import UsageError
from treino.messages import N_
from treino.models.adapter_folder import save_adapter
from treino.models.base import LanguageModel
from treino.models.classifier import Classifier, build_classifier, features
from treino.models.classifier_folder import save_classifier
from treino.models.folder import load_model
from treino.models.gpt2 import GPT2
from treino.models.lora import LoraShape, add_adapter, merge, narrow_bases, targets_of
from treino.recipe import ADAPTED, FinetuneSettings, finetuning_rate
from treino.tokens.labelled import BucketedRows, Pieces, encode
from treino.tokens.packing import DocumentRows, PackedRows, Rows
from treino.tokens.shards import open_shard
from treino.tokens.tokenizer import Tokenizer
from treino.training.checkpoint import Progress
from treino.training.classification import Classification, FeatureSource, PieceSource, balanced_weights
from treino.training.cures import Anchored, OldLanguage, Rehearsed, WithOldTasks, language_fisher
from treino.training.loop import train
from treino.training.objective import Penalty
from treino.training.plan import TrainingPlan
from treino.training.schedule import Schedule
from treino.training.source import RowSource
from treino.training.task import Task

BETA2 = 0.99
"""A memory of some hundred steps for the size of gradients: fine-tuning has few steps."""

LINES_PER_EPOCH = 2

LONGEST_OLD_ROW = 1024
"""Tokens of a row of old text at most, where a model can read more."""

MERGE_BOUND = 1e-4
"""Largest difference of a logit, over the largest logit, that float32 may make when adapters are merged."""


@dataclass(frozen=True)
class Examples:
    """Texts with the numbers of their classes."""

    texts: list[str]
    targets: list[int]

    def encode(self, tokenizer: Tokenizer, context: int, long_texts: str) -> Pieces:
        return encode(self.texts, self.targets, tokenizer, context=context, long_texts=long_texts)


class Finetuning:
    """What all trials of a fine-tuning share: the base model, the classes, and the encoded texts.

    Args:
        base: folder of a language model.
        labels: the classes, in the order of the logits.
        training, validation: what is learnt from, and what early stopping looks at (may be empty).
        long_texts: "cut", "split", "drop", or "" (refused where a text is too long).
        cleaning: the settings by which the texts were cleaned, kept with the classifier.
        old_text: folder of the tokens that the base model was trained on, for cures that need them.
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
        cleaning: Mapping[str, Any] | None = None,
        old_text: Path | None = None,
    ) -> None:
        torch.set_num_threads(environment.processors())
        self.body, self.tokenizer = load_model(base)
        self.labels, self.seed, self.long_texts, self.old_text = labels, seed, long_texts, old_text
        self.about = {"long_texts": long_texts or "cut", "clean": dict(cleaning or {})}
        self.training = training.encode(self.tokenizer, self.body.longest_row, long_texts)
        self.validation = validation.encode(self.tokenizer, self.body.longest_row, long_texts)
        self.unknown = self._unknown()
        if not len(self.training):
            raise UsageError(
                N_("every training text is longer than the context, and dropped"),
                fix=N_('set finetune.long_texts to "cut" or "split"'),
            )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

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

    def settled(self, settings: FinetuneSettings) -> FinetuneSettings:
        """The settings with a learning rate, where they left it to the method and the width."""
        rate = settings.learning_rate or finetuning_rate(settings.method, self.body.settings.width)
        return settings.model_copy(update={"learning_rate": rate})

    def facts(self) -> dict[str, Any]:
        """What became of the texts."""
        return {
            "pieces": {"training": len(self.training), "validation": len(self.validation)},
            "long_texts": {"training": self.training.long, "validation": self.validation.long},
            "long_texts_rule": self.long_texts,
            "unknown_words": self.unknown,
        }

    def run(self, settings: FinetuneSettings, output: Path) -> tuple[Classifier, dict[str, Any]]:
        """Train by these settings; writes `model/` and `records/`, and returns the classifier and facts."""
        torch.manual_seed(self.seed)
        fresh = settings.method == "scratch"
        classifier = build_classifier(self.body, self.labels, dropout=settings.dropout, fresh=fresh).to(self.device)
        self._freeze(classifier, settings)
        counts = classifier.parameter_counts()
        plan = self._plan(settings)
        events.emit("finetune.started", method=settings.method, steps=plan.steps, **counts)
        records = files.make_private(output / "records")
        progress = train(self._task(classifier, settings), plan, output / "checkpoints", records)
        classifier.eval()
        facts = self._facts(plan, progress) | {"parameters": counts}
        if settings.method in ADAPTED:
            save_adapter(classifier.body, output / "adapter", head=classifier.head)
            facts["merge_difference"] = self._merge(classifier)
        save_classifier(classifier, self.tokenizer, output / "model", self.about)
        for name in ("history", "validation"):
            files.write_json(records / f"{name}.json", getattr(progress, name))
        files.remove_folder(output / "checkpoints")
        return classifier, facts

    @torch.no_grad()
    def _merge(self, classifier: Classifier) -> float:
        """Merge the adapters into the weights; returns the largest difference of a class logit over some training texts.

        Raises:
            RuntimeError: where it is over the bound, which only a mistake of ours can bring about.
        """
        batch = next(iter(self.training.batches(64))).to(self.device)
        before = classifier(*batch.inputs)
        merge(classifier.body)
        difference = float((classifier(*batch.inputs) - before).abs().max())
        events.emit("finetune.merged", difference=difference)
        if difference > MERGE_BOUND * max(1.0, float(before.abs().max())):
            raise RuntimeError(f"merging the adapters changed a logit by {difference}")
        return difference

    def _freeze(self, classifier: Classifier, settings: FinetuneSettings) -> None:
        layers = self.body.settings.layers
        if settings.method in ADAPTED:
            self._adapt(classifier.body, settings)
        elif settings.method == "frozen":
            classifier.freeze(layers + 1)
        elif settings.freeze == "embeddings":
            classifier.freeze(1)
        elif settings.freeze != "nothing" and int(settings.freeze) > layers:
            raise UsageError(
                N_("finetune.freeze = {wanted:raw}, but the model has {layers:raw} layers"),
                fix=N_('name at most as many, or "embeddings"'),
                wanted=settings.freeze,
                layers=layers,
            )
        elif settings.freeze != "nothing" and settings.freeze:
            classifier.freeze(1 + int(settings.freeze))

    def _adapt(self, body: LanguageModel, settings: FinetuneSettings) -> None:
        """Freeze the body, and put adapters beside its layers."""
        matrices, narrow = body.matrices(), settings.method == "qlora"
        if not matrices or (narrow and isinstance(body, GPT2)):
            raise UsageError(
                N_("the method {method} is not there for a model of the kind {kind}"),
                fix=N_('take finetune.method = "full" or "frozen"'),
                method=settings.method,
                kind=body.family.name if matrices else body.settings.architecture,
            )
        shape = LoraShape(
            rank=settings.lora_rank,
            alpha=settings.lora_alpha,
            targets=settings.lora_targets,
            dropout=settings.lora_dropout,
            rslora=settings.rslora,
        )
        add_adapter(body, targets_of(body, matrices, settings.lora_targets), shape, nf4=narrow)
        if settings.precision == "bfloat16" and not isinstance(body, GPT2):
            narrow_bases(body)

    def _order(self, settings: FinetuneSettings) -> BucketedRows:
        return BucketedRows([len(ids) for ids in self.training.ids], settings.batch, self.seed)

    def _plan(self, settings: FinetuneSettings) -> TrainingPlan:
        per_epoch = self._order(settings).steps_per_epoch
        steps = settings.epochs * per_epoch
        return TrainingPlan(
            steps=steps,
            batch=settings.batch,
            accumulation=1,
            schedule=Schedule(settings.learning_rate, steps, settings.warmup),
            weight_decay=settings.weight_decay,
            beta2=BETA2,
            clip=1.0,
            precision=settings.precision,
            seed=self.seed,
            log_every=max(1, per_epoch // LINES_PER_EPOCH),
            validate_every=per_epoch,
            checkpoint_seconds=settings.checkpoint_seconds,
            patience=settings.patience if len(self.validation) else 0,
            lora_plus=settings.lora_plus,
        )

    def _task(self, classifier: Classifier, settings: FinetuneSettings) -> Task:
        weights = None
        if settings.class_weights:
            weights = balanced_weights(self.training.targets.tolist(), len(self.labels))
        order = self._order(settings)
        model: nn.Module = classifier
        if settings.method == "frozen":
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
                right = sum(int((model(*batch.inputs).argmax(-1) == batch.targets).sum()) for batch in validation)
            model.train()
            return {"accuracy": right / len(self.validation)}

        objective: Any = Classification(weights)
        if settings.rehearsal or settings.distillation:
            share = settings.rehearsal / (1 - settings.rehearsal)
            old = OldLanguage(self.body)
            objective = WithOldTasks(
                objective, old=[old], rehearsal=share, teacher=old, distillation=settings.distillation
            )
            if share:
                source = Rehearsed(source, RowSource(self._old_rows, max(1, round(share * settings.batch))))
        penalties = self._penalties(classifier.body, settings)
        return Task(model, objective, source, penalties=penalties, validation=validation, measure=measure)

    def _penalties(self, body: LanguageModel, settings: FinetuneSettings) -> list[Penalty]:
        """What holds the body near the base model."""
        penalties: list[Penalty] = []
        if settings.l2_sp:
            penalties.append(Anchored(body, settings.l2_sp))
        if settings.ewc:
            rows = self._old_rows
            importance = language_fisher(body, rows, settings.ewc_rows, settings.ewc_labels, self.seed)
            penalties.append(Anchored(body, settings.ewc, importance))
        return penalties

    @cached_property
    def _old_rows(self) -> Rows:
        """Rows of the text that the base model was trained on."""
        assert self.old_text is not None, "the recipe's checks refuse this"
        shard, context = open_shard(self.old_text, "training"), min(self.body.longest_row, LONGEST_OLD_ROW)
        kind = DocumentRows if self.body.settings.architecture == "lstm" else PackedRows
        return kind(shard, context, self.seed)

    @cached_property
    def _cached(self) -> dict[str, Tensor]:
        """What the pretrained body makes of all pieces: computed once, whatever the trials."""
        frozen = build_classifier(self.body, self.labels, dropout=0.0).to(self.device)
        return {name: features(frozen, getattr(self, name)) for name in ("training", "validation")}

    def _facts(self, plan: TrainingPlan, progress: Progress) -> dict[str, Any]:
        per_epoch = plan.validate_every
        facts: dict[str, Any] = {
            "steps": progress.step,
            "epochs": progress.step / per_epoch,
            "train_seconds": progress.seconds,
            "first_loss": progress.history[0]["loss"],
            "last_loss": progress.history[-1]["loss"],
        }
        if progress.validation:
            best = min(progress.validation, key=lambda look: look["loss"]) if plan.patience else progress.validation[-1]
            facts |= {
                "stopped_early": progress.step < plan.steps,
                "best_epoch": best["step"] / per_epoch,
                "validation_loss": best["loss"],
                "validation_accuracy": best["accuracy"],
            }
        return facts

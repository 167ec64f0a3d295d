"""Methods of fine-tuning: what of a language model's body is trained, and what holds it near the model that it came from.

Every task uses them alike, whatever stands on the body: a head of classes (`treino.training.finetune`), or the model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from treino import environment, events, files
from treino.errors import UsageError
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.models.build import copy_of
from treino.models.device import choose
from treino.models.folder import is_quantised, load_model, quantise_folder
from treino.models.gpt2 import GPT2
from treino.models.lora import LoraShape, add_adapter, merge, narrow_bases, targets_of
from treino.models.nf4 import NF4Linear, in_four_bits
from treino.recipe import ADAPTED, FinetuneSettings, finetuning_rate
from treino.tokens.packing import DocumentRows, PackedRows, Rows
from treino.tokens.shards import open_shard
from treino.training.checkpoint import Progress
from treino.training.cures import Anchored, OldLanguage, Rehearsed, WithOldTasks, language_fisher
from treino.training.objective import Objective, Penalty
from treino.training.plan import TrainingPlan
from treino.training.schedule import Schedule
from treino.training.source import BatchSource, RowSource

BETA2 = 0.99
"""A memory of some hundred steps for the size of gradients: fine-tuning has few steps."""

LINES_PER_EPOCH = 2

LONGEST_OLD_ROW = 1024
"""Tokens of a row of old text at most, where a model can read more."""

MERGE_BOUND = 1e-4
"""Largest difference of a logit, over the largest logit, that float32 may make when adapters are merged."""


class Origin:
    """What fine-tunings start from.

    Args:
        base: folder of a language model.
        old_text: folder of the tokens that it was trained on, for cures that need them.
        stream: whether its layers stay on disk, in 4 bits; where the base is not in that form, it is written so to
            `quantised` first.

    Attributes:
        body: the base model, which no fine-tuning changes.
    """

    def __init__(
        self,
        base: Path,
        seed: int,
        old_text: Path | None = None,
        *,
        stream: bool = False,
        quantised: Path | None = None,
    ) -> None:
        torch.set_num_threads(environment.processors())
        if stream and not is_quantised(base):
            assert quantised is not None
            base = _in_four_bits(base, quantised)
        self.body, self.tokenizer = load_model(base, stream=stream)
        self.seed, self.old_text = seed, old_text
        self.device = choose().device

    def settled(self, settings: FinetuneSettings) -> FinetuneSettings:
        """The settings with a learning rate, where they left it to the method and the width."""
        rate = settings.learning_rate or finetuning_rate(settings.method, self.body.settings.width)
        return settings.model_copy(update={"learning_rate": rate})

    @property
    def old_length(self) -> int:
        """Tokens of a row of old text."""
        return min(self.body.longest_row, LONGEST_OLD_ROW)

    @cached_property
    def old_rows(self) -> Rows:
        """Rows of the text that the base model was trained on."""
        assert self.old_text is not None, "the recipe's checks refuse this"
        shard, context = open_shard(self.old_text, "training"), self.old_length
        kind = DocumentRows if self.body.settings.architecture == "lstm" else PackedRows
        return kind(shard, context, self.seed)


def _in_four_bits(base: Path, target: Path) -> Path:
    """The base in NF4, written to `target` unless it is there; whole or absent."""
    if not target.exists():
        partial = target.with_name(f".{target.name}.partial")
        files.remove_folder(partial)
        quantise_folder(base, partial)
        files.publish_folder(partial, target)
    return target


class Method:
    """One way of fine-tuning, for any task: ask for a body, prepare it, have the loss wired and the plan made, and train."""

    def __init__(self, origin: Origin, settings: FinetuneSettings) -> None:
        self.origin, self.settings = origin, settings
        self.adapted = settings.method in ADAPTED
        assert settings.stream == (origin.body.stream is not None)
        check_format(origin.body, settings.method)

    def body(self) -> LanguageModel:
        """A copy of the base model with this dropout; for `scratch`, random weights of its shape."""
        return copy_of(self.origin.body, dropout=self.settings.dropout, fresh=self.settings.method == "scratch")

    def prepare(self, body: LanguageModel) -> None:
        """Make a body ready to be trained: see `prepare`."""
        prepare(body, self.settings)

    def wired(self, objective: Objective[Any], source: BatchSource[Any]) -> tuple[Objective[Any], BatchSource[Any]]:
        """The task's objective and batches, with the terms and rows of the cures for forgetting."""
        settings = self.settings
        if not (settings.rehearsal or settings.distillation):
            return objective, source
        old = OldLanguage(self.origin.body)
        objective = WithOldTasks(
            objective, old=[old], rehearsal=self._share, teachers=[old], distillation=settings.distillation
        )
        if self._share:
            source = Rehearsed(source, RowSource(self.origin.old_rows, self._old_count))
        return objective, source

    @property
    def _share(self) -> float:
        """Old rows for each new one."""
        return self.settings.rehearsal / (1 - self.settings.rehearsal)

    @property
    def _old_count(self) -> int:
        return max(1, round(self._share * self.settings.batch))

    def old_load(self) -> tuple[int, int]:
        """Rows of old text in a step, and the tokens of one."""
        return (self._old_count, self.origin.old_length) if self._share else (0, 0)

    def penalties(self, body: LanguageModel) -> list[Penalty]:
        """What holds a prepared body near the base model."""
        settings = self.settings
        penalties: list[Penalty] = []
        if settings.l2_sp:
            penalties.append(Anchored(body, settings.l2_sp))
        if settings.ewc:
            rows, seed = self.origin.old_rows, self.origin.seed
            importance = language_fisher(body, rows, settings.ewc_rows, settings.ewc_labels, seed)
            penalties.append(Anchored(body, settings.ewc, importance))
        return penalties

    def plan(self, per_epoch: int, *, watched: bool) -> TrainingPlan:
        """The plan for so many steps an epoch; it has patience where validation rows are `watched`."""
        plan = finetuning_plan(self.settings, self.settings.epochs * per_epoch, self.origin.seed)
        return replace(
            plan,
            log_every=max(1, per_epoch // LINES_PER_EPOCH),
            validate_every=per_epoch,
            patience=self.settings.patience if watched else 0,
        )


def check_format(base: LanguageModel, method: str) -> None:
    """Refuse a base model in 4 bits (`UsageError`) where the method would change its weights."""
    if in_four_bits(base) and method not in ("qlora", "scratch"):
        raise UsageError(
            N_("the base model is in 4 bits, which the method {method} cannot train"),
            fix=N_('take finetune.method = "qlora", or a base model in 16 or 32 bits'),
            method=method,
        )


def prepare(body: LanguageModel, settings: FinetuneSettings) -> None:
    """Freeze what the method leaves as it is, and put adapters beside the layers where it trains those.

    Raises:
        UsageError: where the model is not one for this method.
    """
    layers = body.settings.layers
    if settings.method in ADAPTED:
        shape = LoraShape(
            rank=settings.lora_rank,
            alpha=settings.lora_alpha,
            targets=settings.lora_targets,
            dropout=settings.lora_dropout,
            rslora=settings.rslora,
        )
        adapt(body, shape, settings.method, settings.precision)
    elif settings.method == "frozen":
        body.freeze(layers + 1)
    elif settings.freeze == "embeddings":
        body.freeze(1)
    elif settings.freeze != "nothing" and int(settings.freeze) > layers:
        raise UsageError(
            N_("finetune.freeze = {wanted:raw}, but the model has {layers:raw} layers"),
            fix=N_('name at most as many, or "embeddings"'),
            wanted=settings.freeze,
            layers=layers,
        )
    elif settings.freeze != "nothing" and settings.freeze:
        body.freeze(1 + int(settings.freeze))


def adapt(body: LanguageModel, shape: LoraShape, method: str, precision: str) -> None:
    """Freeze the body, and put adapters beside its layers: "lora", or "qlora" beside layers in 4 bits.

    Raises:
        UsageError: where the model has no layers for it.
    """
    matrices, narrow = body.matrices(), method == "qlora"
    if not (matrices or in_four_bits(body)) or (narrow and isinstance(body, GPT2)):
        raise UsageError(
            N_("the method {method} is not there for a model of the kind {kind}"),
            fix=N_('take finetune.method = "full" or "frozen"'),
            method=method,
            kind=body.family.name if matrices else body.settings.architecture,
        )
    add_adapter(body, targets_of(body, matrices, shape.targets), shape, nf4=narrow)
    if precision == "bfloat16" and not isinstance(body, GPT2):
        narrow_bases(body)


def finetuning_plan(settings: FinetuneSettings, steps: int, seed: int) -> TrainingPlan:
    """The plan that the settings of [finetune] give for so many steps, with one look at the end."""
    return TrainingPlan(
        steps=steps,
        batch=settings.batch,
        accumulation=1,
        schedule=Schedule(settings.learning_rate, steps, settings.warmup),
        weight_decay=settings.weight_decay,
        beta2=BETA2,
        clip=1.0,
        precision=settings.precision,
        seed=seed,
        log_every=max(1, steps // 10),
        validate_every=steps,
        checkpoint_seconds=settings.checkpoint_seconds,
        lora_plus=settings.lora_plus,
        optimiser=settings.optimiser,
    )


def parameter_counts(model: LanguageModel) -> dict[str, int]:
    """Numbers in a language model, `total`, and those that training changes, `trainable`."""
    parameters = list(model.parameters())
    narrow = sum(module.shape.numel() for module in model.modules() if isinstance(module, NF4Linear))
    return {
        "total": sum(parameter.numel() for parameter in parameters) + narrow,
        "trainable": sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
    }


@torch.no_grad()
def merge_checked(body: LanguageModel, answer: Callable[[], Tensor]) -> float | None:
    """Merge the adapters into the weights; returns the largest difference of the logits that `answer` gives by the body. A body
    whose layers are on disk stays base and adapter: None.

    Raises:
        RuntimeError: where it is over the bound, which only a mistake of ours can bring about.
    """
    if body.stream is not None:
        return None
    before = answer()
    merge(body)
    difference = float((answer() - before).abs().max())
    events.emit("finetune.merged", difference=difference)
    if difference > MERGE_BOUND * max(1.0, float(before.abs().max())):
        raise RuntimeError(f"merging the adapters changed a logit by {difference}")
    return difference


def facts_of(plan: TrainingPlan, progress: Progress) -> dict[str, Any]:
    """What became of a training: steps and epochs, seconds, losses, and the figures of the look whose weights were kept."""
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
        figures = {f"validation_{name}": value for name, value in best.items() if name != "step"}
        facts |= {"stopped_early": progress.step < plan.steps, "best_epoch": best["step"] / per_epoch, **figures}
    return facts


def write_curves(output: Path, progress: Progress) -> None:
    """Write a finished training's curves to `records/`."""
    for name in ("history", "validation"):
        files.write_json(output / "records" / f"{name}.json", getattr(progress, name))

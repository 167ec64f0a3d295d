"""What a fine-tuning will need: how its steps fit into memory, measured speed, and the forecast that both give."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from treino import events, files
from treino.measure import release_memory
from treino.messages import N_, Message
from treino.models.base import LanguageModel
from treino.models.gpt2 import GPT2
from treino.models.kernels import library
from treino.planning.configuration import from_configuration
from treino.planning.fit import Arrangement
from treino.planning.flops import training_flops_per_token
from treino.planning.forecast import SPREAD, Forecast
from treino.planning.memory import adapter_parameters
from treino.planning.parameters import Architecture, architecture_of, count
from treino.planning.tuning import ROWS_LOOKED_AT, TuningWish
from treino.planning.work import TARGETS, Work
from treino.recipe import ADAPTED, FinetuneSettings
from treino.training.calibrate import measure_speed
from treino.training.fit import base_memory, fitting
from treino.training.methods import Method, Origin
from treino.training.plan import TrainingPlan
from treino.training.task import Task

RATE = "finetune.seconds_per_token"
DECISIONS = ("finetune.rows_at_once", "finetune.recompute", RATE)
"""What is measured before a fine-tuning and then locked; the last one is for the forecast alone."""

Decided = dict[str, tuple[Any, Message, dict[str, Any]]]
"""Name of a decision → (value, why, figures)."""

FILE = "records/forecast.json"
STEPS = 3
"""Steps that are timed, of those that are nearest to the mean in what they hold."""


@dataclass(frozen=True)
class Load:
    """What a task puts through the model.

    Attributes:
        rows, context: of the step that takes most, rows and the length to which they are padded.
        tokens: padded tokens by step, of one epoch.
        passing, looked: padded tokens of one pass over all texts, and of a look at validation; looks: passes that one takes.
        texts: those of training and validation together.
        classes: of a classifier; 0: a language model. packed: rows hold several documents.
    """

    rows: int
    context: int
    tokens: Sequence[int]
    passing: int
    looked: int
    texts: int
    classes: int = 0
    packed: bool = False
    looks: int = 2


@dataclass(frozen=True)
class Arranged(Arrangement):
    """An arrangement, and how many rows go together where nothing is learnt from them."""

    looked: int = ROWS_LOOKED_AT


def architecture(body: LanguageModel) -> Architecture:
    """A model as the planner describes it."""
    if body.family.config:
        return from_configuration(body.family.config)
    return architecture_of(body.settings, body.vocabulary)


def wish_of(origin: Origin, settings: FinetuneSettings, load: Load) -> TuningWish:
    """A fine-tuning as the planner describes it, beside the base model that is in memory already."""
    body, on_cpu = origin.body, origin.device.type == "cpu"
    frozen, half = settings.method == "frozen", settings.precision == "bfloat16"
    plain, adapters = isinstance(body, GPT2), bool(body.matrices())
    kernels = on_cpu and adapters and not plain and library() is not None
    named = set(settings.lora_targets)
    work = Work(
        *(ROWS_LOOKED_AT if frozen else load.rows, load.context),
        precision="float32" if frozen else settings.precision,
        method=settings.method,
        optimiser=settings.optimiser,
        classes=load.classes,
        rank=settings.lora_rank,
        targets=next((name for name, group in TARGETS.items() if named == set(group)), "all"),
        packed=load.packed,
        kernels=kernels and half,
        base=base_memory(origin.device),
        accelerator=not on_cpu,
    )
    return TuningWish(
        architecture(body),
        work,
        patience=bool(settings.patience and load.looked),
        anchors=bool(settings.l2_sp) + 2 * bool(settings.ewc),
        distillation=bool(settings.distillation),
        old=Method(origin, settings).old_load(),
        vectors=load.texts * body.settings.width,
        recompute=(False,) if frozen or not adapters else (False, True),
        offers=tuple(_offers(settings, kernels, adapters=adapters, four_bits=adapters and not plain)),
        shorter=not settings.base,
    )


def _offers(
    settings: FinetuneSettings, kernels: bool, *, adapters: bool, four_bits: bool
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What a recipe could ask for instead, the gentlest first."""
    if settings.optimiser == "adamw" and settings.method in ("scratch", "full"):
        yield "finetune.optimiser", '"adamw8bit"', {"optimiser": "adamw8bit"}
    if settings.precision == "float32" and settings.method in ("scratch", "full", "lora"):
        yield "finetune.precision", '"bfloat16"', {"precision": "bfloat16", "kernels": kernels}
    gentler = {"full": ("lora", "qlora", "frozen"), "lora": ("qlora", "frozen"), "qlora": ("frozen",)}
    for method in gentler.get(settings.method, ()):
        if method not in ADAPTED or (four_bits if method == "qlora" else adapters):
            yield "finetune.method", f'"{method}"', {"method": method}


def arranged(wish: TuningWish, device: torch.device) -> Arranged:
    """The quickest arrangement that fits.

    Raises:
        DoesNotFit: with at most three changes of the recipe, each of which would fit.
    """
    found = fitting(wish, wish.work.base, device, N_("take a smaller base model, or shorter texts"))
    return _with_looks(wish, found.rows, found.recompute)


def _with_looks(wish: TuningWish, rows: int, recompute: bool) -> Arranged:
    return Arranged(rows, recompute, rows if rows < wish.batch else ROWS_LOOKED_AT)


def decided(arrangement: Arrangement, wish: TuningWish, rate: float) -> Decided:
    """The decisions with their reasons, as the pipeline locks them."""
    whole = arrangement.rows >= wish.batch
    values = (arrangement.rows, arrangement.recompute, float(f"{rate:.4g}"))
    reasons = (
        N_("all of a step fit together") if whole else N_("more would not fit into memory"),
        N_("it would not fit into memory otherwise") if arrangement.recompute else N_("it fits without"),
        N_("measured on a few steps"),
    )
    return {name: (value, Message(why), {}) for name, value, why in zip(DECISIONS, values, reasons, strict=True)}


@dataclass(frozen=True)
class _Chosen:
    """Some steps of a source, one after the other."""

    source: Any
    steps: Sequence[int]

    def step(self, step: int) -> list[Any]:
        return self.source.step(self.steps[step % len(self.steps)])


def typical_steps(tokens: Sequence[int], wanted: int = STEPS + 1) -> list[int]:
    """Numbers of the steps whose tokens are nearest to the mean."""
    mean = sum(tokens) / len(tokens)
    return sorted(range(len(tokens)), key=lambda step: (abs(tokens[step] - mean), step))[:wanted]


def seconds_per_token(task: Task[Any], plan: TrainingPlan, load: Load) -> float:
    """Measured on a few typical steps of a model that is thrown away, without penalties, which take next to nothing."""
    chosen = typical_steps(load.tokens)
    few = replace(task, source=_Chosen(task.source, chosen))
    speed = measure_speed(few, plan, steps=STEPS, warm_up=1, throw_away=True)
    return speed.seconds_per_step / (sum(load.tokens[step] for step in chosen) / len(chosen))


@torch.no_grad()
def seconds_of_pass(model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Seconds for each token of a forward pass, at its second go."""
    for _ in range(2):
        started = time.perf_counter()
        model(*inputs).sum().item()
    return (time.perf_counter() - started) / inputs[0].numel()


def forecast_of(
    wish: TuningWish, arrangement: Arrangement, load: Load, rate: float, *, epochs: int, patience: int
) -> tuple[Forecast, float]:
    """The forecast of one training to its last epoch, and what of its seconds comes before the first step.

    seconds = rate · (tokens of all epochs + those of the looks): a classifier's go forward twice (loss and accuracy), each time
    a third of a step's work for a token where all is trained, and a half under adapters. Frozen: rate · the one pass over all
    texts, for the head's steps take next to nothing. The low end is where early stopping ends it at the first chance.
    """
    passes = -(-wish.batch // arrangement.rows)
    parts = wish.parts(batch=arrangement.rows, accumulation=passes, recompute=arrangement.recompute)
    tokens = sum(load.tokens) * epochs
    before = rate * load.passing if wish.work.method == "frozen" else 0.0
    look = load.looks * load.looked / (2 if wish.work.adapted else 3)

    def seconds(count: int) -> float:
        return before or rate * (count * sum(load.tokens) + (count + 1) * look)

    adapted = adapter_parameters(wish.model, wish.work.rank, wish.work.targets) if wish.work.adapted else 0
    flops = training_flops_per_token(
        *(replace(wish.model, vocabulary=load.classes or wish.model.vocabulary), 0, wish.context),
        method=wish.work.method,
        adapters=adapted,
        recompute=arrangement.recompute,
    )
    worked = load.passing if before else tokens
    found = Forecast(
        parameters=count(wish.model),
        flops={name: value * worked for name, value in flops.items()},
        memory=parts,
        steps=epochs * len(load.tokens),
        tokens=tokens,
        tokens_per_second=1 / rate,
        seconds=seconds(epochs),
        seconds_low=seconds(min(epochs, patience + 1) if patience else epochs) * (1 - SPREAD),
        seconds_high=seconds(epochs) * (1 + SPREAD),
    )
    return found, before


def unmeasured(settings: FinetuneSettings, why: str) -> Decided:
    """The decisions for a fine-tuning of which nothing is measured beforehand."""
    values = (settings.batch, False, 0.0)
    return {name: (value, Message(why), {}) for name, value in zip(DECISIONS, values, strict=True)}


def tell(
    wish: TuningWish,
    load: Load,
    settings: FinetuneSettings,
    decisions: Mapping[str, Any],
    output: Path,
    stage: str = "finetune",
) -> Arranged:
    """Write the forecast once, before the first step, and say it; a fine-tuning that goes on leaves it as it is.

    Returns the arrangement that was decided.
    """
    path = output / FILE
    rows, recompute, rate = (decisions[name] for name in DECISIONS)
    found = _with_looks(wish, int(rows), bool(recompute))
    if not path.exists():
        release_memory()
        given = {"epochs": settings.epochs, "patience": settings.patience if load.looked else 0}
        expected, before = forecast_of(wish, found, load, float(rate), **given)
        work = {"rows": load.rows, "context": load.context, "classes": load.classes}
        work |= {"tokens_per_epoch": sum(load.tokens), "pass": load.passing}
        files.make_private(path.parent)
        files.write_json(path, asdict(expected) | {"before": before, "work": work})
    events.emit("forecast", stage=stage, **files.read_json(path))
    return found

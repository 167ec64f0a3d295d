"""What a fine-tuning will need: how its steps fit into memory, measured speed, and the forecast that both give."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from treino import events, files
from treino.measure import release_memory
from treino.messages import N_
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
from treino.training.plan import TrainingPlan
from treino.training.task import Task

DECISIONS = ("finetune.rows_at_once", "finetune.recompute", "finetune.seconds_per_token")
"""What is measured before a fine-tuning and then locked; the last one is for the forecast alone."""

FILE = "records/forecast.json"
STEPS = 3
"""Steps that are timed, of those that are nearest to the mean in what they hold."""


@dataclass(frozen=True)
class Load:
    """What a task puts through the model.

    Attributes:
        rows, context: of the step that takes most, rows and the length to which they are padded.
        tokens: padded tokens by step, of one epoch.
        looked: padded tokens of a look at validation, `vectors` of all texts together (for a frozen body).
        classes: of a classifier; 0: a language model. packed: rows hold several documents.
    """

    rows: int
    context: int
    tokens: Sequence[int]
    looked: int
    texts: int
    classes: int = 0
    packed: bool = False


def architecture(body: LanguageModel) -> Architecture:
    """A model as the planner describes it."""
    if body.family.config:
        return from_configuration(body.family.config)
    return architecture_of(body.settings, body.vocabulary)


def wish_of(
    body: LanguageModel, settings: FinetuneSettings, load: Load, *, old: tuple[int, int] = (0, 0), device: torch.device
) -> TuningWish:
    """A fine-tuning as the planner describes it, beside a base model that is in memory already."""
    frozen, half = settings.method == "frozen", settings.precision == "bfloat16"
    on_cpu = device.type == "cpu"
    kernels = on_cpu and body.settings.architecture == "transformer" and not isinstance(body, GPT2)
    work = Work(
        *(ROWS_LOOKED_AT if frozen else load.rows, load.context),
        precision=settings.precision,
        method=settings.method,
        classes=load.classes,
        rank=settings.lora_rank,
        targets=next((name for name, group in TARGETS.items() if set(group) == set(settings.lora_targets)), "all"),
        packed=load.packed,
        kernels=kernels and half and library() is not None,
        base=base_memory(device),
        accelerator=not on_cpu,
    )
    adapters = bool(body.matrices())
    return TuningWish(
        architecture(body),
        work,
        patience=bool(settings.patience and load.looked),
        anchors=bool(settings.l2_sp) + 2 * bool(settings.ewc),
        distillation=bool(settings.distillation),
        old=old,
        vectors=load.texts * body.settings.width,
        recompute=(False,) if frozen or not adapters else (False, True),
        offers=tuple(_offers(settings, adapters=adapters, four_bits=adapters and not isinstance(body, GPT2))),
        shorter=not settings.base,
    )


def _offers(settings: FinetuneSettings, *, adapters: bool, four_bits: bool) -> Any:
    """What a recipe could ask for instead, the gentlest first."""
    if settings.precision == "float32" and settings.method in ("scratch", "full", "lora"):
        yield "finetune.precision", '"bfloat16"', {"precision": "bfloat16"}
    gentler = {"full": ("lora", "qlora", "frozen"), "lora": ("qlora", "frozen"), "qlora": ("frozen",)}
    for method in gentler.get(settings.method, ()):
        if method not in ADAPTED or (four_bits if method == "qlora" else adapters):
            yield "finetune.method", f'"{method}"', {"method": method}


@dataclass(frozen=True)
class _Chosen:
    """Steps of a source, in another order."""

    source: Any
    steps: Sequence[int]

    def step(self, step: int) -> list[Any]:
        return self.source.step(self.steps[step % len(self.steps)])


def typical_steps(tokens: Sequence[int], wanted: int = STEPS + 1) -> list[int]:
    """Numbers of the steps whose tokens are nearest to the mean."""
    mean = sum(tokens) / len(tokens)
    return sorted(range(len(tokens)), key=lambda step: (abs(tokens[step] - mean), step))[:wanted]


def seconds_per_token(task: Task[Any], plan: TrainingPlan, load: Load) -> float:
    """Measured on a few typical steps of a copy of the model; penalties cost a step next to nothing and are left out."""
    chosen = typical_steps(load.tokens)
    few = replace(task, source=_Chosen(task.source, chosen), penalties=())
    speed = measure_speed(few, plan, steps=STEPS, warm_up=1)
    return speed.seconds_per_step / (sum(load.tokens[step] for step in chosen) / len(chosen))


def decided(arrangement: Arrangement, wish: TuningWish, rate: float) -> dict[str, tuple[Any, str, dict[str, Any]]]:
    """The decisions with their reasons, as the pipeline locks them."""
    whole = arrangement.rows >= wish.batch
    values = (arrangement.rows, arrangement.recompute, float(f"{rate:.4g}"))
    reasons = (
        "all of a step" if whole else "more would not fit into memory",
        "it would not fit into memory otherwise" if arrangement.recompute else "it fits without",
        "measured on a few steps",
    )
    return {name: (value, why, {}) for name, value, why in zip(DECISIONS, values, reasons, strict=True)}


def arranged(wish: TuningWish, device: torch.device) -> Arrangement:
    """The quickest arrangement that fits.

    Raises:
        DoesNotFit: with at most three changes of the recipe, each of which would fit.
    """
    return fitting(wish, wish.work.base, device, N_("take a smaller base model, or shorter texts"))


def forecast_of(
    wish: TuningWish, arrangement: Arrangement, load: Load, epochs: int, rate: float, patience: int
) -> tuple[Forecast, float]:
    """The forecast of one training to its last epoch, and the part of its seconds that comes before the first step.

    seconds = rate · tokens of all epochs + looks, each of which goes forward twice (loss and accuracy), a third of a step's
    work for each token where all is trained, a half under adapters. Frozen: the body's one pass over all texts, for the head's
    steps take next to nothing. The low end is where early stopping ends the training at the first chance.
    """
    passes = -(-wish.batch // arrangement.rows)
    parts = wish.parts(batch=arrangement.rows, accumulation=passes, recompute=arrangement.recompute)
    each = sum(load.tokens)
    if wish.work.method == "frozen":
        tokens, steps = each + load.looked, epochs * len(load.tokens)
        before = seconds = low = rate * tokens
    else:
        tokens, steps, before = epochs * each, epochs * len(load.tokens), 0.0
        look = 2 * load.looked / (2 if wish.work.adapted else 3)
        seconds = rate * (tokens + (epochs + 1) * look)
        least = min(epochs, patience + 1) if patience else epochs
        low = rate * (least * each + (least + 1) * look)
    adapters = adapter_parameters(wish.model, wish.work.rank, wish.work.targets) if wish.work.adapted else 0
    flops = training_flops_per_token(
        *(replace(wish.model, vocabulary=load.classes or wish.model.vocabulary), 0, wish.context),
        method=wish.work.method,
        adapters=adapters,
        recompute=arrangement.recompute,
    )
    found = Forecast(
        parameters=count(wish.model),
        flops={name: value * tokens for name, value in flops.items()},
        memory=parts,
        steps=steps,
        tokens=tokens,
        tokens_per_second=1 / rate,
        seconds=seconds,
        seconds_low=low * (1 - SPREAD),
        seconds_high=seconds * (1 + SPREAD),
    )
    return found, before


def tell(
    wish: TuningWish,
    load: Load,
    settings: FinetuneSettings,
    decisions: dict[str, Any],
    output: Path,
) -> None:
    """Write the forecast once, before the first step, and say it; a fine-tuning that goes on leaves it as it is."""
    path = output / FILE
    if not path.exists():
        release_memory()
        rows, recompute, rate = (decisions[name] for name in DECISIONS)
        given = int(settings.epochs), float(rate), int(settings.patience if load.looked else 0)
        found, before = forecast_of(wish, Arrangement(int(rows), bool(recompute)), load, *given)
        files.make_private(path.parent)
        files.write_json(path, asdict(found) | {"before": before})
    events.emit("forecast", stage="finetune", **files.read_json(path))


def seconds_of_pass(body_pass: Any, tokens: int) -> float:
    """Seconds for each token of a pass, timed at its second go."""
    body_pass()
    started = time.perf_counter()
    body_pass()
    return (time.perf_counter() - started) / tokens

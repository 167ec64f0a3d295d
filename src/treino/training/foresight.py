"""What a fine-tuning will need: how its steps fit into memory, measured speed, and the forecast that both give."""

from __future__ import annotations

import math
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
from treino.models.lora import ALL
from treino.models.nf4 import in_four_bits
from treino.planning.configuration import from_configuration
from treino.planning.fit import Arrangement, smaller
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
        steps: of all epochs together, where they are fewer than there would be; 0: they are all taken.
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
    steps: int = 0


@dataclass(frozen=True)
class Arranged(Arrangement):
    """An arrangement, and how many rows go together where nothing is learnt from them."""

    looked: int = ROWS_LOOKED_AT


def architecture(body: LanguageModel) -> Architecture:
    """A model as the planner describes it."""
    if body.family.config:
        return from_configuration(body.family.config)
    return architecture_of(body.settings, body.vocabulary)


def targets_named(settings: FinetuneSettings) -> str:
    """The planner's name for the layers that get adapters; "all" where it has none."""
    named = set(settings.lora_targets)
    return next((name for name, group in TARGETS.items() if named == set(group)), ALL)


def adapters_of(body: LanguageModel, settings: FinetuneSettings) -> int:
    """Numbers of the adapters that the method trains; 0: of none."""
    if settings.method not in ADAPTED:
        return 0
    return adapter_parameters(architecture(body), settings.lora_rank, targets_named(settings))


def wish_of(
    body: LanguageModel,
    device: torch.device,
    settings: FinetuneSettings,
    load: Load,
    *,
    old: tuple[int, int] = (0, 0),
) -> TuningWish:
    """A fine-tuning as the planner describes it, beside the base model that is in memory already; `old`: rows of old text in a
    step, and their tokens.
    """
    on_cpu, cached = device.type == "cpu", settings.method == "frozen" and load.classes > 0
    half, stream = settings.precision == "bfloat16", settings.stream
    plain, adapters = isinstance(body, GPT2), bool(body.matrices() or in_four_bits(body))
    kernels = on_cpu and adapters and not plain and library() is not None
    work = Work(
        *(ROWS_LOOKED_AT if cached else load.rows, load.context),
        precision="float32" if cached else settings.precision,
        method=settings.method,
        optimiser=settings.optimiser,
        classes=load.classes,
        rank=settings.lora_rank,
        targets=targets_named(settings),
        packed=load.packed,
        kernels=kernels and half,
        stream=stream,
        base=base_memory(device) - _shared(body),
        accelerator=not on_cpu,
    )
    return TuningWish(
        architecture(body),
        work,
        patience=bool(settings.patience and load.looked),
        anchors=bool(settings.l2_sp) + 2 * bool(settings.ewc),
        distillation=bool(settings.distillation),
        old=old,
        vectors=load.texts * body.settings.width if load.classes else 0,
        looked=ROWS_LOOKED_AT if load.classes else load.rows,
        recompute=(True,) if stream else (False,) if settings.method == "frozen" or not adapters else (False, True),
        offers=() if cached else tuple(_offers(settings, kernels, adapters=adapters, four_bits=adapters and not plain)),
        shorter=not settings.base,
    )


def _shared(body: LanguageModel) -> int:
    """Bytes that a copy of the body has in common with it: all, of one in 4 bits (`treino.models.build.copy_of`)."""
    if not in_four_bits(body):
        return 0
    return sum(tensor.nbytes for tensor in (*body.parameters(), *body.buffers()))


def _offers(
    settings: FinetuneSettings, kernels: bool, *, adapters: bool, four_bits: bool
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What a recipe could ask for instead, the gentlest first."""
    if settings.optimiser == "adamw":
        yield "finetune.optimiser", '"adamw8bit"', {"optimiser": "adamw8bit"}
    if settings.precision == "float32":
        yield "finetune.precision", '"bfloat16"', {"precision": "bfloat16", "kernels": kernels}
    if settings.method == "qlora" and not settings.stream:
        yield "finetune.stream", "true", {"stream": True}
    if settings.method in ADAPTED:
        for rank in smaller(settings.lora_rank):
            yield "finetune.lora_rank", str(rank), {"rank": rank}
    gentler = {"full": ("lora", "qlora", "frozen"), "lora": ("qlora", "frozen"), "qlora": ("frozen",)}
    for method in () if settings.stream else gentler.get(settings.method, ()):
        if method not in ADAPTED or (four_bits if method == "qlora" else adapters):
            yield "finetune.method", f'"{method}"', {"method": method}


def arranged(wish: TuningWish, device: torch.device) -> Arranged:
    """The quickest arrangement that fits.

    Raises:
        DoesNotFit: with at most three changes of the recipe, each of which would fit.
    """
    found = fitting(wish, base_memory(device), device, N_("take a smaller base model, or shorter texts"))
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
    speed = measure_speed(few, plan, steps=STEPS, warm_up=STEPS, throw_away=True)
    return speed.seconds_per_step / (sum(load.tokens[step] for step in chosen) / len(chosen))


@torch.no_grad()
def seconds_of_pass(model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Seconds for each token of a forward pass, at its second go."""
    for _ in range(2):
        started = time.perf_counter()
        model(*inputs).sum().item()
    return (time.perf_counter() - started) / inputs[0].numel()


def forecast_of(
    wish: TuningWish,
    arrangement: Arrangement,
    load: Load,
    rate: float,
    *,
    epochs: int,
    patience: int,
    saved_every: float = math.inf,
) -> tuple[Forecast, float]:
    """The forecast of one training to its last epoch, and what of its seconds comes before the first step. Where it takes
    longer than `saved_every` seconds, a checkpoint is written beside it.

    seconds = rate · (tokens of all epochs + those of the looks): a classifier's go forward twice (loss and accuracy), each time
    a third of a step's work for a token where all is trained, a half under adapters, and nearly all of it where the head of a
    language model alone is. A classifier's head alone: rate · the one pass over all texts, for its steps take next to nothing.
    The low end is where early stopping ends it at the first chance.
    """
    passes = -(-wish.batch // arrangement.rows)
    cached = wish.cached
    whole = epochs * len(load.tokens)
    steps = load.steps or whole
    tokens = round(sum(load.tokens) * epochs * steps / whole)
    before = rate * load.passing if cached else 0.0
    look = load.looks * load.looked / {"frozen": 1, "lora": 2, "qlora": 2}.get(wish.work.method, 3)

    def seconds(count: int) -> float:
        return before or rate * (count * sum(load.tokens) * steps / whole + (count + 1) * look)

    adapted = adapter_parameters(wish.model, wish.work.rank, wish.work.targets) if wish.work.adapted else 0
    flops = training_flops_per_token(
        *(replace(wish.model, vocabulary=load.classes or wish.model.vocabulary), 0, wish.context),
        method=wish.work.method,
        adapters=adapted,
        recompute=arrangement.recompute,
    )
    worked = load.passing if cached else tokens
    found = Forecast(
        parameters=count(wish.model),
        flops={name: value * worked for name, value in flops.items()},
        memory=wish.parts(
            batch=arrangement.rows,
            accumulation=passes,
            recompute=arrangement.recompute,
            checkpoints=seconds(epochs) > saved_every,
        ),
        steps=steps,
        tokens=tokens,
        tokens_per_second=1 / rate,
        seconds=seconds(epochs),
        seconds_low=seconds(min(epochs, patience + 1) if patience else epochs) * (1 - SPREAD),
        seconds_high=seconds(epochs) * (1 + SPREAD),
    )
    return found, before


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
        expected, before = forecast_of(
            *(wish, found, load, float(rate)),
            epochs=settings.epochs,
            patience=settings.patience if load.looked else 0,
            saved_every=settings.checkpoint_seconds,
        )
        work = {"rows": load.rows, "context": load.context, "classes": load.classes}
        work |= {"tokens_per_epoch": sum(load.tokens), "pass": load.passing}
        files.make_private(path.parent)
        files.write_json(path, asdict(expected) | {"before": before, "work": work})
    events.emit("forecast", stage=stage, **files.read_json(path))
    return found

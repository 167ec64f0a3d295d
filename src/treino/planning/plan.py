"""What a training will need and cost: memory, time, energy, money and carbon, each with its interval, and the inverse."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from treino.errors import UsageError
from treino.messages import N_, Message
from treino.planning.facts import ApiPrice, Chip, Facts, Price
from treino.planning.flops import METHODS, training_flops_per_token
from treino.planning.inverse import largest, remedies
from treino.planning.memory import host_memory, memory, serving_memory
from treino.planning.model import Model, amount, find_model, from_shape, unknown
from treino.planning.parameters import count
from treino.planning.scaling import FITS, worth
from treino.planning.throughput import Interval, efficiency, exactly
from treino.planning.work import CONTEXT_BYTES, OPTIMISERS, SHARDS, TARGETS, Work

HOUR, DAY = 3600.0, 86400.0
RESERVE = 0.1
"""Part of a card's memory that a plan leaves free."""

POWER = Interval(0.7, 0.9, 1.0)
"""Share of its board power that a busy chip draws: .89 to .93 measured in long runs on the H100; published sums take 1."""

COOLING = 1.1
"""Power of the building for each watt of chips (PUE), as in LLaMA's and Llama 2's accounts."""

LINK = 25e9
"""Bytes per second between a card and its host, of the 31.5e9 that PCIe 4.0 × 16 has on paper."""

TOKENS_PER_PARAMETER = 20.0
"""Tokens of a training from scratch where none are given: Chinchilla's rule of thumb."""

LONGEST = 4096
"""Tokens of a row where none are given, and the model was made for more."""

PRECISIONS = {"fp32": "float32", "float32": "float32", "mixed": "bfloat16", "bf16": "pure"}
"""As a plan calls the formats: mixed keeps weights and optimiser in float32 (the recipe's bfloat16), bf16 keeps nothing so."""


STATES = ("weights", "constants", "float32", "adapters", "gradients", "optimiser")
"""Parts of the memory that stay from step to step."""


@dataclass(frozen=True)
class Wanted:
    """What is to be planned; see `plan`."""

    model: Model
    chip: Chip
    chips: int
    work: Work
    tokens: float | None
    unique: float | None
    price: Interval | None
    grams: float
    cooling: float
    mfu: Interval


@dataclass(frozen=True)
class Plan:
    """The answer. Amounts that the model's or the chip's row leaves open are None.

    Attributes:
        parameters: by part; memory: bytes of one rank by part; states: those of weights, adapters, gradients and optimiser
            together; host: what lies in the host's memory.
        flops_per_token: by part, of the method; flops: of the whole training.
        fits: whether a rank's memory lies within the card's, less the reserve.
        mfu: 6·N·D over the chips' peak; tokens_per_second, seconds, kilowatt_hours, dollars, carbon (kg): of all
            chips together.
        serving: memory of the trained model answering one row.
        loss: by fit, for a training from scratch; optimal_tokens: by fit.
        largest: what would fit at most: {batch, context, parameters}.
        remedies: where it does not fit, changes of options that would: each alone, or all together.
        notes: what a reader must know: prices that are old, shapes that are assumed.
    """

    model: str
    chip: str
    chips: int
    method: str
    parameters: dict[str, int]
    trained: int
    flops_per_token: dict[str, float]
    memory: dict[str, int]
    states: int
    host: dict[str, int]
    serving: dict[str, int]
    room: float
    fits: bool
    mfu: Interval
    tokens: float | None
    flops: float | None
    tokens_per_second: Interval
    seconds: Interval | None
    kilowatt_hours: Interval | None
    dollars: Interval | None
    carbon: Interval | None
    loss: dict[str, Interval]
    optimal_tokens: dict[str, float]
    largest: dict[str, float]
    remedies: tuple[str, ...]
    chips_for_days: Interval | None
    notes: tuple[Message, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON values; the notes in English."""
        values = asdict(replace(self, notes=()))
        return values | {"notes": [note.english() for note in self.notes]}


def plan(
    model: str | None = None,
    *,
    shape: str | None = None,
    tokens: float | str | None = None,
    unique: float | str | None = None,
    method: str = "scratch",
    gpu: str = "A100-80",
    batch: int = 1,
    seq: int | None = None,
    precision: str | None = None,
    recompute: bool = False,
    compiled: bool = False,
    loss: str = "chunks",
    shard: str = "none",
    offload: Sequence[str] = (),
    stream: bool = False,
    optimizer: str = "adamw",
    rank: int = 16,
    targets: str = "all",
    classes: int = 0,
    days: float | None = None,
    price: float | None = None,
    grid: str | float = "us",
    cooling: float = COOLING,
    mfu: float | None = None,
    today: datetime.date | None = None,
    configuration: Path | None = None,
) -> Plan:
    """Plan a training, from numbers alone.

    Args:
        model: a known name, the path of a `config.json`, or a number of parameters (`7B`); or `shape` in its place.
        tokens: of the whole training; without them `scratch` takes 20 a parameter, and other methods leave the time open.
        unique: tokens of text that there are, if the training repeats them.
        method: scratch, full, frozen, lora or qlora.
        gpu: name of a chip, with `:count` for several.
        batch, seq: rows on a chip at a time, and their tokens.
        precision: fp32, mixed or bf16 (the weights, too); by default mixed, for adapters on 16-bit weights.
        shard: what the chips divide: none, optimiser, gradients (and that), weights (and all).
        offload: of optimiser, gradients and activations, what lies in the host's memory; `stream`: frozen weights, too.
        days: how many chips would do it in so many days.
        price: US dollars for an hour of a chip; grid: name of a power grid, or grams of CO2 for a kilowatt-hour.
        mfu: efficiency that was measured, in place of the published runs'.
        configuration: folder with further facts of the user's.

    Raises:
        UsageError: for names that are not known (with the nearest), and numbers without sense.
    """
    asked = locals()
    _check(asked)
    return calculate(*_wanted(asked))


def _wanted(asked: dict[str, Any]) -> tuple[Wanted, float | None, list[Message]]:
    """What `plan` was asked for, with the facts that it needs, and what must be said beside the answer."""
    facts = Facts(asked["configuration"])
    chip, chips = find_chips(asked["gpu"], facts)
    meant = from_shape(asked["shape"]) if asked["shape"] else find_model(asked["model"] or "Llama-2-7B", facts)
    price, mfu, unique = asked["price"], asked["mfu"], asked["unique"]
    wanted = Wanted(
        model=meant,
        chip=chip,
        chips=chips,
        work=_work(meant, asked | {"chips": chips}),
        tokens=_tokens(asked["tokens"], asked["method"], meant),
        unique=amount(str(unique), Message(N_("the unique tokens"))) if unique is not None else None,
        price=exactly(price) if price is not None else _price(chip, facts),
        grams=_grams(asked["grid"], facts),
        cooling=asked["cooling"],
        mfu=exactly(mfu) if mfu is not None else efficiency(chip, facts.runs),
    )
    notes = _notes(wanted, asked["tokens"] is None)
    if price is None:
        notes += price_notes(chip.name, facts.price(chip.name), asked["today"])
    return wanted, asked["days"], notes


def price_notes(name: str, price: Price | ApiPrice | None, today: datetime.date | None = None) -> list[Message]:
    """What must be said of a price: that there is none, that it is somebody else's, or that it is old."""
    if price is None:
        return [Message(N_("no price of {chip} was seen: give --price"), {"chip": name})]
    notes = []
    if isinstance(price, Price) and price.assumed:
        notes.append(Message(N_("no price of {chip} was seen: that of its larger sister is taken"), {"chip": name}))
    if price.stale(today or datetime.date.today()):
        values = {"chip": name, "date": str(price.date)}
        notes.append(Message(N_("the price of {chip} is of {date}, more than a year ago"), values))
    return notes


def calculate(wanted: Wanted, days: float | None = None, notes: Sequence[Message] = (), *, search: bool = True) -> Plan:
    """The answer to what is wanted; `search`: with the loss, and what would fit at most.

    What travels between a card and its host is hidden behind the computation as far as that goes.

    seconds = 6·N·D · (FLOPs of the method / FLOPs of full training) / (chips · peak · MFU), N the parameters that a token
    meets.
    """
    model, work, chip = wanted.model, wanted.work, wanted.chip
    needs = memory(model.architecture, work)
    room = (1 - RESERVE) * chip.memory
    cost = training_flops_per_token(
        *(model.architecture, 0, work.context),
        method=work.method,
        adapters=trained_count(model, work) if work.adapted else 0,
        recompute=work.recompute,
    )
    whole = training_flops_per_token(model.architecture, 0, work.context)["total"]
    per_token = 6 * model.active * cost["total"] / whole
    speed = _no_faster(wanted.mfu * (wanted.chips * chip.tflops * 1e12 / per_token), wanted)
    tokens = wanted.tokens
    seconds = speed.under(tokens) if tokens else None
    hours = seconds * (wanted.chips / HOUR) if seconds else None
    energy = hours.times(POWER * (chip.watts * wanted.cooling / 1000)) if hours else None
    fresh = worth(wanted.unique, tokens) if tokens and wanted.unique else tokens
    scratch = work.method == "scratch" and search
    return Plan(
        model=model.name,
        chip=chip.name,
        chips=wanted.chips,
        method=work.method,
        parameters=count(model.architecture) if not model.assumed else {"total": round(model.parameters)},
        trained=trained_count(model, work),
        flops_per_token=cost,
        memory=needs,
        states=sum(needs[part] for part in STATES),
        host=host_memory(model.architecture, work) if work.offload or work.stream else {},
        serving=serving_memory(model.architecture, work.context),
        room=room,
        fits=needs["total"] <= room,
        mfu=wanted.mfu,
        tokens=tokens,
        flops=per_token * tokens if tokens else None,
        tokens_per_second=speed,
        seconds=seconds,
        kilowatt_hours=energy,
        dollars=hours.times(wanted.price) if hours and wanted.price else None,
        carbon=energy * (wanted.grams / 1000) if energy else None,
        loss={fit.name: fit.interval(model.active, fresh) for fit in FITS} if scratch and fresh else {},
        optimal_tokens={fit.name: fit.optimal_tokens(model.active) for fit in FITS} if scratch else {},
        largest=largest(model.architecture, work, room) if search else {},
        remedies=remedies(model.architecture, work, room) if search and needs["total"] > room else (),
        chips_for_days=seconds * (wanted.chips / (days * DAY)) if seconds and days else None,
        notes=tuple(notes),
    )


def _no_faster(speed: Interval, wanted: Wanted) -> Interval:
    """Tokens per second, no more than the link to the host lets through: in each pass streamed weights come twice, offloaded
    gradients, moments and activations go and come.
    """
    host = host_memory(wanted.model.architecture, wanted.work)
    most = wanted.chips * wanted.work.tokens * LINK / (2 * host["total"]) if host["total"] else math.inf
    return Interval(min(speed.low, most), min(speed.middle, most), min(speed.high, most))


def trained_count(model: Model, work: Work) -> int:
    """How many parameters are trained."""
    from treino.planning.memory import trained_parameters

    return trained_parameters(model.architecture, work)


def find_chips(gpu: str, facts: Facts) -> tuple[Chip, int]:
    """What `NAME` or `NAME:COUNT` means."""
    name, colon, text = gpu.partition(":")
    number = amount(text, Message(N_("the number of chips")), 1e7) if colon else 1
    return facts.chip(name), max(1, math.floor(number))


def _work(model: Model, asked: dict[str, Any]) -> Work:
    longest = model.architecture.context or LONGEST
    return Work(
        batch=asked["batch"],
        context=asked["seq"] or min(longest, LONGEST),
        precision=PRECISIONS[asked["precision"] or "mixed"],
        method=asked["method"],
        optimiser=asked["optimizer"],
        loss=asked["loss"],
        classes=asked["classes"],
        rank=asked["rank"],
        targets=asked["targets"],
        recompute=asked["recompute"],
        compiled=asked["compiled"],
        packed=False,
        ranks=asked["chips"],
        shard=asked["shard"],
        offload=frozenset(asked["offload"]),
        stream=asked["stream"],
        base=CONTEXT_BYTES,
        accelerator=True,
    )


def _tokens(tokens: float | str | None, method: str, model: Model) -> float | None:
    if tokens is not None:
        return amount(str(tokens), Message(N_("the number of tokens")), 1e18)
    return TOKENS_PER_PARAMETER * model.active if method == "scratch" else None


def _price(chip: Chip, facts: Facts) -> Interval | None:
    price = facts.price(chip.name)
    return Interval(price.low, price.typical, price.high) if price else None


def _grams(grid: str | float, facts: Facts) -> float:
    try:
        return float(grid)
    except ValueError:
        return facts.find("grid", str(grid))["grams"]


CHOICES = {
    "method": METHODS,
    "precision": tuple(PRECISIONS),
    "shard": SHARDS,
    "optimizer": tuple(OPTIMISERS),
    "targets": tuple(TARGETS),
    "loss": ("chunks", "split", "whole"),
}
BOUNDS = {
    "batch": (1, 1 << 20),
    "seq": (1, 1 << 24),
    "rank": (1, 1 << 16),
    "classes": (0, 1 << 20),
    "days": (1e-6, 1e5),
    "price": (0, 1e6),
    "cooling": (1, 10),
    "mfu": (1e-4, 1),
}
"""What a plan's numbers may be: from, to."""


def _check(asked: dict[str, Any]) -> None:
    """Refuse names that are not known and numbers without sense."""
    for name, known in CHOICES.items():
        if asked[name] is not None and asked[name] not in known:
            raise unknown(str(asked[name]), list(known), N_("there is no {name}"), f"--{name}")
    for part in asked["offload"]:
        if part not in ("optimiser", "gradients", "activations"):
            raise unknown(
                part, ["optimiser", "gradients", "activations"], N_("{name} cannot be offloaded"), "--offload"
            )
    for name, (low, high) in BOUNDS.items():
        value = asked[name]
        if value is not None and not (isinstance(value, int | float) and low <= value <= high):
            raise UsageError(
                N_("{name} must lie between {low:raw} and {high:raw}, not {value}"),
                where=f"--{name}",
                name=name,
                low=low,
                high=high,
                value=repr(value),
            )
    if asked["stream"] and asked["method"] not in ("lora", "qlora", "frozen"):
        raise UsageError(
            N_("only weights that stay as they are can be streamed"), fix=N_("take the method lora, qlora or frozen")
        )


def _notes(wanted: Wanted, assumed_tokens: bool) -> list[Message]:
    """What a reader must know beside the figures."""
    notes = []
    if wanted.model.assumed:
        notes.append(Message(N_("only the size of this model is known; its shape is assumed to be like Llama's")))
    if assumed_tokens and wanted.tokens:
        notes.append(
            Message(N_("no tokens were given: {tokens} are taken, 20 for each parameter"), {"tokens": wanted.tokens})
        )
    longest = wanted.model.architecture.context
    if longest and wanted.work.context > longest:
        notes.append(Message(N_("this model was made for rows of at most {longest} tokens"), {"longest": longest}))
    if not wanted.chip.bf16 and wanted.work.precision != "float32":
        notes.append(
            Message(N_("{chip} has no bfloat16: fp16 is meant, which needs a scaled loss"), {"chip": wanted.chip.name})
        )
    return notes

"""What a plan is asked for: from the names and numbers of a command to chips, model, work and prices."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any

from treino.errors import UsageError
from treino.messages import N_, Message
from treino.planning.facts import ApiPrice, Chip, Facts, Price
from treino.planning.flops import METHODS
from treino.planning.model import Model, amount, find_model, from_shape, unknown
from treino.planning.throughput import Interval, efficiency, exactly
from treino.planning.work import CONTEXT_BYTES, OPTIMISERS, SHARDS, TARGETS, Work

TOKENS_PER_PARAMETER = 20.0
"""Tokens of a training from scratch where none are given: Chinchilla's rule of thumb."""

LONGEST = 4096
"""Tokens of a row where none are given, and the model was made for more."""

PRECISIONS = {"fp32": "float32", "float32": "float32", "mixed": "bfloat16", "bf16": "pure"}
"""As a plan calls the formats: mixed keeps weights and optimiser in float32 (the recipe's bfloat16), bf16 keeps nothing so."""

CHOICES = {
    "method": METHODS,
    "precision": tuple(PRECISIONS),
    "shard": SHARDS,
    "optimizer": tuple(OPTIMISERS),
    "targets": tuple(TARGETS),
    "loss": ("chunks", "split", "whole"),
}
OFFLOADED = ("optimiser", "gradients", "activations")
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

GRAMS = (0, 1e5)
"""Of CO₂ for a kilowatt-hour, where no power grid is named."""


@dataclass(frozen=True)
class Wanted:
    """What is to be planned; see `treino.planning.plan.plan`."""

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


def what_is_wanted(asked: dict[str, Any]) -> tuple[Wanted, float | None, list[Message]]:
    """What `treino.planning.plan.plan` was asked for, with the facts that it needs; the days that it may take; and what must be
    said beside the answer.

    Raises:
        UsageError: for names that are not known (with the nearest), and numbers without sense.
    """
    _check(asked)
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


def _check(asked: dict[str, Any]) -> None:
    """Refuse names that are not known and numbers without sense."""
    for name, known in CHOICES.items():
        if asked[name] is not None and asked[name] not in known:
            raise unknown(str(asked[name]), list(known), N_("there is no {name}"), f"--{name}")
    for part in asked["offload"]:
        if part not in OFFLOADED:
            raise unknown(part, list(OFFLOADED), N_("{name} cannot be offloaded"), "--offload")
    for name, bounds in BOUNDS.items():
        if asked[name] is not None:
            _within(name, asked[name], bounds)
    if asked["stream"] and asked["method"] not in ("lora", "qlora", "frozen"):
        raise UsageError(
            N_("only weights that stay as they are can be streamed"), fix=N_("take the method lora, qlora or frozen")
        )


def _within(name: str, value: Any, bounds: tuple[float, float]) -> None:
    low, high = bounds
    if not (isinstance(value, int | float) and low <= value <= high):
        raise UsageError(
            N_("{name} must lie between {low:raw} and {high:raw}, not {value}"),
            where=f"--{name}",
            name=name,
            low=low,
            high=high,
            value=repr(value),
        )


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
        grams = float(grid)
    except ValueError:
        return facts.find("grid", str(grid))["grams"]
    _within("grid", grams, GRAMS)
    return grams


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


def find_chips(gpu: str, facts: Facts) -> tuple[Chip, int]:
    """What `NAME` or `NAME:COUNT` means."""
    name, colon, text = gpu.partition(":")
    number = amount(text, Message(N_("the number of chips")), 1e7) if colon else 1
    return facts.chip(name), max(1, math.floor(number))

"""What a training will need and cost: memory, time, energy, money and carbon, each with its interval, and the inverse."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from treino.messages import Message
from treino.planning.flops import training_flops_per_token
from treino.planning.inverse import largest, remedies
from treino.planning.memory import host_memory, memory, serving_memory, trained_parameters
from treino.planning.parameters import count
from treino.planning.scaling import FITS, worth
from treino.planning.throughput import Interval
from treino.planning.wanted import Wanted, what_is_wanted

HOUR, DAY = 3600.0, 86400.0
RESERVE = 0.1
"""Part of a card's memory that a plan leaves free."""

POWER = Interval(0.7, 0.9, 1.0)
"""Share of its board power that a busy chip draws: .89 to .93 measured in long runs on the H100; published sums take 1."""

COOLING = 1.1
"""Power of the building for each watt of chips (PUE), as in LLaMA's and Llama 2's accounts."""

LINK = 25e9
"""Bytes per second between a card and its host, of the 31.5e9 that PCIe 4.0 × 16 has on paper."""

STATES = ("weights", "constants", "float32", "adapters", "gradients", "optimiser")
"""Parts of the memory that stay from step to step."""


@dataclass(frozen=True)
class Plan:
    """The answer. Amounts that the model's or the chip's row leaves open are None.

    Attributes:
        parameters: by part; active: how many a token meets, of experts the chosen ones.
        memory: bytes of one rank by part; states: those of weights, adapters, gradients and optimiser together; host: what
            lies in the host's memory.
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
    active: int
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
    return calculate(*what_is_wanted(locals()))


def calculate(wanted: Wanted, days: float | None = None, notes: Sequence[Message] = (), *, search: bool = True) -> Plan:
    """The answer to what is wanted; `search`: with the loss, and what would fit at most.

    What travels between a card and its host is hidden behind the computation as far as that goes.

    seconds = 6·N·D · (FLOPs of the method / FLOPs of full training) / (chips · peak · MFU), N the parameters that a token
    meets.
    """
    model, work, chip = wanted.model, wanted.work, wanted.chip
    needs = memory(model.architecture, work)
    room = (1 - RESERVE) * chip.memory
    trained = trained_parameters(model.architecture, work)
    cost = training_flops_per_token(
        *(model.architecture, 0, work.context),
        method=work.method,
        adapters=trained if work.adapted else 0,
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
        active=round(model.active),
        trained=trained,
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

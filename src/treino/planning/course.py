"""The course's four bars (parameters, cost, chips, days) beside the calculated ones, and what really happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from treino.planning.claims import Graded, check
from treino.planning.facts import Facts
from treino.planning.model import find_model
from treino.planning.plan import DAY, HOUR
from treino.planning.throughput import Interval, efficiency, exactly

CHIP = "A100-80"
"""The chip that the course counts in."""

PANELS = ("parameters", "usd", "chips", "days")


@dataclass(frozen=True)
class Bar:
    """One model of the course: what it says, what is calculated, and what happened, by panel; and the course's claim graded.

    Calculated: parameters exactly, from the published shape; cost at today's price of a chip-hour; chips for the course's
    days, days for the course's chips. The interval spans the FLOPs' estimates and the efficiency of published runs.
    """

    name: str
    said: dict[str, float]
    calculated: dict[str, Interval | None]
    happened: dict[str, Any]
    graded: Graded


def course(facts: Facts) -> list[Bar]:
    """The four models."""
    return [_bar(row, facts) for row in facts.rows.get("bar", {}).values()]


def _bar(row: dict[str, Any], facts: Facts) -> Bar:
    chip = facts.chip(CHIP)
    seconds = _chip_seconds(row["flops"], efficiency(chip, facts.runs), chip.tflops * 1e12)
    model = find_model(row["model"], facts)
    price = facts.price(CHIP)
    calculated: dict[str, Interval | None] = {
        "parameters": None if model.assumed else exactly(model.parameters),
        "usd": (seconds * (1 / HOUR)).times(Interval(price.low, price.typical, price.high)) if price else None,
        "chips": seconds * (1 / (row["days"] * DAY)),
        "days": seconds * (1 / (row["chips"] * DAY)),
    }
    claim = {"name": row["name"], "chip": CHIP} | {key: row[key] for key in ("flops", "chips", "days", "usd")}
    said = {"parameters": row["parameters"] * 1e9} | {key: float(row[key]) for key in PANELS[1:]}
    return Bar(row["name"], said, calculated, row.get("happened", {}), check(claim, facts))


def _chip_seconds(flops: list[float], mfu: Interval, peak: float) -> Interval:
    """Chip-seconds of the work, from the least of it at the best efficiency to the most at the worst."""
    low, high = flops
    middle = (low * high) ** 0.5
    return Interval(low / (peak * mfu.high), middle / (peak * mfu.middle), high / (peak * mfu.low))

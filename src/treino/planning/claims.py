"""What others claim of a training, held against what a chip can do: possible, beyond anything published, or impossible."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino.errors import UsageError
from treino.messages import N_
from treino.planning.facts import Facts
from treino.planning.model import unknown
from treino.planning.tables import is_number, read_table

BEST = 0.642
"""The best efficiency published of steady steps: A100-80 in llm-foundry's 216 rows. Whole runs stay below it."""

POSSIBLE, BEYOND, IMPOSSIBLE = N_("possible"), N_("beyond anything published"), N_("impossible")

FIELDS = ("name", "parameters", "tokens", "flops", "chip", "chips", "hours", "days", "usd", "source", "date")
"""What a claim may say: parameters and tokens (or flops), chips, hours or days, and US dollars. A number may be a range
[least, most]."""


@dataclass(frozen=True)
class Graded:
    """A claim's efficiency (6·N·D over the peak of its chips) and price of a chip-hour, least and most over its inputs.

    `grades`: of the least and of the most; None where the claim does not say enough.
    """

    name: str
    mfu: tuple[float, float] | None
    dollars_per_hour: tuple[float, float] | None
    chip: str

    @property
    def grades(self) -> tuple[str, str] | None:
        return (grade(self.mfu[0]), grade(self.mfu[1])) if self.mfu else None


def grade(mfu: float) -> str:
    """What an efficiency says of a claim."""
    return IMPOSSIBLE if mfu > 1 else BEYOND if mfu > BEST else POSSIBLE


def check_file(path: Path, facts: Facts) -> list[Graded]:
    """Grade the claims `[[claim]]` of a TOML file.

    Raises:
        UsageError: for a file that cannot be read, an unknown field or chip, and numbers without sense.
    """
    claims = read_table(path).get("claim")
    if not isinstance(claims, list) or not claims or not all(isinstance(claim, dict) for claim in claims):
        raise UsageError(N_("there is no claim in it: each is a table [[claim]]"), where=str(path))
    return [check(claim, facts, str(path)) for claim in claims]


def check(claim: Mapping[str, Any], facts: Facts, where: str | None = None) -> Graded:
    """Grade one claim."""
    for field in claim:
        if field not in FIELDS:
            raise unknown(field, list(FIELDS), N_("a claim has no {name}"), where)
    ends = {name: _range(claim, name, where) for name in FIELDS[1:4] + FIELDS[5:9] if name in claim}
    chip = facts.chip(str(claim.get("chip", "A100-80")))
    flops = _flops(ends)
    hours = ends.get("hours") or (tuple(24 * value for value in ends["days"]) if "days" in ends else None)
    mfu = price = None
    if hours and "chips" in ends:
        chip_hours = [chips * hour for chips, hour in itertools.product(ends["chips"], hours)]
        if flops:
            shares = [value / (spent * 3600 * chip.tflops * 1e12) for value in flops for spent in chip_hours]
            mfu = min(shares), max(shares)
        if "usd" in ends:
            prices = [dollars / spent for dollars in ends["usd"] for spent in chip_hours]
            price = min(prices), max(prices)
    return Graded(str(claim.get("name", "")), mfu, price, chip.name)


def _flops(ends: Mapping[str, tuple[float, float]]) -> tuple[float, ...] | None:
    """Given, or 6·N·D with parameters and tokens in billions."""
    if "flops" in ends:
        return ends["flops"]
    if "parameters" in ends and "tokens" in ends:
        return tuple(6 * n * d * 1e18 for n, d in itertools.product(ends["parameters"], ends["tokens"]))
    return None


def _range(claim: Mapping[str, Any], name: str, where: str | None) -> tuple[float, float]:
    value = claim[name]
    values = value if isinstance(value, list) else [value]
    good = 1 <= len(values) <= 2 and all(is_number(end, above=True) for end in values)
    if not good or values[0] > values[-1]:
        raise UsageError(
            N_("{name} must be a number above 0, or a range [least, most], not {value}"),
            where=where,
            name=name,
            value=repr(value)[:40],
        )
    return float(values[0]), float(values[-1])

"""Dated facts of the world: chips, prices, models and published runs, which a user extends in files of their own."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from treino.errors import UsageError
from treino.messages import N_
from treino.planning.tables import MOST, is_number, read_table

FOLDER = Path(__file__).parent / "data"
FILES = ("hardware", "prices", "models", "runs", "course", "evidence")
STALE_DAYS = 365
"""A price that was seen longer ago is flagged."""

CREDIBLE = (0.1, 0.7)
"""Efficiencies between which a published run is learnt from. The best steady state of llm-foundry's 216 rows is .642; figures
that make a whole run better than that, or a tenth of it, contradict themselves."""


@dataclass(frozen=True)
class Chip:
    """An accelerator: dense `tflops` of 16-bit matrix products, memory in bytes and its speed in bytes/s, power in watts."""

    name: str
    tflops: float
    memory: float
    bandwidth: float
    watts: float
    bf16: bool = True

    @property
    def balance(self) -> float:
        """FLOPs that it can do while it reads a byte: the higher, the harder it is to keep busy."""
        return self.tflops * 1e12 / self.bandwidth


@dataclass(frozen=True)
class Price:
    """US dollars for an hour of a chip, with the ends of what was seen, and when; `assumed`: none of its own was seen."""

    low: float
    typical: float
    high: float
    date: datetime.date
    source: str = ""
    assumed: bool = False

    def stale(self, today: datetime.date) -> bool:
        """Whether it was seen more than a year ago."""
        return (today - self.date).days > STALE_DAYS


@dataclass(frozen=True)
class ApiPrice:
    """US dollars for a million tokens read and written."""

    name: str
    input: float
    output: float
    date: datetime.date
    source: str = ""

    def stale(self, today: datetime.date) -> bool:
        return (today - self.date).days > STALE_DAYS


@dataclass(frozen=True)
class Run:
    """A published training run. `mfu`: 6·N·D / (chip-seconds · peak), end to end unless its source gives steps alone.

    `learnt`: whether throughput is learnt from it; a run that is told but not comparable is not.
    """

    name: str
    parameters: float
    tokens: float
    chip: Chip
    mfu: float
    learnt: bool
    row: Mapping[str, Any]


class Facts:
    """All rows, by kind and name. Names are found whatever their case, with the nearest offered for one that is not there."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: where a user keeps files of the same names; their rows replace those of the same name."""
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        for place in (FOLDER, folder):
            for name in FILES:
                if place is not None and (file := place / f"{name}.toml").is_file():
                    self._read(file)

    def _read(self, file: Path) -> None:
        for kind, rows in read_table(file).items():
            for row in rows if isinstance(rows, list) else [None]:
                if not isinstance(row, dict) or not isinstance(row.get("name"), str):
                    raise UsageError(
                        N_("every row of {kind} must be a table [[{kind}]] with a name"), where=str(file), kind=kind
                    )
                self._check(kind, row, file)
                self.rows.setdefault(kind, {})[row["name"]] = row

    def _check(self, kind: str, row: Mapping[str, Any], file: Path) -> None:
        for field in NEEDED.get(kind, ()):
            if field not in row:
                raise UsageError(N_("{name} does not say {key}"), where=str(file), name=row["name"], key=field)
        if kind == "run" and not {"chip_hours", "tflops_per_chip"} & row.keys():
            raise UsageError(N_("{name} does not say {key}"), where=str(file), name=row["name"], key="chip_hours")
        names = row.get("aliases", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError(N_("the aliases of {name} must be a list of texts"), where=str(file), name=row["name"])
        for key, value in row.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            positive = kind in ("chip", "run") or key in SIZES
            if (number or key in SIZES or (key in NEEDED.get(kind, ()) and key not in NOT_NUMBERS)) and not is_number(
                value, above=positive
            ):
                raise UsageError(
                    N_("{key} of {name} must be a number above 0, not {value}")
                    if positive
                    else N_("{key} of {name} must be a number that is not negative, not {value}"),
                    where=str(file),
                    key=key,
                    name=row["name"],
                    value=repr(value)[:40],
                )
        for key in RANGES.get(row["name"], OF_A_METHOD) if kind == "evidence" else ():
            ends: Any = row.get(key)
            numbers = isinstance(ends, list) and all(is_number(end, -MOST) for end in ends)
            if not (numbers and len(ends) == 2 and ends[0] <= ends[1]):
                raise UsageError(
                    N_("{key} of {name} must be two rising numbers, such as [5, 15]"),
                    where=str(file),
                    key=key,
                    name=row["name"],
                )
        if kind == "chip_hour" and not row["low"] <= row["typical"] <= row["high"]:
            raise UsageError(N_("of {name}, low, typical and high must rise"), where=str(file), name=row["name"])
        if "date" in row and type(row["date"]) is not datetime.date:
            raise UsageError(N_("the date of {name} is written as 2026-11-22"), where=str(file), name=row["name"])

    def find(self, kind: str, name: str) -> dict[str, Any]:
        """The row of a name or of one of its other names.

        Raises:
            UsageError: with the nearest name.
        """
        known = self._names(kind)
        row = known.get(_plain(name))
        if row is not None:
            return row
        near = difflib.get_close_matches(_plain(name), known, n=1, cutoff=0.5)
        raise UsageError(
            NOBODY.get(kind, NOBODY["model"]),
            fix=N_("did you mean {guess}?") if near else N_("known are {names}"),
            name=name,
            guess=known[near[0]]["name"] if near else "",
            names=", ".join(self.rows.get(kind, {})),
        )

    def _names(self, kind: str) -> dict[str, dict[str, Any]]:
        rows = self.rows.get(kind, {}).values()
        names = {_plain(alias): row for row in rows for alias in row.get("aliases", [])}
        return names | {_plain(row["name"]): row for row in rows}

    def chip(self, name: str) -> Chip:
        row = self.find("chip", name)
        return Chip(
            row["name"],
            row["tflops"],
            row["memory_gb"] * 1e9,
            row["bandwidth_tb"] * 1e12,
            row["watts"],
            row.get("bf16", True),
        )

    def price(self, chip: str) -> Price | None:
        """What an hour of a chip costs, or None where no price was seen."""
        row = self._names("chip_hour").get(_plain(chip))
        if row is None:
            return None
        source, assumed = row.get("source", ""), bool(row.get("assumed"))
        return Price(row["low"], row["typical"], row["high"], row["date"], source, assumed)

    def api(self, name: str) -> ApiPrice:
        row = self.find("api", name)
        return ApiPrice(row["name"], row["input"], row["output"], row["date"], row.get("source", ""))

    @cached_property
    def runs(self) -> list[Run]:
        """Every published run."""
        return [self._run(row) for row in self.rows.get("run", {}).values()]

    def _run(self, row: Mapping[str, Any]) -> Run:
        chip = self.chip(str(row["chip"]))
        flops = 6 * row["parameters"] * 1e9 * row["tokens"] * 1e9
        if "tflops_per_chip" in row:
            mfu = row["tflops_per_chip"] / chip.tflops
        else:
            mfu = flops / (row["chip_hours"] * 3600 * chip.tflops * 1e12)
        learnt = "other" not in row and CREDIBLE[0] <= mfu <= CREDIBLE[1]
        return Run(row["name"], row["parameters"] * 1e9, row["tokens"] * 1e9, chip, mfu, learnt, row)


NEEDED = {
    "chip": ("tflops", "memory_gb", "bandwidth_tb", "watts"),
    "chip_hour": ("low", "typical", "high", "date"),
    "api": ("input", "output", "date"),
    "grid": ("grams",),
    "run": ("parameters", "tokens", "chip"),
}
"""What a row must say, by kind."""

OF_A_METHOD = ("narrow", "broad", "control", "risk", "setup")
RANGES = {"reference": OF_A_METHOD[:2], "doubling": OF_A_METHOD[:2], "personal": ("risk",)}
"""What a row of evidence must say, each from and to; of those that are not of a method."""

SIZES = ("parameters", "active", "chip_hours", "tflops_per_chip")
"""Numbers above 0 in rows of any kind."""

NOT_NUMBERS = ("date", "chip")
"""What of it is no number."""

NOBODY = {
    "chip": N_("there is no chip {name}"),
    "api": N_("there is no price of an API {name}"),
    "grid": N_("there is no power grid {name}"),
    "model": N_("there is no model {name}"),
}


def _plain(name: str) -> str:
    """A name without case and signs, as people type it."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())

"""What comparisons that were measured here (`treino compare`) say of how well the methods do, as ranges."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino.errors import UsageError, reason_of
from treino.messages import N_
from treino.planning.tables import is_number
from treino.planning.throughput import Interval

FOLDER, FILE = "comparisons", "comparison.json"

ANCHOR = "full"
"""The method that the others are counted from: how well it does beside a prompted model is left to cited evidence."""

METHODS = ("frozen", "lora", "qlora")
"""Methods that mean the same in a comparison and in advice. Training from scratch does not: there it is the labelled rows alone
that are learnt, here a model is pretrained on the company's text first.
"""

EIGHTY = 1.2816 / 1.96
"""Half width of an interval of 80 % over that of one of 95 %."""

TRANSFER = 4.0
"""Points by which the difference of two methods on one model may differ on another (80 %): an assumption, and the reason why a
pilot on the very model is worth more.
"""

SAME_SIZE = 0.05
"""Models whose parameters differ by less than this share are taken for the same."""


@dataclass(frozen=True)
class Measured:
    """One comparison: its name, parameters of its model, and points of macro-F1 that each method has over full fine-tuning."""

    name: str
    parameters: float
    differences: Mapping[str, Interval]


def read_comparison(source: str, runs: Path | None = None, beside: Path | None = None) -> Measured:
    """By the path of a `comparison.json` or of its folder (from the folder `beside` which it is named), or by the name that it
    has in the runs folder.

    Raises:
        UsageError: for one that is not there, is no comparison, or has nothing to count from.
    """
    places = [(beside or Path()) / source]
    places += [runs / FOLDER / source] if runs else []
    found = [place / FILE if place.is_dir() else place for place in places]
    path = next((place for place in found if place.is_file()), None)
    if path is None:
        known = sorted(item.parent.name for item in (runs / FOLDER).glob(f"*/{FILE}")) if runs else []
        raise UsageError(
            N_("there is no comparison {source}"),
            fix=N_("known are: {known}") if known else N_("make one: treino compare RECIPE"),
            source=source,
            known=", ".join(known),
        )
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(N_("cannot read {path}: {reason}"), path=str(path), reason=reason_of(error)) from None
    if isinstance(content, dict) and content.get("pilot"):
        raise UsageError(
            N_("{path} is a pilot: what it says was extrapolated, and not measured"),
            fix=N_("make one: treino compare RECIPE"),
            path=str(path),
        )
    try:
        return _measured(content)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(
            N_("{path} is no comparison of methods with full fine-tuning among them"),
            fix=N_("make one: treino compare RECIPE"),
            path=str(path),
        ) from None


def _measured(content: Mapping[str, Any]) -> Measured:
    rows = {row["method"]: row for row in content["rows"] if not row.get("refused")}
    points = {method: _points(rows[method]["macro_f1"]) for method in (ANCHOR, *METHODS) if method in rows}
    anchor = points.pop(ANCHOR)
    differences = {method: _difference(found, anchor) for method, found in points.items()}
    return Measured(str(content["name"]), float(rows[ANCHOR]["total"]), differences)


def _points(share: Mapping[str, Any]) -> Interval:
    """A share with its 95 % interval as points of 100 with that of 80 %."""
    low, mean, high = (share[end] for end in ("low", "mean", "high"))
    if not all(is_number(value) and value <= 1 for value in (low, mean, high)):
        raise ValueError(share)
    return Interval(100 * (mean + EIGHTY * (low - mean)), 100 * mean, 100 * (mean + EIGHTY * (high - mean)))


def _difference(one: Interval, other: Interval) -> Interval:
    """One less the other, as if they were independent: both were judged on the same rows, so that this is rather too wide."""
    middle = one.middle - other.middle
    low = math.hypot(one.middle - one.low, other.high - other.middle)
    return Interval(middle - low, middle, middle + math.hypot(one.high - one.middle, other.middle - other.low))


def beside_cited(cited: Interval, anchor: Interval, seen: Iterable[Interval]) -> Interval:
    """A method's points over the reference, from cited evidence and from measured differences to `anchor`: each is a range, and
    the more certain weighs more (inverse squares of half widths).
    """
    ranges = [cited] + [
        Interval(
            anchor.middle + one.middle - math.hypot(_half(anchor), _half(one)),
            anchor.middle + one.middle,
            anchor.middle + one.middle + math.hypot(_half(anchor), _half(one)),
        )
        for one in seen
    ]
    weights = [_half(one) ** -2 for one in ranges]
    middle = sum(weight * one.middle for weight, one in zip(weights, ranges, strict=True)) / sum(weights)
    between = sum(weight * (one.middle - middle) ** 2 for weight, one in zip(weights, ranges, strict=True)) / sum(
        weights
    )
    half = math.hypot(sum(weights) ** -0.5, math.sqrt(between))
    return Interval(middle - half, middle, middle + half)


def _half(interval: Interval) -> float:
    return max(0.5, (interval.high - interval.low) / 2)


def differences_for(method: str, parameters: float, comparisons: Sequence[Measured]) -> list[tuple[str, Interval]]:
    """What the comparisons say of a method on a model of this size: (name, points over full fine-tuning); on another model the
    range is wider by `TRANSFER`.
    """
    found = []
    for one in comparisons:
        if method not in one.differences:
            continue
        seen = one.differences[method]
        same = abs(one.parameters / parameters - 1) < SAME_SIZE
        half = 0.0 if same else TRANSFER
        low, high = math.hypot(seen.middle - seen.low, half), math.hypot(seen.high - seen.middle, half)
        found.append((one.name, Interval(seen.middle - low, seen.middle, seen.middle + high)))
    return found

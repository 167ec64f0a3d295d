"""The page of `treino compare`: methods side by side as a table, four panels of bars, and quality over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from treino.messages import N_
from treino.recipe import PROMPT
from treino.report.bars import Bar, bars
from treino.report.curves import HEIGHT, WIDTH, axis
from treino.report.labels import METHODS
from treino.report.page import Section, page
from treino.report.writer import UNKNOWN, Writer, escape, table

COLUMNS = (
    ("macro_f1", N_("macro-F1")),
    ("accuracy", N_("accuracy")),
    ("seconds", N_("time")),
    ("row_seconds", N_("time of 1,000 test rows")),
    ("peak_memory", N_("memory, peak")),
    ("trainable", N_("trainable parameters")),
    ("total", N_("parameters")),
    ("forgetting", N_("forgotten, nats a token")),
    ("cost", N_("cost")),
)
"""What is compared, in the order of the table; the cost is calculated from the time, all else is measured."""

PANELS = ("macro_f1", "seconds", "peak_memory", "trainable")


def figure(row: Mapping[str, Any], name: str) -> float | None:
    """A row's figure as one number."""
    value = row[name]
    return value["mean"] if isinstance(value, Mapping) else value


def columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The columns that any row has a figure for."""
    return [(name, title) for name, title in COLUMNS if any(row[name] is not None for row in rows)]


def shown(row: Mapping[str, Any], name: str, writer: Writer) -> str:
    """A figure in its unit, a share with its interval."""
    value = row[name]
    if isinstance(value, Mapping):
        ends = f"{writer.number(value['low'], 3)} … {writer.number(value['high'], 3)}"
        return f"{writer.number(value['mean'], 3)} <small>[{ends}]</small>"
    by_name: dict[str, Callable[[Any], str]] = {
        "seconds": writer.seconds,
        "row_seconds": lambda seconds: UNKNOWN if seconds is None else writer.seconds(1000 * seconds),
        "peak_memory": writer.bytes,
    }
    if name in by_name:
        return by_name[name](value)
    return writer.number(value, {"forgetting": 3, "cost": 4}.get(name))


def comparison_page(found: Mapping[str, Any], language: str) -> str:
    """One HTML document that asks for nothing from outside; `found`: what `treino.pipeline.comparison.compare` returns."""
    writer, rows = Writer(language), found["rows"]
    parts = [
        ("table", N_("The methods side by side"), _table(rows, writer)),
        ("panels", N_("In pictures"), _panels(rows, writer)),
        ("trade", N_("Quality over time"), _trade(rows, writer)),
    ]
    header = f"<header><h1>{escape(found['name'])}</h1></header>"
    sections = [Section(anchor, writer.say(title), body) for anchor, title, body in parts]
    return page(writer, escape(found["name"]), header, sections)


def _table(rows: Sequence[Mapping[str, Any]], writer: Writer) -> str:
    known = columns(rows)
    scratch = next((row for row in rows if row["method"] == "scratch"), None)
    body = []
    for row in rows:
        cells = [shown(row, name, writer) + _share(row, scratch, name, writer) for name, _ in known]
        body.append([writer.label(row["method"], METHODS), *cells])
    lead = writer.say(
        N_(
            "The same rows, split and seed for every method; all figures are measured, the cost is calculated from the time. "
            "In brackets: 95 % intervals over the test rows. In percent: of what training from scratch has."
        )
    )
    if any(row["method"] == PROMPT for row in rows):
        lead += " " + writer.say(
            N_("A prompt trains nothing: its cost is that of its answers, in US dollars by the table of prices.")
        )
    return f'<p class="lead">{lead}</p>' + table([writer.say(N_("method")), *(writer.say(t) for _, t in known)], body)


def _share(row: Mapping[str, Any], scratch: Mapping[str, Any] | None, name: str, writer: Writer) -> str:
    """A figure over that of `scratch`, in percent."""
    if scratch is None or row is scratch or name == "forgetting":
        return ""
    mine, theirs = figure(row, name), figure(scratch, name)
    return f" <small>({writer.percent(mine / theirs, 0)})</small>" if mine is not None and theirs else ""


def _panels(rows: Sequence[Mapping[str, Any]], writer: Writer) -> str:
    titles = dict(COLUMNS)
    parts = []
    for name in PANELS:
        values = {row["method"]: figure(row, name) for row in rows}
        present = [row for row in rows if values[row["method"]] is not None]
        if not present:
            continue
        drawn = [
            Bar(
                writer.label(row["method"], METHODS),
                values[row["method"]] or 0.0,
                shown(row, name, writer),
                *((row[name]["low"], row[name]["high"]) if isinstance(row[name], Mapping) else (None, None)),
                kind="model",
            )
            for row in present
        ]
        most = 1.0 if name == "macro_f1" else max(bar.value for bar in drawn)
        parts.append(f"<h3>{writer.say(titles[name])}</h3>{bars(drawn, most)}")
    return "".join(parts)


def _trade(rows: Sequence[Mapping[str, Any]], writer: Writer) -> str:
    """Each method as a point: time to the right in powers of ten, macro-F1 upwards; the line joins those that none beats."""
    points = [
        (row["method"], math.log10(max(row["seconds"], 1e-3)), row["macro_f1"]["mean"])
        for row in rows
        if row["seconds"]
    ]
    if len(points) < 2:
        return ""
    wide = max(x for _, x, _ in points) - min(x for _, x, _ in points) or 1.0
    right = axis(min(x for _, x, _ in points) - 0.15 * wide, max(x for _, x, _ in points) + 0.3 * wide)
    up = axis(max(0.0, min(y for *_, y in points) - 0.05), min(1.0, max(y for *_, y in points) + 0.05))

    def place(x: float, y: float) -> tuple[float, float]:
        return WIDTH * right.share(x), HEIGHT * (1 - up.share(y))

    line = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for _, x, y in unbeaten(points))
    marks = []
    for method, x, y in points:
        left, top = place(x, y)
        name = writer.label(method, METHODS)
        marks.append(
            f'<circle cx="{left:.1f}" cy="{top:.1f}" r="7"/><text x="{left + 12:.1f}" y="{top + 5:.1f}">{name}</text>'
        )
    seconds = "".join(
        f'<text class="tick" x="{WIDTH * right.share(tick):.1f}" y="{HEIGHT + 24:g}">{writer.seconds(10**tick)}</text>'
        for tick in right.ticks
    )
    scores = "".join(
        f'<path class="grid" d="M0 {HEIGHT * (1 - up.share(tick)):.1f}H{WIDTH:g}"/>'
        f'<text class="tick" x="4" y="{HEIGHT * (1 - up.share(tick)) - 4:.1f}">{writer.number(tick, up.digits)}</text>'
        for tick in up.ticks
    )
    label = writer.say(N_("macro-F1 of each method over the time of its training"))
    told = writer.say(N_("The line joins the methods that no other one beats in both."))
    return (
        f'<figure class="scatter"><svg viewBox="0 0 {WIDTH:g} {HEIGHT + 34:g}" role="img" aria-label="{label}">'
        f'{scores}{seconds}<polyline points="{line}"/>{"".join(marks)}</svg>'
        f"<figcaption>{label}. {told}</figcaption></figure>"
    )


def unbeaten(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """The Pareto front of (name, cost, quality): cheapest first, each better than all that cost less."""
    front: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda item: (item[1], -item[2])):
        if not front or point[2] > front[-1][2]:
            front.append(point)
    return front

"""The page of `treino compare`: methods side by side as a table, four panels of bars, and quality over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from treino.messages import N_, Message
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
"""What is compared, in the order of the table."""

CURVE_HEIGHT = 220.0
PANELS = ("macro_f1", "seconds", "peak_memory", "trainable")
MARKS = {"measured": N_("measured"), "calculated": N_("calculated")}

Table = tuple[str, list[str], list[list[str]], list[str]]
"""Title, headings, rows and notes, all HTML."""


def figure(row: Mapping[str, Any], name: str) -> float | None:
    """A row's figure as one number."""
    value = row[name]
    return value["mean"] if isinstance(value, Mapping) else value


def columns(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The columns that any row has a figure for."""
    return [(name, title) for name, title in COLUMNS if any(row[name] is not None for row in rows)]


def shown(row: Mapping[str, Any], name: str, writer: Writer) -> str:
    """A figure in its unit, with its interval where it has one."""
    value = row[name]
    if isinstance(value, Mapping):
        mean, low, high = (_in_unit(value[end], name, writer) for end in ("mean", "low", "high"))
        return f"{mean} <small>[{low} … {high}]</small>"
    return _in_unit(value, name, writer)


def _in_unit(value: float | None, name: str, writer: Writer) -> str:
    if value is None:
        return UNKNOWN
    if name in ("seconds", "row_seconds"):
        return writer.seconds(value * (1000 if name == "row_seconds" else 1))
    if name in ("peak_memory", "memory"):
        return writer.bytes(value)
    return writer.number(value, {"forgetting": 3, "macro_f1": 3, "accuracy": 3, "cost": 4}.get(name))


def comparison_page(found: Mapping[str, Any], language: str) -> str:
    """One HTML document that asks for nothing from outside; `found`: what `treino.pipeline.comparison.compare` returns."""
    writer = Writer(language)
    rows = [row for row in found["rows"] if not row["refused"]]
    tables = comparison_tables(found, writer)
    parts = [
        ("table", tables[0][0], _drawn(tables[0])),
        ("panels", writer.say(N_("In pictures")), _panels(rows, writer)),
        ("trade", writer.say(N_("Quality over time")), _trade(rows, writer)),
        ("curves", writer.say(N_("What was tried, and what follows from it")), _curves(rows, writer)),
        *((f"more-{number}", more[0], _drawn(more)) for number, more in enumerate(tables[1:], 1)),
    ]
    header = f"<header><h1>{escape(found['name'])}</h1></header>"
    return page(writer, escape(found["name"]), header, [Section(*part) for part in parts])


def _drawn(drawn: Table) -> str:
    """A table as HTML, its notes before it."""
    _, head, rows, notes = drawn
    return "".join(f'<p class="lead">{note}</p>' for note in notes) + table(head, rows)


def comparison_tables(found: Mapping[str, Any], writer: Writer) -> list[Table]:
    """The methods side by side, and the projection to another chip where one was asked for."""
    tables = [_table(found, writer)]
    if found.get("projection"):
        tables.append(_projection(found["projection"], writer))
    return tables


def _table(found: Mapping[str, Any], writer: Writer) -> Table:
    rows, marks = found["rows"], found["marks"]
    known = columns([row for row in rows if not row["refused"]])
    scratch = next((row for row in rows if row["method"] == "scratch" and not row["refused"]), None)
    body = []
    for row in rows:
        cells = [shown(row, name, writer) + _share(row, scratch, name, writer) for name, _ in known]
        body.append([writer.label(row["method"], METHODS), *cells])
    heads = [f"{writer.say(title)} <small>{writer.label(marks[name], MARKS)}</small>" for name, title in known]
    return writer.say(N_("The methods side by side")), [writer.say(N_("method")), *heads], body, _notes(found, writer)


def _notes(found: Mapping[str, Any], writer: Writer) -> list[str]:
    """What the figures are, and what is missing among them."""
    if found["pilot"]:
        text = N_(
            "A pilot of {seconds:seconds}: every method was trained on parts of the rows, and what it would reach, take and "
            "need on all of them is calculated; no test row was touched. In brackets: 95 % intervals."
        )
        notes = [writer.say(text, seconds=found["pilot"])]
    elif found["seeds"] > 1:
        text = N_(
            "The same rows, split, seeds ({seeds}) and most epochs for every method. In brackets: 95 % intervals over seeds "
            "and test rows."
        )
        notes = [writer.say(text, seeds=found["seeds"])]
    else:
        text = N_(
            "The same rows, split, seed and most epochs for every method. In brackets: 95 % intervals over the test rows."
        )
        notes = [writer.say(text)]
    notes.append(writer.say(N_("In percent: of what training from scratch has.")))
    if any(row["method"] == PROMPT for row in found["rows"]):
        text = N_("A prompt trains nothing: its cost is that of its answers, in US dollars by the table of prices.")
        notes.append(writer.say(text))
    for row in found["rows"]:
        if row["refused"]:
            why = writer.translator.message(Message(**row["refused"]))
            notes.append(writer.label(row["method"], METHODS) + ": " + escape(why))
    return notes


def _projection(projection: Mapping[str, Any], writer: Writer) -> Table:
    """Time, cost and memory on another chip."""
    names = (("seconds", N_("time")), ("cost", N_("cost, US dollars")), ("memory", N_("memory, peak")))
    mark = f" <small>{writer.say(MARKS['calculated'])}</small>"
    head = [writer.say(N_("method")), *(writer.say(title) + mark for _, title in names), writer.say(N_("fits")) + mark]
    body = [
        [
            writer.label(row["method"], METHODS),
            *(shown(row, name, writer) for name, _ in names),
            writer.say(N_("yes")) if row["fits"] else writer.say(N_("no")),
        ]
        for row in projection["rows"]
    ]
    lead = N_(
        "The same trainings on {gpu}, in bfloat16, by the planner's calculation. In brackets: 80 % intervals, from the spread "
        "of published runs. Quality does not depend on the chip."
    )
    notes = [writer.say(lead, gpu=projection["gpu"])]
    notes += [escape(writer.translator.message(Message(**note))) for note in projection["notes"]]
    return writer.say(N_("On {gpu}"), gpu=projection["gpu"]), head, body, notes


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
        most = 1.0 if name == "macro_f1" else max(bar.high or bar.value for bar in drawn)
        parts.append(f"<h3>{writer.say(titles[name])}</h3>{bars(drawn, most)}")
    return "".join(parts)


def _trade(rows: Sequence[Mapping[str, Any]], writer: Writer) -> str:
    """Each method as a point: time to the right in powers of ten, macro-F1 upwards; the line joins those that none beats."""
    points = [
        (row["method"], math.log10(max(seconds, 1e-3)), row["macro_f1"]["mean"])
        for row in rows
        if (seconds := figure(row, "seconds"))
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
        marks.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="7"/>{_named(name, left, top)}')
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


def _named(name: str, left: float, top: float) -> str:
    """A point's name above it, towards the middle of the picture."""
    side, anchor = (-4, "end") if left > WIDTH / 2 else (4, "start")
    return f'<text text-anchor="{anchor}" x="{left + side:.1f}" y="{top - 12:.1f}">{name}</text>'


def _curves(rows: Sequence[Mapping[str, Any]], writer: Writer) -> str:
    """For each method the points of its pilot, and the interval at all rows: rows to the right in powers of two."""
    parts = []
    for row in rows:
        if not row.get("points"):
            continue
        sizes = [math.log2(point["rows"]) for point in row["points"]]
        left, right = min(sizes), math.log2(row["rows"])
        wide = (right - left) or 1.0

        def place(rows: float, score: float, left: float = left, wide: float = wide) -> tuple[float, float]:
            return WIDTH * (0.03 + 0.92 * (math.log2(rows) - left) / wide), CURVE_HEIGHT * (1 - score)

        marks = []
        for point in row["points"]:
            x, y = place(point["rows"], point["macro_f1"])
            marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
        ends = [place(row["rows"], row["macro_f1"][end]) for end in ("mean", "low", "high")]
        (x, y), (_, low), (_, high) = ends
        marks.append(f'<path class="whisker" d="M{x:.1f} {high:.1f}V{low:.1f}M{x - 8:.1f} {y:.1f}h16"/>')
        grid = "".join(
            f'<path class="grid" d="M0 {CURVE_HEIGHT * (1 - tick):.1f}H{WIDTH:g}"/>'
            f'<text class="tick" x="4" y="{CURVE_HEIGHT * (1 - tick) - 4:.1f}">{writer.number(tick, 1)}</text>'
            for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        )
        ticks = "".join(
            f'<text class="tick" text-anchor="middle" x="{place(size, 0)[0]:.1f}" y="{CURVE_HEIGHT + 22:g}">'
            f"{writer.number(size)}</text>"
            for size in sorted({point["rows"] for point in row["points"]} | {row["rows"]})
        )
        name = writer.label(row["method"], METHODS)
        label = writer.say(N_("macro-F1 over the rows that were learnt from"))
        parts.append(
            f'<figure class="scatter"><figcaption>{name}: {label}</figcaption>'
            f'<svg viewBox="0 0 {WIDTH:g} {CURVE_HEIGHT + 30:g}" role="img" aria-label="{name}: {label}">'
            f"{grid}{ticks}{''.join(marks)}</svg></figure>"
        )
    return "".join(parts)


def unbeaten(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """The Pareto front of (name, cost, quality): cheapest first, each better than all that cost less."""
    front: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda item: (item[1], -item[2])):
        if not front or point[2] > front[-1][2]:
            front.append(point)
    return front

"""What the report says of the gate and of the search, of whatever kind of model: thresholds, margins, and what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from treino.messages import N_
from treino.report.facts import ChatFacts, Classification, GateRow, Trial
from treino.report.writer import UNKNOWN, Writer, escape, table


def gate_section(facts: Classification | ChatFacts, writer: Writer) -> str:
    """Each threshold with the figure that met or missed it."""
    rows = facts.get("gate") or []
    if not rows:
        return ""
    passed = facts.get("passed")
    verdict = (
        N_("The gate is passed: the model is good enough by its recipe.")
        if passed
        else N_("The gate is not passed: by its recipe the model is not good enough.")
    )
    return f'<p class="verdict">{writer.say(verdict)}</p>{gate_table(rows, writer)}'


def gate_table(rows: Sequence[GateRow], writer: Writer) -> str:
    """Thresholds as a table."""
    head = (
        writer.say(N_("threshold")),
        writer.say(N_("reached")),
        writer.say(N_("needed")),
        writer.say(N_("margin")),
        writer.say(N_("passed")),
    )
    cells = [
        (
            f"<code>{escape(row['condition'])}</code>",
            writer.number(row.get("value"), 3),
            writer.number(row.get("threshold"), 3),
            writer.number(row.get("margin"), 3),
            _yes(row["passed"], writer),
        )
        for row in rows
    ]
    return table(head, cells)


def gate_tile(facts: Mapping[str, Any], writer: Writer) -> list[tuple[str, str]]:
    """Whether the gate is passed, where there is one."""
    if facts.get("passed") is None:
        return []
    return [(writer.say(N_("gate")), writer.say(N_("passed") if facts["passed"] else N_("not passed")))]


def trials_table(
    trials: Sequence[Trial], chosen: int | None, reached: Mapping[str, str], title: str, writer: Writer
) -> str:
    """What was tried, and what each trial reached: the figures of those names, under these heads."""
    if not trials:
        return ""
    names = sorted({name for trial in trials for name in trial["tried"]})
    head = [writer.say(N_("trial")), *(escape(name) for name in names)]
    head += [*reached.values(), writer.say(N_("passed")), writer.say(N_("time"))]
    rows = []
    for number, trial in enumerate(trials):
        mark = f" <small>({writer.say(N_('chosen'))})</small>" if number == chosen else ""
        figures = trial.get("figures") or {}
        rows.append(
            (
                f"{number + 1}{mark}",
                *(escape(f"{trial['tried'].get(name, UNKNOWN):.4g}") for name in names),
                *(writer.number(figures.get(name), 3) for name in reached),
                _yes(trial.get("passed"), writer),
                writer.seconds(trial.get("seconds")),
            )
        )
    return table(head, rows, title)


def _yes(passed: bool | None, writer: Writer) -> str:
    return UNKNOWN if passed is None else writer.say(N_("yes")) if passed else writer.say(N_("no"))

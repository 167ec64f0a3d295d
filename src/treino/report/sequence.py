"""The page of a sequence of tasks: the matrix of accuracies, and what was kept, gained and lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treino.language import Translator
from treino.messages import N_
from treino.report.page import Section, page
from treino.report.writer import UNKNOWN, Writer, escape, table, terms

MEASURES = {
    "average_accuracy": N_("average accuracy at the end"),
    "backward_transfer": N_("backward transfer"),
    "forgetting": N_("forgetting, from the best"),
    "forward_transfer": N_("forward transfer, of a head on the body as it is"),
}


def sequence_page(result: Mapping[str, Any], name: str, language: str) -> str:
    """One HTML document; `result`: what the stage `sequence` found."""
    writer = Writer(language)
    lead = writer.say(
        N_(
            "A row is the model after a phase, a column a task on its test rows. Where a task was not learnt yet, the figure "
            "in brackets is that of a fresh head on the body as it is. The last column is the loss on the base model's "
            "held-out text."
        )
    )
    body = f'<p class="lead">{lead}</p>{_matrix(result, writer)}{_measures(result, writer)}'
    section = Section("sequence", writer.say(N_("Task after task")), body)
    return page(writer, escape(name), f"<header><h1>{escape(name)}</h1></header>", [section])


def _matrix(result: Mapping[str, Any], writer: Writer) -> str:
    known = result["language_losses"][0] is not None
    head = [writer.say(N_("after learning")), *map(escape, result["tasks"])]
    head += [writer.say(N_("loss (nats per token)"))] if known else []
    rows = [[writer.say(N_("the base model")), *(f"({writer.percent(value)})" for value in result["before"])]]
    for task, accuracies, offered in zip(result["learnt"], result["accuracies"], result["offered"], strict=True):
        cells = [
            writer.percent(value) if value is not None else f"({writer.percent(probe)})"
            for value, probe in zip(accuracies, offered, strict=True)
        ]
        rows.append([escape(task), *cells])
    if known:
        rows = [[*row, writer.number(loss, 3)] for row, loss in zip(rows, result["language_losses"], strict=True)]
    return table(head, rows)


def _measures(result: Mapping[str, Any], writer: Writer) -> str:
    rows = [(writer.say(title), _points(result[name], name, writer.translator)) for name, title in MEASURES.items()]
    rows.append((writer.say(N_("forgotten, nats a token")), writer.number(result["language_forgotten"], 3)))
    return terms(rows, "facts")


def _points(value: float | None, name: str, translator: Translator) -> str:
    """A share in percent; a difference in points, with its sign."""
    if value is None:
        return UNKNOWN
    if name == "average_accuracy":
        return translator.percent(value)
    sign = "+" if value > 0 else "−" if value < 0 else ""
    return sign + translator.text(N_("{count:1} points"), count=100 * abs(value))


def sequence_lines(result: Mapping[str, Any], translator: Translator) -> list[str]:
    """The matrix and its measures as plain text."""
    lines = []
    for phase, (task, row) in enumerate(zip(result["learnt"], result["accuracies"], strict=True), 1):
        known = (
            f"{name} {translator.percent(value)}"
            for name, value in zip(result["tasks"], row, strict=True)
            if value is not None
        )
        lines.append(f"{phase:>3}  {task:<16} {', '.join(known)}")
    for name, title in MEASURES.items():
        if result[name] is not None:
            lines.append(f"     {translator.text(title)}: {_points(result[name], name, translator)}")
    return lines

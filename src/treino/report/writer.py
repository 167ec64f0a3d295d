"""Words, numbers and tables of a report: translated, in the reader's form, and escaped for HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from treino.language import Translator
from treino.report.labels import LABELS

UNKNOWN = "–"
"""What stands for a value that is not there."""


class Writer:
    """Renders for one language; everything it returns is safe inside an HTML element or a quoted attribute."""

    def __init__(self, language: str) -> None:
        self.translator = Translator(language)
        self.language = language

    def say(self, text: str, /, **values: Any) -> str:
        """A sentence: its message id translated, its fields filled, the whole escaped."""
        return escape(self.translator.text(text, **values))

    def label(self, name: str, labels: Mapping[str, str] = LABELS) -> str:
        """What a person reads for an identifier; an unknown one with its underscores as spaces."""
        known = labels.get(name)
        return self.say(known) if known else escape(str(name).replace("_", " "))

    def number(self, value: float | None, digits: int | None = None) -> str:
        return UNKNOWN if value is None else escape(self.translator.number(value, digits))

    def percent(self, share: float | None, digits: int = 1) -> str:
        return UNKNOWN if share is None else escape(self.translator.percent(share, digits))

    def bytes(self, count: float | None) -> str:
        return UNKNOWN if count is None else escape(self.translator.bytes(count))

    def seconds(self, seconds: float | None) -> str:
        return UNKNOWN if seconds is None else escape(self.translator.seconds(seconds))

    def date(self, timestamp: float) -> str:
        return escape(self.translator.date(timestamp))

    def quantity(self, name: str, value: float | None) -> str:
        """A number in the unit that belongs to its name."""
        if name == "peak_memory":
            return self.bytes(value)
        if name == "seconds":
            return self.seconds(value)
        return self.number(value if value is None else round(value))


def escape(text: object) -> str:
    """Text made safe for HTML; control characters that HTML forbids become the replacement character."""
    clean = "".join(c if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") else "\ufffd" for c in str(text))
    return html.escape(clean, quote=True)


def table(head: Iterable[str], rows: Iterable[Iterable[str]], caption: str = "") -> str:
    """A table of cells that are HTML already; the first cell of a row is its heading."""
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = []
    for first, *others in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in others)
        body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    title = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table>{title}<thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def text_table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows as lines of plain text, columns as wide as their widest cell: the first `left` to the left, the others to the
    right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    forms = ["<" if column < left else ">" for column in range(len(widths))]
    return [
        "  ".join(map(lambda cell, form, width: f"{cell:{form}{width}}", row, forms, widths)).rstrip() for row in rows
    ]


def terms(rows: Iterable[tuple[str, str]], kind: str) -> str:
    """Names with their values, both HTML already, as a description list of a CSS class; unknown values are left out."""
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows if value != UNKNOWN)
    return f'<dl class="{kind}">{items}</dl>' if items else ""


def details(summary: str, body: str) -> str:
    """A part that opens on demand."""
    return f"<details><summary>{summary}</summary>{body}</details>"

"""Rows of JSON lines and of CSV files: broken ones are named and set aside, the rest is kept."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from treino.corpus.sources.raw import LARGEST_LINE, Problems, read_lines
from treino.errors import DataError
from treino.messages import N_

TEXT_COLUMNS = ("text", "texto", "content", "conteudo", "conteúdo", "mensagem", "message", "body", "frase", "sentence")
DELIMITERS = ",;\t|"
LONGEST_FIELD = 10_000
"""Lines that a quoted field may span."""

_SURROGATES = re.compile(r"[\ud800-\udfff]")


class MissingColumn(DataError):
    """A table without a column of text."""


def json_rows(path: Path, text: str, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    """(line, text) of JSON lines; the key is `text`, or the first of the usual names that the first good row has."""
    key = text
    for number, line in read_lines(path, problems, place):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # ValueError: broken, or a number of thousands of digits
            problems.add(f"{place}:{number}", "broken_json", line)
            continue
        if not isinstance(row, dict):
            problems.add(f"{place}:{number}", "not_an_object", line)
            continue
        key = key or _column(list(row), [name for name, value in row.items() if isinstance(value, str)])
        value = row.get(key) if key else None
        if not isinstance(value, str) or not value.strip():
            problems.add(f"{place}:{number}", "no_text", line)
            continue
        yield number, _SURROGATES.sub("\ufffd", value)  # half a pair, which JSON can spell, is no character


def csv_rows(path: Path, text: str, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    """(line, text) of a CSV file with a header; the delimiter is the commonest of `, ; tab |` in it.

    A quote that is never closed takes its own row along, not the rest of the file. `MissingColumn` where it has no text.
    """
    csv.field_size_limit(LARGEST_LINE)
    lines = read_lines(path, problems, place)
    head = next((item for item in lines if item[1].strip()), None)
    if head is None:
        return
    delimiter = max(DELIMITERS, key=head[1].count)
    records = _records(chain([head], lines), delimiter, problems, place)
    first, header = next(records, (0, []))
    if not header:
        return
    names = [name.strip() for name in header]
    index = names.index(_text_column(text, names, f"{place}:{first}"))
    for number, record in records:
        if len(record) != len(names):
            problems.add(f"{place}:{number}", "wrong_number_of_columns", delimiter.join(record))
        elif not record[index].strip():
            problems.add(f"{place}:{number}", "no_text", delimiter.join(record))
        else:
            yield number, record[index]


def _text_column(text: str, names: list[str], where: str) -> str:
    column = text or _column(names, names if len(names) == 1 else [])
    if column not in names:
        raise MissingColumn(
            N_("there is no column {column} among: {names}"),
            where=where,
            fix=N_('name the column of the text in the recipe: sources = [{{ path = "...", text = "..." }}]'),
            column=column or "text",
            names=", ".join(names),
        )
    return column


def _records(
    lines: Iterator[tuple[int, str]], delimiter: str, problems: Problems, place: str
) -> Iterator[tuple[int, list[str]]]:
    """Records with the line that they begin on. The lines that a broken record had taken along are read anew."""
    waiting: deque[tuple[int, str]] = deque()
    while item := waiting.popleft() if waiting else next(lines, None):
        number, line = item
        if not line.strip():
            continue
        taken: list[tuple[int, str]] = []
        record = _record(line, _following(waiting, lines, taken), delimiter)
        if record is None and not taken and line.count('"') % 2 == 0:
            record = _record(line, iter(()), delimiter, strict=False)
        if record is not None:
            yield number, record
            continue
        problems.add(f"{place}:{number}", "quote_never_closed" if line.count('"') % 2 else "broken_csv", line)
        waiting.extendleft(reversed(taken))


def _record(first: str, following: Iterator[str], delimiter: str, strict: bool = True) -> list[str] | None:
    """The record that begins in a line and takes following ones while a quote is open; None: broken, or left open."""
    try:
        return next(csv.reader(chain([first], following), delimiter=delimiter, strict=strict))
    except (csv.Error, StopIteration):
        return None


def _following(
    waiting: deque[tuple[int, str]], lines: Iterator[tuple[int, str]], taken: list[tuple[int, str]]
) -> Iterator[str]:
    """The next lines, noted in `taken`, as many as one field may hold."""
    room = LARGEST_LINE
    while len(taken) < LONGEST_FIELD and room > 0 and (item := waiting.popleft() if waiting else next(lines, None)):
        taken.append(item)
        room -= len(item[1])
        yield item[1]


def _column(names: list[str], candidates: list[str]) -> str:
    """The usual name that is there, else the only candidate, else nothing."""
    lower = {name.lower(): name for name in names}
    for usual in TEXT_COLUMNS:
        if usual in lower:
            return lower[usual]
    return candidates[0] if len(candidates) == 1 else ""

"""Rows of JSON lines and of CSV files: broken ones are named and set aside, the rest is kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from treino.corpus.sources.raw import LARGEST_LINE, Problems, read_lines
from treino.errors import DataError
from treino.messages import N_

TEXT_COLUMNS = ("text", "texto", "content", "conteudo", "conteúdo", "mensagem", "message", "body", "frase", "sentence")
DELIMITERS = ",;\t|"


def json_rows(path: Path, text: str, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    """(line, text) of JSON lines; the key is `text`, or the first of the usual names that the first good row has."""
    key = text
    for number, line in read_lines(path, problems, place):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
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
        yield number, value


def csv_rows(path: Path, text: str, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    """(line, text) of a CSV file with a header; the delimiter is the commonest of `, ; tab |` in it.

    A quote that is never closed takes its own row along, not the rest of the file: a field may span 200 lines at most.
    """
    csv.field_size_limit(LARGEST_LINE)
    lines = read_lines(path, problems, place)
    head = next(((number, line) for number, line in lines if line.strip()), None)
    if head is None:
        problems.add(place, "empty")
        return
    delimiter = max(DELIMITERS, key=head[1].count)
    names = [name.strip() for name in next(csv.reader([head[1]], delimiter=delimiter))]
    column = text or _column(names, names if len(names) == 1 else [])
    if column not in names:
        raise DataError(
            N_("there is no column {column} among: {names}"),
            where=f"{place}:{head[0]}",
            fix=N_('name the column of the text in the recipe: sources = [{{ path = "...", text = "..." }}]'),
            column=column or "text",
            names=", ".join(names),
        )
    index = names.index(column)
    for number, record in _records(lines, delimiter, problems, place):
        if len(record) != len(names):
            problems.add(f"{place}:{number}", "wrong_number_of_columns", delimiter.join(record))
        elif not record[index].strip():
            problems.add(f"{place}:{number}", "no_text", delimiter.join(record))
        else:
            yield number, record[index]


LONGEST_FIELD = 200


def _records(
    lines: Iterator[tuple[int, str]], delimiter: str, problems: Problems, place: str
) -> Iterator[tuple[int, list[str]]]:
    """Records with the line that they begin on. Lines are joined while a quote is open, up to `LONGEST_FIELD` of them."""
    waiting: list[tuple[int, str]] = []
    while True:
        item = waiting.pop(0) if waiting else next(lines, None)
        if item is None:
            return
        number, joined = item
        if not joined.strip():
            continue
        more: list[tuple[int, str]] = []
        while joined.count('"') % 2 and len(more) < LONGEST_FIELD:
            following = waiting.pop(0) if waiting else next(lines, None)
            if following is None:
                break
            more.append(following)
            joined += following[1]
        if joined.count('"') % 2:
            problems.add(f"{place}:{number}", "quote_never_closed", item[1])
            waiting = more + waiting
            continue
        try:
            yield number, next(csv.reader(joined.splitlines(keepends=True), delimiter=delimiter))
        except (csv.Error, StopIteration):
            problems.add(f"{place}:{number}", "broken_csv", joined)


def _column(names: list[str], candidates: list[str]) -> str:
    """The usual name that is there, else the only candidate, else nothing."""
    lower = {name.lower(): name for name in names}
    for usual in TEXT_COLUMNS:
        if usual in lower:
            return lower[usual]
    return candidates[0] if len(candidates) == 1 else ""

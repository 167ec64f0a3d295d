"""Rows of JSON lines, CSV and Parquet files: broken ones are named and set aside, the rest is kept."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from treino.corpus.sources import isolated
from treino.corpus.sources.raw import LARGEST_LINE, Problems, Unreadable, decode, read_lines
from treino.errors import DataError
from treino.messages import N_

TEXT_COLUMNS = ("text", "texto", "content", "conteudo", "conteúdo", "mensagem", "message", "body", "frase", "sentence")
DELIMITERS = ",;\t|"
LONGEST_FIELD = 10_000
PEEKED = 100
"""Records whose columns together are taken for those of a file that names them in every record."""
"""Lines that a quoted field may span."""

_SURROGATES = re.compile(r"[\ud800-\udfff]")


class MissingColumn(DataError):
    """A table without a column of text."""


@dataclass(frozen=True)
class Record:
    """A row of a table: the line that it begins on, its values by column, and how it was written."""

    line: int
    values: dict[str, Any]
    raw: str


@dataclass(frozen=True)
class Table:
    """The columns of a table in order, the line that names them, and its rows in a stream."""

    names: list[str]
    line: int
    records: Iterator[Record]


def json_records(path: Path, problems: Problems, place: str) -> Iterator[Record]:
    """The objects of JSON lines."""
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
        # Half a pair of surrogates, which JSON can spell, is no character.
        yield Record(
            number,
            {
                name: _SURROGATES.sub("\ufffd", value) if isinstance(value, str) else value
                for name, value in row.items()
            },
            line,
        )


def names_of(records: Iterable[Record]) -> list[str]:
    """The columns of records, in the order in which they come."""
    return list(dict.fromkeys(name for record in records for name in record.values))


def csv_table(path: Path, problems: Problems, place: str) -> Table | None:
    """A CSV file with a header; the delimiter is the commonest of `, ; tab |` in it. None: there is nothing in it.

    A quote that is never closed takes its own row along, not the rest of the file.
    """
    csv.field_size_limit(LARGEST_LINE)
    lines = read_lines(path, problems, place)
    head = next((item for item in lines if item[1].strip()), None)
    if head is None:
        return None
    delimiter = max(DELIMITERS, key=head[1].count)
    records = _records(chain([head], lines), delimiter, problems, place)
    first, header = next(records, (0, []))
    if not header:
        return None
    names = [name.strip() for name in header]

    def rows() -> Iterator[Record]:
        for number, record in records:
            raw = delimiter.join(record)
            if len(record) != len(names):
                problems.add(f"{place}:{number}", "wrong_number_of_columns", raw)
            else:
                # Of two columns of one name the first counts.
                yield Record(number, dict(zip(reversed(names), reversed(record), strict=True)), raw)

    return Table(names, first, rows())


def parquet_columns(path: Path, *, nested: bool = False) -> list[str]:
    """Names of the columns of a Parquet file, lists and structures only where `nested`. `Unreadable`: it is damaged."""
    return json.loads(isolated.one("parquet_columns", path=str(path.absolute()), nested=nested))


def parquet_records(path: Path, columns: list[str], problems: Problems, place: str) -> Iterator[Record]:
    """Rows of a Parquet file, some columns of them; `line` counts rows from 1."""
    import pyarrow as pa

    number = 0
    try:
        for piece in isolated.stream("parquet", path=str(path.absolute()), columns=columns):
            for batch in pa.ipc.open_stream(piece):
                try:
                    rows = batch.to_pylist()
                except UnicodeDecodeError:  # damaged: some text is none
                    rows = pa.record_batch(
                        [_as_bytes(column) for column in batch.columns], batch.schema.names
                    ).to_pylist()
                for values in rows:
                    number += 1
                    yield Record(number, values, str(values)[:200])
    except Unreadable as error:
        problems.add(f"{place}:{number + 1}", str(error))


def parquet_table(path: Path, problems: Problems, place: str, *, nested: bool = False) -> Table:
    """A Parquet file; columns of lists and structures only where `nested`. `Unreadable`: it is damaged."""
    names = parquet_columns(path, nested=nested)
    return Table(names, 0, parquet_records(path, names, problems, place))


def parquet_rows(path: Path, text: str, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    """(row, text) of a Parquet file; `MissingColumn` where it has no column of text."""
    try:
        names = parquet_columns(path)
    except Unreadable as error:
        problems.add(place, str(error))
        return
    column = _text_column(text, names, place)
    for record in parquet_records(path, [column], problems, place):
        value = _as_text(record.values[column])
        if value.strip():
            yield record.line, value
        else:
            problems.add(f"{place}:{record.line}", "no_text", record.raw)


def _as_bytes(column: Any) -> Any:
    import pyarrow as pa

    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return column.cast(pa.large_binary()) if is_text else column


def _as_text(value: Any) -> str:
    """A column of bytes holds text, too, where a writer did not say so."""
    try:
        return decode(value) if isinstance(value, bytes) else value if isinstance(value, str) else ""
    except Unreadable:
        return ""


def json_rows(path: Path, text: str, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    """(line, text) of JSON lines; the key is `text`, or the first of the usual names that the first good row has."""
    key = text
    for record in json_records(path, problems, place):
        values = record.values
        candidates = [name for name, value in values.items() if isinstance(value, str)]
        key = key or usual_column(TEXT_COLUMNS, list(values), candidates)
        value = values.get(key) if key else None
        if not isinstance(value, str) or not value.strip():
            problems.add(f"{place}:{record.line}", "no_text", record.raw)
            continue
        yield record.line, value


def csv_rows(path: Path, text: str, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    """(line, text) of a CSV file with a header; `MissingColumn` where it has no column of text."""
    table = csv_table(path, problems, place)
    if table is None:
        return
    column = _text_column(text, table.names, f"{place}:{table.line}")
    for record in table.records:
        if not record.values[column].strip():
            problems.add(f"{place}:{record.line}", "no_text", record.raw)
        else:
            yield record.line, record.values[column]


def _text_column(text: str, names: list[str], where: str) -> str:
    column = text or usual_column(TEXT_COLUMNS, names, names if len(names) == 1 else [])
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


def check_column(column: str, names: list[str], where: str, setting: str) -> None:
    """Refuse a column that is not there; `setting` would name it.

    Raises:
        DataError: with the columns that are.
    """
    if column not in names:
        raise DataError(
            N_("there is no column {column} among: {names}"),
            where=where,
            fix=N_('name it: {setting} = "..."'),
            column=column,
            names=", ".join(names),
            setting=setting,
        )


def usual_column(usual: Sequence[str], names: list[str], candidates: list[str]) -> str:
    """The first of the usual names that is there, else the only candidate, else nothing."""
    lower = {name.lower(): name for name in names}
    for name in usual:
        if name in lower:
            return lower[name]
    return candidates[0] if len(candidates) == 1 else ""

"""Labelled texts of a table: CSV, JSON lines or Parquet, one text and one class a row."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treino.corpus.rules import RULES
from treino.corpus.sources.raw import Problems, Unreadable, read_lines
from treino.corpus.sources.read import kind_of
from treino.corpus.sources.tables import (
    PEEKED,
    TEXT_COLUMNS,
    Record,
    Table,
    check_column,
    csv_table,
    json_records,
    names_of,
    parquet_table,
    usual_column,
)
from treino.errors import DataError
from treino.messages import N_, Message

if TYPE_CHECKING:
    from treino.recipe import LabelSettings

LABEL_COLUMNS = (
    "label", "labels", "rotulo", "rótulo", "etiqueta", "classe", "class", "categoria", "category", "sentimento",
    "sentiment", "polaridade", "polarity", "humor", "mood", "intencao", "intenção", "intent", "target", "alvo",
)  # fmt: skip
_NUMBER = re.compile(r"[+-]?\d+\.(\d+)")


@dataclass(frozen=True)
class LabelledText:
    """A text and its class as the table gives them; `place` is file and line.

    Where texts may have several classes or none, `several` is true and `label` holds all of them (`joined`).
    """

    text: str
    label: str
    group: str
    place: str
    several: bool = False


def joined(classes: Iterable[str]) -> str:
    """Several classes, or none, as one label: a list in JSON, each once and in order."""
    return json.dumps(sorted(set(classes)), ensure_ascii=False)


def classes_of(label: str) -> list[str]:
    """The classes in a label that `joined` made."""
    return json.loads(label)


def read_labelled(path: Path, settings: LabelSettings, problems: Problems) -> Iterator[LabelledText]:
    """Every usable row of a table; the others are noted in `problems`.

    Raises:
        DataError: for a missing file, a missing or doubled column, or labels that are measurements instead of classes.
    """
    table = _open(path, problems)
    columns = _columns(table, settings, path.name)
    labelling = _one_a_class if settings.columns else _of_a_list if settings.separator else None
    for record in table.records:
        place = f"{path.name}:{record.line}"
        text = record.values.get(columns["text"])
        if not isinstance(text, str) or not text.strip():
            problems.add(place, "no_text", record.raw)
            continue
        if labelling is None:  # the first row that has any decides: a list of classes, or one class
            value = record.values.get(columns["label"])
            if value is None:
                problems.add(place, "no_label", record.raw)
                continue
            labelling = _of_a_list if isinstance(value, list) else _single
        name = labelling(record, columns["label"], settings, place)
        if not name:
            problems.add(place, "no_label", record.raw)
            continue
        group = record.values.get(columns["group"], "") if columns["group"] else ""
        yield LabelledText(text, name, "" if group is None else str(group), place, labelling is not _single)


def _single(record: Record, column: str, settings: LabelSettings, place: str) -> str:
    """The one class of a row; "" where it has none."""
    value = record.values.get(column)
    if isinstance(value, list):
        raise DataError(
            N_("this row has a list of classes, and the rows before it have one class each"),
            where=place,
            fix=N_("write the class of every row as a list, also where it is one or none: []"),
        )
    return _class_name(value, column, place)


def _of_a_list(record: Record, column: str, settings: LabelSettings, place: str) -> str:
    """All classes of a row: of a list, or of text between separators; an empty one has none."""
    value = record.values.get(column)
    if value is None:
        return ""
    parts = str(value).split(settings.separator) if settings.separator and not isinstance(value, list) else value
    parts = parts if isinstance(parts, list) else [parts]
    return joined(name for part in parts if (name := _class_name(part, column, place)))


def _one_a_class(record: Record, column: str, settings: LabelSettings, place: str) -> str:
    """The classes whose columns hold a number that is large enough; "" where one holds no number."""
    numbers = {name: _number(record.values.get(name)) for name in settings.columns}
    if any(math.isnan(value) for value in numbers.values()):
        return ""
    return joined(name for name, value in numbers.items() if value >= settings.at_least)


def _number(value: Any) -> float:
    """0, 1, "2.0", true or false as a number; NaN for anything else."""
    words = {"true": 1.0, "false": 0.0}
    try:
        text = str(value).strip().lower()
        return words[text] if text in words else float(text.replace(",", "."))
    except ValueError:
        return math.nan


def read_texts(path: Path, column: str, problems: Problems) -> Iterator[tuple[str, str]]:
    """(place, text) of a table's rows, labels or not, or of a text file's lines; `DataError` as in `read_labelled`."""
    if path.is_file() and kind_of(path) == "text":
        for number, line in read_lines(path, problems, path.name):
            if line.strip():
                yield f"{path.name}:{number}", line.strip()
        return
    table = _open(path, problems)
    names = table.names
    text = column or usual_column(TEXT_COLUMNS, names, names if len(names) == 1 else [])
    _check_once(text or "text", names, f"{path.name}:{table.line}", "--column")
    for record in table.records:
        value = record.values.get(text)
        if isinstance(value, str) and value.strip():
            yield f"{path.name}:{record.line}", value
        else:
            problems.add(f"{path.name}:{record.line}", "no_text", record.raw)


def _open(path: Path, problems: Problems) -> Table:
    if not path.is_file():
        raise DataError(
            N_("there is no file {path}"),
            fix=N_("the texts come in one CSV, JSON lines or Parquet file"),
            path=str(path),
        )
    if path.suffix.lower() == ".parquet":
        try:
            return parquet_table(path, problems, path.name)
        except Unreadable as error:
            reason = Message(RULES[str(error)])
            raise DataError(N_("{path} is damaged: {reason}"), path=str(path), reason=reason) from None
    kind = kind_of(path)
    if kind == "csv":
        table = csv_table(path, problems, path.name)
        if table is None:
            raise DataError(N_("{path} holds no rows"), path=str(path))
        return table
    if kind == "json":
        records = json_records(path, problems, path.name)
        head = list(islice(records, PEEKED))
        if not head:
            raise DataError(N_("{path} holds no rows"), path=str(path))
        return Table(names_of(head), head[0].line, chain(head, records))
    raise DataError(
        N_("{path} is not a table that can be read"),
        fix=N_("the texts come in one CSV, JSON lines or Parquet file"),
        path=str(path),
    )


def _columns(table: Table, settings: LabelSettings, name: str) -> dict[str, str]:
    """The columns of text, label and group: those that are named, else those with a usual name, else the other of two."""
    names = table.names
    for column in settings.columns:
        _check_once(column, names, f"{name}:{table.line}" if table.line else name, "labels.columns")
    text = settings.text or usual_column(TEXT_COLUMNS, names, [])
    label = settings.label or usual_column(LABEL_COLUMNS, [item for item in names if item != text], [])
    if len(set(names)) == 2:
        text = text or next((item for item in names if label and item != label), "")
        label = label or next((item for item in names if text and item != text), "")
    where = f"{name}:{table.line}" if table.line else name
    _check_once(text or "text", names, where, "labels.text")
    if not settings.columns:
        _check_once(label or "label", names, where, "labels.label")
    if settings.group:
        _check_once(settings.group, names, where, "labels.group")
    return {"text": text, "label": label, "group": settings.group}


def _check_once(column: str, names: list[str], where: str, setting: str) -> None:
    """Refuse a column that is not there, or there twice."""
    check_column(column, names, where, setting)
    if names.count(column) > 1:
        raise DataError(
            N_("the column {column} is there {count} times"),
            where=where,
            fix=N_("give each column a name of its own"),
            column=column,
            count=names.count(column),
        )


def _class_name(value: Any, column: str, place: str) -> str:
    """A label as text: "1.0" and 1 are "1"; a number with a fraction is no class."""
    if value is None:
        return ""
    text = str(value).strip().lower() if isinstance(value, bool) else str(value).strip()
    number = _NUMBER.fullmatch(text)
    if number and set(number[1]) != {"0"}:
        raise DataError(
            N_("the label {label} in the column {column} is a number with a fraction, not a class"),
            where=place,
            fix=N_("turn the numbers into classes first, such as low and high"),
            label=text,
            column=column,
        )
    return text.partition(".")[0] if number else text

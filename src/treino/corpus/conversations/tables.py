"""The rows of files of conversations: CSV, Parquet, JSON lines, and JSON or YAML that is one value (lists, or passages)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from treino.corpus.conversations.yaml import read_yaml
from treino.corpus.sources.raw import Problems, Unreadable, read_text
from treino.corpus.sources.read import kind_of
from treino.corpus.sources.tables import Record, Table, csv_table, json_records, parquet_table
from treino.errors import DataError
from treino.messages import N_

LISTS = ("messages", "conversations", "conversation", "mensagens", "conversa", "dialogue", "dialog")
"""Keys of a conversation as a list."""

MOST_VALUES = 20_000_000
"""Values of a JSON file, by its brackets and commas: each takes about a hundred bytes, however few characters it has."""

FORMS = N_(
    "give rows with messages (role, content), conversations (from, value) or lists of texts, instruction and output, question "
    "and answer (with a context or not), or with a column for the conversation, the speaker and the text"
)
"""What can be read."""


def files_of(path: Path) -> list[Path]:
    """The file, or the files of conversations in a folder, in order.

    Raises:
        DataError: where there are none.
    """
    if path.is_file():
        return [path]
    found = sorted(item for item in path.rglob("*") if item.is_file() and _kind(item)) if path.is_dir() else []
    if not found:
        raise DataError(N_("there are no conversations in {path}"), fix=FORMS, path=str(path))
    return found


def _kind(path: Path) -> str | None:
    if path.suffix.lower() == ".parquet":
        return "parquet"
    if path.suffix.lower() in (".yml", ".yaml"):
        return "yaml"
    kind = "json" if path.suffix.lower() == ".json" else kind_of(path)
    return kind if kind in ("json", "csv") else None


def table_of(path: Path, problems: Problems) -> Table:
    """A file's rows, with the names of its columns where it has one set of them; what is broken is noted in `problems`.

    Raises:
        DataError: for a file of another kind.
    """
    kind, nothing = _kind(path), Table([], 0, iter(()))
    if kind == "csv":
        return csv_table(path, problems, path.name) or nothing
    if kind == "parquet":
        try:
            return parquet_table(path, problems, path.name, nested=True)
        except Unreadable as error:
            problems.add(path.name, str(error))
            return nothing
    if kind == "json":
        whole = _whole(path, problems) if path.suffix.lower() == ".json" else None
        return Table(
            [], 0, json_records(path, problems, path.name) if whole is None else _objects(path, whole, problems)
        )
    if kind == "yaml":
        return Table([], 0, _objects(path, _rows_of(_yaml(path, problems)), problems))
    raise DataError(N_("{path} is not a file of conversations"), fix=FORMS, path=str(path))


def _yaml(path: Path, problems: Problems) -> Any:
    """The content of a YAML file; of a broken one what stands before the break."""
    content, trouble = read_yaml(read_text(path, problems, path.name) or "[]")
    if trouble:
        line, rule = trouble
        problems.add(f"{path.name}:{line}", rule)
        if isinstance(content, dict) and not any(isinstance(value, list) for value in content.values()):
            return []  # it broke off before its rows
    return [] if content is None else content


def _whole(path: Path, problems: Problems) -> list[Any] | None:
    """The rows of a file that is one JSON value. None: it is not, and may have an object in each line."""
    text = read_text(path, problems, path.name) or "[]"
    if sum(map(text.count, "[{,")) > MOST_VALUES:
        problems.add(path.name, "too_large")
        return []
    try:
        return _rows_of(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _rows_of(content: Any) -> list[Any]:
    """The rows of a whole file: a list, a list within an object (`{"data": [...]}`), questions by passage, or one conversation.
    A row that is a list of texts is a conversation.
    """
    if isinstance(content, dict):
        named = next((content[key] for key in LISTS if isinstance(content.get(key), list)), None)
        if named is None:
            content = next((value for value in content.values() if isinstance(value, list)), [content])
        else:
            content = named if any(isinstance(item, list) for item in named) else [content]
    rows = content if isinstance(content, list) else [content]
    if any(isinstance(row, dict) and isinstance(row.get("paragraphs"), list) for row in rows):
        return list(_asked_of_passages(rows))
    return rows


def _asked_of_passages(articles: list[Any]) -> Iterator[dict[str, Any]]:
    """Rows {question, context, answers} of SQuAD's nested form: articles → paragraphs → qas."""
    for passage in _tables(articles, "paragraphs"):
        for question in _tables([passage], "qas"):
            asked = {"question": question.get("question"), "answers": question.get("answers")}
            yield asked | {"context": passage.get("context")}


def _tables(rows: list[Any], key: str) -> Iterator[Mapping[str, Any]]:
    """The tables in the lists that stand under a key of each row."""
    for row in rows:
        found = row.get(key) if isinstance(row, Mapping) else None
        yield from (item for item in found if isinstance(item, Mapping)) if isinstance(found, list) else ()


def _objects(path: Path, rows: list[Any], problems: Problems) -> Iterator[Record]:
    for number, row in enumerate(rows, 1):
        line = getattr(rows, "lines", {number - 1: number})[number - 1]
        values = {"conversation": row} if isinstance(row, list) else row
        if isinstance(values, dict):
            yield Record(line, values, str(row)[:200])
        else:
            problems.add(f"{path.name}:{line}", "not_an_object", str(row)[:200])

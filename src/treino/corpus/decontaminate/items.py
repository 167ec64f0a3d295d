"""Evaluation items, as decontamination knows them: a name, a prompt and an answer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino.corpus.documents import read_rows
from treino.corpus.sources.raw import Problems, read_text
from treino.errors import DataError
from treino.messages import N_

PROMPT_FIELDS = (
    *("context", "contexto", "passage", "instruction", "instrução", "input", "original_question"),
    *("question", "pergunta", "prompt", "text", "texto", "sentence"),
)
ANSWER_FIELDS = ("answer", "answers", "resposta", "respostas", "output", "completion", "response", "chosen")
CHOICE_FIELDS, LABEL_FIELDS = ("alternatives", "alternativas", "choices", "options"), ("label", "answer", "gabarito")


@dataclass(frozen=True)
class Item:
    """`set`: where it comes from ("enem/2024.jsonl", "test", "world"); `id`: its name there; `whole`: only all of it counts,
    for its wording is a pattern that many items and documents share, and what it asks is the names in it.
    """

    set: str
    id: str
    prompt: str
    answer: str = ""
    whole: bool = False


def read_items(path: Path, name: str) -> Iterator[Item]:
    """The items of a file: lines of a .txt, objects of a .jsonl or .json, rows of a .csv.

    Fields are known by their usual names (`PROMPT_FIELDS`, `ANSWER_FIELDS`); the answer of a multiple choice is the text of
    the alternative that its label names.

    Raises:
        DataError: where the file is missing or damaged, or no item has a field of a known name.
    """
    if not path.is_file():
        raise DataError(N_("{path} is missing"), fix=N_("correct decontaminate.against"), path=str(path))
    if path.suffix.lower() == ".txt":
        lines = enumerate(_text(path).split("\n"), 1)
        items = [Item(name, str(number), line) for number, line in lines if line.strip()]
    else:
        items = [item for number, fields in _objects(path) if (item := _item(name, number, fields))]
    if not items:
        raise DataError(
            N_("{path} has no evaluation item with text"),
            fix=N_("name its fields prompt and answer, or question and answer"),
            path=str(path),
        )
    yield from items


def world_items(truth: Path) -> Iterator[Item]:
    """The town's questions: beginnings of statements, and questions, with the true answers."""
    for line in (truth / "prompts.jsonl").read_text(encoding="utf-8").splitlines():
        prompt = json.loads(line)
        yield Item("world", prompt["id"], prompt["prompt"], prompt["answers"][0], whole=True)


def labelled_items(labelled: Path) -> Iterator[Item]:
    """The texts of the validation and test rows; their labels are a word that says nothing."""
    for part in ("validation", "test"):
        for row in read_rows(labelled, part, ["id", "text"]):
            yield Item(part, row["id"], row["text"])


def _text(path: Path) -> str:
    problems = Problems()
    text = read_text(path, problems, path.name)
    if not text:
        raise DataError(N_("{path} is damaged: {reason}"), path=str(path), reason=problems.first_reason())
    return text


def _objects(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    text = _text(path)
    if path.suffix.lower() == ".csv":
        return enumerate(csv.DictReader(io.StringIO(text, newline="")), 2)
    try:
        if path.suffix.lower() == ".json":
            whole = json.loads(text)
            rows = enumerate(whole if isinstance(whole, list) else whole.get("data", []), 1)
        else:
            rows = ((number, json.loads(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        return [(number, row) for number, row in rows if isinstance(row, dict)]
    except (json.JSONDecodeError, AttributeError) as error:
        raise DataError(N_("{path} is damaged: {reason}"), path=str(path), reason=str(error)) from error


def _item(name: str, number: int, fields: dict[str, Any]) -> Item | None:
    known = {key.lower(): value for key, value in fields.items() if key}
    prompt = "\n".join(_strings(known.get(field)) for field in PROMPT_FIELDS if known.get(field))
    if not prompt.strip():
        return None
    answer = _chosen(known) or next((_strings(known[field]) for field in ANSWER_FIELDS if known.get(field)), "")
    identity = known.get("id")
    return Item(name, str(number) if identity in (None, "") else str(identity), prompt, answer)


def _strings(value: Any) -> str:
    """The text of a field: a string, or the first of a list or of SQuAD's {"text": […]}."""
    if isinstance(value, dict):
        value = value.get("text")
    if isinstance(value, list):
        value = value[0] if value else ""
    return value if isinstance(value, str) else ""


def _chosen(known: dict[str, Any]) -> str:
    """The alternative that the label names: a letter from A, or a number from 0."""
    choices = next((known[field] for field in CHOICE_FIELDS if isinstance(known.get(field), list)), [])
    label = next((str(known[field]).strip() for field in LABEL_FIELDS if known.get(field) not in (None, "")), "")
    if not label:
        return ""
    place = int(label) if label.isdecimal() else ord(label[0].upper()) - ord("A") if len(label) == 1 else -1
    return str(choices[place]) if 0 <= place < len(choices) else ""

"""What the filters have in common: which documents are pages, and the account of what was done to each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from treino.corpus.documents import DOCUMENTS, removed_row
from treino.corpus.shards import Outcome, with_texts

PAGE_KINDS = frozenset({"web", "html", "warc"})
"""What `kind` in a document's `meta` says of texts of web pages."""


class Note(NamedTuple):
    """What is told of a document: the rule, and the value against the threshold."""

    rule: str
    detail: str


class Verdict(NamedTuple):
    """What becomes of a document: its text (None: it goes), what is told of it, and what its `meta` gains."""

    text: str | None
    notes: Sequence[Note] = ()
    meta: dict[str, object] | None = None


def kind_of(meta: str) -> str:
    """The source's kind as a document's `meta` names it; empty where it does not."""
    return str(json.loads(meta).get("kind", "")) if meta and '"kind"' in meta else ""


def is_page(meta: str) -> bool:
    """Whether the document is the text of a web page."""
    return kind_of(meta) in PAGE_KINDS


def carry_out(rows: pa.RecordBatch, verdicts: Sequence[Verdict]) -> Outcome:
    """The rows after the verdicts, and the record: one entry for each note."""
    record, counts = [], Counter[str]()
    if any(verdict.meta for verdict in verdicts):
        rows = _with_meta(rows, verdicts)
    identities = zip(*(rows[name].to_pylist() for name in ("id", "source", "text")), strict=True)
    for (number, source, before), verdict in zip(identities, verdicts, strict=True):
        document = {"id": number, "source": source, "text": before}
        for note in verdict.notes:
            record.append(removed_row(document, note.rule, note.detail, verdict.text or ""))
            if verdict.text is not None:
                counts[note.rule] += 1
    return Outcome(with_texts(rows, [verdict.text for verdict in verdicts]), record, counts)


def _with_meta(rows: pa.RecordBatch, verdicts: Sequence[Verdict]) -> pa.RecordBatch:
    known = [
        json.dumps(json.loads(meta or "{}") | verdict.meta, ensure_ascii=False, sort_keys=True)
        if verdict.meta
        else meta
        for meta, verdict in zip(rows["meta"].to_pylist(), verdicts, strict=True)
    ]
    return with_column(rows, "meta", known)


def with_column(rows: pa.RecordBatch, name: str, values: Sequence[str]) -> pa.RecordBatch:
    """The rows with another column of strings."""
    columns = {field: rows[field] for field in rows.schema.names} | {name: pa.array(values, DOCUMENTS.field(name).type)}
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=rows.schema)

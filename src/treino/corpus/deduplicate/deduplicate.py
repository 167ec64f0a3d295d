"""The deduplicate stage: documents that are equal but for case and white space."""

from __future__ import annotations

import hashlib
import json
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from treino import events
from treino.corpus.documents import DOCUMENTS, PARTS, REMOVED, Writer, read_documents, read_rows, removed_row
from treino.corpus.engine import first_of_each
from treino.errors import DataError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import DeduplicateSettings


def comparison_key(text: str) -> str:
    """SHA-256 (hex) of the text in NFC, case folded, runs of white space as one space."""
    folded = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return hashlib.sha256(folded.encode()).hexdigest()


def deduplicate(settings: DeduplicateSettings, documents: Path, output: Path) -> dict[str, Any]:
    """Keep one document (the smallest id) of each group of equal ones, in each part; training documents that equal a
    held-out one go, too, so that the evaluation reads nothing that was learnt.
    """
    keys = {part: _keys(documents, part) for part in PARTS}
    copies = {part: _copies(keys[part]) if settings.exact else {} for part in PARTS}
    held_out = _first(keys["held_out"]) if settings.exact else {}
    counts: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    planted = Planted()
    with Writer(output / "removed", REMOVED) as record:
        for part in PARTS:
            with Writer(output / part, DOCUMENTS) as kept:
                for row in read_rows(documents, part):
                    counts["in"] += 1
                    events.progress("deduplicate", counts["in"], None, N_("documents"))
                    rule, copy_of = "", ""
                    if row["id"] in copies[part]:
                        rule, copy_of = "duplicate", copies[part][row["id"]]
                    elif part == "training" and keys[part][row["id"]] in held_out:
                        rule, copy_of = "also_held_out", held_out[keys[part][row["id"]]]
                    planted.see(row, keys[part][row["id"]], bool(rule))
                    if rule:
                        removed[rule] += 1
                        record.add(removed_row(row, rule, copy_of, step="deduplicate"))
                        continue
                    counts[part] += 1
                    counts["bytes_out"] += len(row["text"].encode())
                    kept.add(row)
    if not counts["training"]:
        raise DataError(N_("no text is left: every document equals a held-out one"), fix=N_("lower corpus.held_out"))
    facts = {
        "documents_in": counts["in"],
        "documents_out": counts["training"] + counts["held_out"],
        "held_out_documents": counts["held_out"],
        "bytes_out": counts["bytes_out"],
        "removed_by_rule": dict(removed),
    }
    return facts | planted.facts()


def _keys(documents: Path, part: str) -> dict[str, str]:
    """{id: comparison key} of a part."""
    return {
        number: comparison_key(text)
        for batch in read_documents(documents, part, ["id", "text"])
        for number, text in zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)
    }


def _copies(keys: dict[str, str]) -> dict[str, str]:
    """{id: id of the copy that stays}, grouped by the engine from a table of ids and keys alone."""
    if not keys:
        return {}
    with tempfile.TemporaryDirectory(prefix="treino-") as folder:
        path = Path(folder) / "keys.parquet"
        pq.write_table(pa.table({"id": list(keys), "key": list(keys.values())}), path)
        return first_of_each([path], "key")


def _first(keys: dict[str, str]) -> dict[str, str]:
    """{comparison key: smallest id}: the document that stays of its group."""
    first: dict[str, str] = {}
    for number, key in keys.items():
        first[key] = min(number, first.get(key, number))
    return first


class Planted:
    """On the embedded world it is known which documents are copies: how many of them were found.

    Of a group of equal documents one stays, be it the original or a copy; so a group with p planted copies of which r
    documents were removed counts min(p, r) found.
    """

    def __init__(self) -> None:
        self._copies: Counter[str] = Counter()
        self._removed: Counter[str] = Counter()

    def see(self, row: dict[str, Any], key: str, removed: bool) -> None:
        """Take note of a document, the key of its group, and what became of it."""
        self._removed[key] += removed
        if row["meta"] and json.loads(row["meta"]).get("planted") == "duplicate":
            self._copies[key] += 1

    def facts(self) -> dict[str, int]:
        """Planted copies and how many of them were found; nothing where none was planted."""
        if not self._copies:
            return {}
        found = sum(min(count, self._removed[key]) for key, count in self._copies.items())
        return {"planted_duplicates": self._copies.total(), "planted_duplicates_found": found}

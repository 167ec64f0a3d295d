"""What becomes of which document, in a table on disk, and the step that carries it out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from treino import files
from treino.corpus.deduplicate.paragraphs import without_paragraphs
from treino.corpus.documents import content_hash, removed_row
from treino.corpus.shards import Outcome

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("rule", pa.string()),
        ("kept", pa.string()),
        ("copies", pa.int64()),
        ("paragraphs", pa.list_(pa.uint64())),
        ("keepers", pa.list_(pa.string())),
    ]
)
"""A row for each document that does not stay as it is: `rule` and `kept` (the id of the copy that stays) where it goes;
`copies` it stands for, itself among them, where it stays for others; the hashes of the `paragraphs` that it loses to `keepers`.
"""


ROWS_AT_ONCE = 10_000


def write_fates(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write the table, sorted by the ids' bytes, so that an id is found by bisection."""
    waiting = iter(rows)
    batches = [pa.RecordBatch.from_pylist([], SCHEMA)]
    while some := list(islice(waiting, ROWS_AT_ONCE)):  # as Python objects rows take ten times their place
        batches.append(pa.RecordBatch.from_pylist(some, SCHEMA))
    table = pa.Table.from_batches(batches)
    sink = pa.BufferOutputStream()
    pq.write_table(table.sort_by("id"), sink, compression="zstd")
    files.write_bytes(path, sink.getvalue().to_pybytes())


@dataclass(frozen=True)
class Fates:
    """The step of deduplication: documents go, lose paragraphs, or are told for how many copies they stand (`meta.copies`)."""

    path: str
    name: str = "deduplicate"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        ids, table = _load(self.path, Path(self.path).stat().st_mtime_ns)
        wanted = _fixed(rows["id"], ids.dtype)
        places = np.searchsorted(ids, wanted)
        places[places == len(ids)] = 0
        known = np.flatnonzero(ids[places] == wanted) if len(ids) else np.empty(0, np.int64)
        if not len(known):
            return Outcome(rows)
        fates = table.take(pa.array(places[known])).to_pylist()
        documents = rows.take(pa.array(known)).to_pylist()
        texts: dict[int, str] = {}
        metas: dict[int, str] = {}
        goes = np.zeros(rows.num_rows, bool)
        record, counts = [], Counter[str]()
        for place, document, fate in zip(known.tolist(), documents, fates, strict=True):
            if fate["rule"]:
                goes[place] = True
                record.append(removed_row(document, fate["rule"], fate["kept"]))
                continue
            if fate["copies"] > 1:
                metas[place] = _with_copies(document["meta"], fate["copies"])
            if fate["paragraphs"]:
                texts[place] = without_paragraphs(document["text"], set(fate["paragraphs"]))
                keepers = " ".join(sorted(set(fate["keepers"])))
                record.append(removed_row(document, "repeated_paragraph", keepers, texts[place]))
                goes[place] = not texts[place]
                counts["repeated_paragraph"] += bool(texts[place])
        hashes = {place: content_hash(text) for place, text in texts.items()}
        changed = _replaced(_replaced(_replaced(rows, "text", texts), "content_hash", hashes), "meta", metas)
        return Outcome(changed.filter(pa.array(~goes)) if goes.any() else changed, record, counts)


@lru_cache(maxsize=2)
def _load(path: str, written: int) -> tuple[np.ndarray, pa.Table]:
    """The ids as fixed-width bytes, sorted, and the table in that order; read once a process, or where it is a new one."""
    table = pq.read_table(path, schema=SCHEMA)
    longest = max((len(key.encode()) for key in table["id"].to_pylist()), default=1)
    ids = _fixed(table["id"], np.dtype(f"S{longest}"))
    return ids, table


def _fixed(ids: Any, kind: np.dtype) -> np.ndarray:
    """Ids as bytes of one width; a longer one than any in the table becomes the empty one, which is in no table."""
    return np.array([key if len(key) <= kind.itemsize else b"" for key in map(str.encode, ids.to_pylist())], kind)


def _with_copies(meta: str | None, copies: int) -> str:
    return json.dumps(json.loads(meta or "{}") | {"copies": copies}, ensure_ascii=False, sort_keys=True)


def _replaced(rows: pa.RecordBatch, name: str, values: dict[int, str]) -> pa.RecordBatch:
    """The rows with new values of a column at some places; the other ones are not touched."""
    if not values:
        return rows
    places = np.zeros(rows.num_rows, bool)
    places[list(values)] = True
    new = pa.array([values[place] for place in sorted(values)], rows.schema.field(name).type)
    column = pc.call_function("replace_with_mask", [rows[name], pa.array(places), new])
    return rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)

"""Documents on disk: Parquet rows with a schema version, in two parts, `training` and `held_out`, and what was removed."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from treino import files
from treino.errors import DataError
from treino.messages import N_

SCHEMA_VERSION = b"1"
PARTS = ("training", "held_out")
PART_BYTES = 64_000_000
BATCH_ROWS = 2048
EXCERPT = 200
"""Characters of a text that the record of what was changed or removed keeps."""

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("source", pa.string()),
        ("content_hash", pa.string()),
        ("language", pa.string()),
        ("licence", pa.string()),
        ("weight", pa.float64()),
        ("meta", pa.string()),
    ],
    metadata={b"treino.documents": SCHEMA_VERSION},
)
REMOVED = pa.schema(
    [(name, pa.string()) for name in ("id", "source", "rule", "detail", "before", "after")],
    metadata={b"treino.removed": SCHEMA_VERSION},
)


def content_hash(text: str) -> str:
    """SHA-256 (hex) of the text in NFC: the same words in NFC and NFD are the same content."""
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")).hexdigest()


class Writer:
    """Writes rows to `folder/part-00000.parquet` …, a new file after about 64 MB of text; equal rows give equal bytes."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder, self.schema = folder, schema
        self.rows: list[dict[str, Any]] = []
        self.size = self.count = self.parts = 0
        files.make_private(folder)

    def add(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self.rows.append(row)
        self.count += 1
        self.size += sum(len(value) for value in row.values() if isinstance(value, str))
        if self.size > PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as a part."""
        if not self.rows and self.parts:
            return
        sink = pa.BufferOutputStream()
        pq.write_table(
            pa.Table.from_pylist(self.rows, self.schema), sink, compression="zstd", row_group_size=BATCH_ROWS
        )
        files.write_bytes(self.folder / f"part-{self.parts:05d}.parquet", sink.getvalue().to_pybytes())
        self.rows, self.size, self.parts = [], 0, self.parts + 1

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.flush()


def part_files(folder: Path, part: str) -> list[Path]:
    """The Parquet files of a part, in order."""
    return sorted((folder / part).glob("part-*.parquet"))


def read_documents(folder: Path, part: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Record batches of a part in order, a few thousand rows at a time."""
    for path in part_files(folder, part):
        file = pq.ParquetFile(path)
        known = file.schema_arrow.metadata or {}
        version = known.get(b"treino.documents", known.get(b"treino.labelled"))
        if part in PARTS and version != SCHEMA_VERSION:
            raise DataError(
                N_("{path} has documents of the format {version}, not {known}"),
                fix=N_("update treino, or collect again"),
                path=str(path),
                version=str((version or b"?").decode()),
                known=SCHEMA_VERSION.decode(),
            )
        yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns)


def read_rows(folder: Path, part: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a part in order."""
    for batch in read_documents(folder, part, columns):
        yield from batch.to_pylist()


def iterate_texts(folder: Path, part: str) -> Iterator[tuple[str, str]]:
    """(id, text) of every document of a part, in order."""
    for batch in read_documents(folder, part, ["id", "text"]):
        yield from zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)


def removed_row(document: dict[str, Any], rule: str, detail: str = "", after: str = "") -> dict[str, Any]:
    """A record of a document that a rule changed or removed: the text around the first difference, bounded."""
    before = document.get("text") or ""
    start = 0
    if after:
        pairs = enumerate(zip(before, after, strict=False))
        start = max(0, next((i for i, (a, b) in pairs if a != b), min(len(before), len(after))) - 20)
    return {
        "id": document["id"],
        "source": document["source"],
        "rule": rule,
        "detail": detail,
        "before": before[start : start + EXCERPT],
        "after": after[start : start + EXCERPT],
    }


def write_rows(folder: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema = DOCUMENTS) -> int:
    """Write rows as one part folder; returns their number."""
    with Writer(folder, schema) as writer:
        for row in rows:
            writer.add(row)
    return writer.count

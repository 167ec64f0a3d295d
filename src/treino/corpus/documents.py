"""Documents on disk: Parquet rows with a schema version, in two parts, `training` and `held_out`, and what was removed."""

from __future__ import annotations

import contextlib
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
"""Bytes of text after which a new part begins: the unit of parallel work and of resuming."""
BATCH_ROWS, BATCH_BYTES = 2048, 4_000_000
"""A row group, and so a record batch, ends at whichever comes first; a longer document has one for itself."""
EXCERPT = 200
"""Characters of a text that the record of what was changed or removed keeps."""

KINDS = (b"treino.documents", b"treino.labelled", b"treino.conversations")
"""Under which a file of rows says the version of their form."""

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
    [(name, pa.string()) for name in ("id", "source", "step", "rule", "detail", "before", "after")],
    metadata={b"treino.removed": SCHEMA_VERSION},
)


def content_hash(text: str) -> str:
    """SHA-256 (hex) of the text in NFC: the same words in NFC and NFD are the same content."""
    return hashlib.sha256(unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")).hexdigest()


class Part:
    """A Parquet file that is being written, row group by row group."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._size = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows. They wait until there are enough of them for a row group."""
        self._waiting.append(rows)
        self._rows += rows.num_rows
        self._size += rows.nbytes
        if self._rows >= BATCH_ROWS or self._size > BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """End the row group."""
        if self._rows:
            self._file.write_table(pa.Table.from_batches(self._waiting), row_group_size=BATCH_ROWS)
        self._waiting, self._rows, self._size = [], 0, 0


@contextlib.contextmanager
def writing_part(path: Path, schema: pa.Schema) -> Iterator[Part]:
    """A new Parquet file, under its name only when the block has ended well."""
    with files.writing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as file:
        part = Part(file)
        yield part
        part.flush()


class Writer:
    """Writes rows to `folder/part-00000.parquet` …, a new file after about 64 MB of text; equal rows give equal bytes.

    `name`: what the files' names begin with instead of `part`, where several writers share a folder.
    It holds the rows of one row group, and there is always a file, be it without rows.
    """

    def __init__(self, folder: Path, schema: pa.Schema, name: str = "part") -> None:
        self.folder, self.schema, self._name = folder, schema, name
        self.rows: list[dict[str, Any]] = []
        self.count = self._parts = self._waiting = self._written = 0
        self._part: Part | None = None
        self._open = contextlib.ExitStack()
        files.make_private(folder)

    def add(self, row: dict[str, Any]) -> None:
        """Add one row."""
        self.rows.append(row)
        self.count += 1
        self._waiting += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(self.rows) >= BATCH_ROWS or self._waiting > min(BATCH_BYTES, PART_BYTES):
            self._flush()
        if self._written > PART_BYTES:
            self._end_part()

    def _flush(self) -> None:
        """Hand the rows that wait to the open part."""
        if self._part is None:
            path = self.folder / part_name(self._parts, self._name)
            self._part = self._open.enter_context(writing_part(path, self.schema))
            self._parts += 1
        self._part.add(pa.RecordBatch.from_pylist(self.rows, self.schema))
        self.rows, self._waiting, self._written = [], 0, self._written + self._waiting

    def _end_part(self) -> None:
        self._part, self._written = None, 0
        self._open.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        with self._open as open_part:
            if error:
                open_part.__exit__(kind, error, trace)
            elif self.rows or not self._parts:
                self._flush()


def part_name(number: int, name: str = "part") -> str:
    """File name of a part."""
    return f"{name}-{number:05d}.parquet"


def part_files(folder: Path, part: str) -> list[Path]:
    """The Parquet files of a part, in order."""
    return sorted((folder / part).glob("part-*.parquet"))


def read_documents(folder: Path, part: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Record batches of a part in order, a few thousand rows or a few MB at a time."""
    for path in part_files(folder, part):
        yield from read_part(path, columns, documents=part in PARTS)


def read_part(path: Path, columns: list[str] | None = None, *, documents: bool = True) -> Iterator[pa.RecordBatch]:
    """Record batches of one Parquet file in order, a row group or less at a time.

    Raises:
        DataError: where it should hold documents and has them in a format of another version.
    """
    with pq.ParquetFile(path) as file:
        known = file.schema_arrow.metadata or {}
        version = next((known[name] for name in KINDS if name in known), None)
        if documents and version != SCHEMA_VERSION:
            raise DataError(
                N_("{path} has documents of the format {version}, not {known}"),
                fix=N_("update treino, or collect again"),
                path=str(path),
                version=str((version or b"?").decode()),
                known=SCHEMA_VERSION.decode(),
            )
        for group in range(file.num_row_groups):
            yield from file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=columns)


def read_rows(folder: Path, part: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a part in order."""
    for batch in read_documents(folder, part, columns):
        yield from batch.to_pylist()


def iterate_texts(folder: Path, part: str) -> Iterator[tuple[str, str]]:
    """(id, text) of every document of a part, in order."""
    for batch in read_documents(folder, part, ["id", "text"]):
        yield from zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)


def removed_row(
    document: dict[str, Any], rule: str, detail: str = "", after: str = "", step: str = ""
) -> dict[str, Any]:
    """A record of a document that a rule changed or removed: the text around the first difference, bounded.

    `step`: the step that has the rule; `corpus.shards.apply` fills in its own steps' names.
    """
    before = document.get("text") or ""
    start = max(0, first_difference(before, after) - 20) if after else 0
    return {
        "id": document["id"],
        "source": document["source"],
        "step": step,
        "rule": rule,
        "detail": detail,
        "before": before[start : start + EXCERPT],
        "after": after[start : start + EXCERPT],
    }


def first_difference(one: str, other: str) -> int:
    """Where two texts differ first; where one ends, if it is the beginning of the other."""
    equal, end = 0, min(len(one), len(other))
    while equal < end:
        middle = (equal + end + 1) // 2
        if one[equal:middle] == other[equal:middle]:
            equal = middle
        else:
            end = middle - 1
    return equal


def write_rows(folder: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema = DOCUMENTS) -> int:
    """Write rows as one part folder; returns their number."""
    with Writer(folder, schema) as writer:
        for row in rows:
            writer.add(row)
    return writer.count

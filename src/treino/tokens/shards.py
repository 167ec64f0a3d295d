"""Tokens on disk, mapped into memory: one flat array, and where each document begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from treino import files
from treino.errors import DataError
from treino.messages import N_

SCHEMA = 1
RECORD = "tokens.json"


@dataclass(frozen=True)
class Shard:
    """All documents of a part. `tokens` holds each document followed by its end token; `offsets` (documents + 1) says
    where each begins, and where the last one ends. Where documents begin with another token than they end with,
    `begin_of_text` names it.

    `repeats`: how often an epoch reads each document (None: once); `difficulty`: what a curriculum sorts them by; `supervised`:
    which tokens are learnt (None: all).
    """

    tokens: np.ndarray
    offsets: np.ndarray
    end_of_text: int
    begin_of_text: int | None = None
    repeats: np.ndarray | None = None
    difficulty: np.ndarray | None = None
    supervised: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def first_input(self) -> int:
        """The token that stands before a document's first one."""
        return self.end_of_text if self.begin_of_text is None else self.begin_of_text

    def document(self, index: int) -> np.ndarray:
        """Tokens of a document, its end token left out."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1] - 1]


def open_shard(folder: Path, part: str) -> Shard:
    """Map a part (`training` or `validation`) of a tokens folder; `DataError` where sizes are not as recorded."""
    record = read_record(folder)
    entry = record["parts"][part]
    tokens = _map(folder / f"{part}.bin", np.dtype(record["dtype"]).newbyteorder("<"), entry["tokens"])
    offsets = _map(folder / f"{part}.offsets.bin", np.dtype("<i8"), entry["documents"] + 1)
    columns = {
        name: np.array(_map(folder / f"{part}.{name}.bin", np.dtype("<f8"), entry["documents"]))
        for name in entry.get("columns", ())
    }
    return Shard(tokens, offsets, record["end_of_text"], record.get("begin_of_text"), **columns)


def read_record(folder: Path) -> dict[str, Any]:
    """`tokens.json` of a tokens folder."""
    return files.read_json(folder / RECORD)


def write_columns(folder: Path, part: str, columns: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Write what the order stage says of each document of a part (`repeats`, `difficulty`); returns what was written."""
    for name, values in columns.items():
        files.write_bytes(folder / f"{part}.{name}.bin", values.astype("<f8").tobytes())
    return {"columns": sorted(columns)} if columns else {}


def write_part(folder: Path, part: str, documents: list[np.ndarray], end_of_text: int, dtype: str) -> dict[str, int]:
    """Write a part's arrays; returns its counts (end tokens counted)."""
    kind = np.dtype(dtype).newbyteorder("<")
    end = np.array([end_of_text], kind)
    flat = np.concatenate([piece for item in documents for piece in (item.astype(kind), end)] or [np.empty(0, kind)])
    lengths = np.fromiter((len(item) + 1 for item in documents), np.int64, len(documents))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]).astype("<i8")
    files.write_bytes(folder / f"{part}.bin", flat.tobytes())
    files.write_bytes(folder / f"{part}.offsets.bin", offsets.tobytes())
    return {"tokens": len(flat), "documents": len(documents)}


def _map(path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    try:
        size = path.stat().st_size
    except OSError:
        size = -1
    if size != count * dtype.itemsize:
        raise DataError(
            N_("{path} should hold {expected} bytes and holds {size}"),
            fix=N_("run the recipe again: the tokens are made anew"),
            path=str(path),
            expected=count * dtype.itemsize,
            size=max(size, 0),
        )
    return np.memmap(path, dtype, "r", shape=(count,)) if count else np.empty(0, dtype)

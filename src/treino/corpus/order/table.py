"""The order of a corpus on disk: one row a document, in `order.parquet`, with `repeats`, `difficulty` or both.

Where every document is read once, in any order, there is no such file: nothing is to be said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from treino import files

ORDER, SCORES = "order.parquet", "scores.parquet"
SCHEMA_VERSION = b"1"


def write_columns(path: Path, ids: Iterable[str], columns: Mapping[str, Sequence[float]]) -> None:
    """Write what is said of each document, in order of id, so that equal rows give equal bytes."""
    table = pa.table({"id": pa.array(ids, pa.string())} | {name: pa.array(one) for name, one in columns.items()})
    table = table.sort_by("id").replace_schema_metadata({b"treino.order": SCHEMA_VERSION})
    files.write_with(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def read_columns(folder: Path, ids: Sequence[str], name: str = ORDER) -> dict[str, np.ndarray]:
    """Columns of the table in a folder, for the documents of these ids, which it holds; nothing where there is no table."""
    path = folder / name
    if not path.exists():
        return {}
    table = pq.read_table(path)
    known = pc.SetLookupOptions(value_set=table["id"].combine_chunks())
    places = pc.call_function("index_in", [pa.array(ids, pa.string())], known)
    return {column: table[column].to_numpy()[places.to_numpy()] for column in table.column_names if column != "id"}

"""The documents of a stage under numbers: held-out ones first, then those for training, each in the order of the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from treino.corpus.documents import part_files
from treino.corpus.words import batches


@dataclass(frozen=True)
class Group:
    """A row group of a file: the numbers start … start + rows - 1, of which `chosen` are wanted (None: all)."""

    path: Path
    place: int
    start: int
    rows: int
    chosen: np.ndarray | None = None

    def read(self, columns: Sequence[str]) -> pa.RecordBatch:
        """The wanted rows."""
        # What is parallel here are the groups.
        with pq.ParquetFile(self.path) as file:
            table = file.read_row_group(self.place, columns=list(columns), use_threads=False)
        if self.chosen is not None and len(self.chosen) < self.rows:
            table = table.take(pa.array(self.chosen - self.start))
        return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], table.schema.names)

    @property
    def numbers(self) -> np.ndarray:
        """The numbers of the rows that `read` gives."""
        return np.arange(self.start, self.start + self.rows) if self.chosen is None else self.chosen


@dataclass(frozen=True)
class Collection:
    """All row groups of both parts; the first `held_out` numbers are held-out documents."""

    groups: tuple[Group, ...]
    held_out: int

    @classmethod
    def open(cls, documents: Path) -> Collection:
        """The documents of a folder."""
        groups: list[Group] = []
        start = held_out = 0
        for part in ("held_out", "training"):
            for path in part_files(documents, part):
                metadata = pq.read_metadata(path)
                for place in range(metadata.num_row_groups):
                    rows = metadata.row_group(place).num_rows
                    groups.append(Group(path, place, start, rows))
                    start += rows
            held_out = held_out if part == "training" else start
        return cls(tuple(groups), held_out)

    def __len__(self) -> int:
        return sum(group.rows for group in self.groups)

    def only(self, numbers: np.ndarray) -> Iterator[Group]:
        """The groups that hold some of the numbers (sorted), narrowed to them."""
        for group in self.groups:
            first, last = np.searchsorted(numbers, [group.start, group.start + group.rows])
            if first < last:
                yield Group(group.path, group.place, group.start, group.rows, numbers[first:last])


def in_batches(texts: pa.Array, most: int) -> Iterator[list[str]]:
    """The texts as lists of about so many bytes; a longer text stands alone."""
    for first, last in batches(pc.call_function("binary_length", [texts]).to_pylist(), most):
        yield texts[first:last].to_pylist()

"""The first pass: what is kept of each document to find its copies, a few numbers and no text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from treino import events
from treino.corpus.deduplicate.collection import Collection, Group, in_batches
from treino.corpus.deduplicate.signatures import Banding, band_keys, banding
from treino.corpus.threads import in_order
from treino.corpus.words import grams_of, words_of
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import DeduplicateSettings

LENGTH = 5
"""Words of an n-gram by which documents are compared."""
SHORT = 50
"""Documents of fewer words are never near duplicates, and shorter paragraphs may repeat: they are formulas, not copies."""
BATCH_BYTES = 500_000
"""Text that is hashed at a time: its arrays stay in the processor's cache."""


@dataclass(frozen=True)
class Keys:
    """Of n documents, m of them long: numbers are places in the collection.

    Attributes:
        ids: the documents' ids.
        words: int32 [n], words of each document.
        texts: uint64 [n], equal for equal documents (and some others: the text decides).
        long: int64 [m], numbers of the documents of at least `SHORT` words.
        bands: uint32 [m, bands], see `band_keys`.
        paragraphs, owners: hash of each long paragraph, and the number of its document.
        dates: int64 [n], year, month and day in decimal, 0 where unknown; empty unless asked for.
        planted: what the embedded world says of its own copies, (number, record).
    """

    ids: pa.Array
    words: np.ndarray
    texts: np.ndarray
    long: np.ndarray
    bands: np.ndarray
    paragraphs: np.ndarray
    owners: np.ndarray
    dates: np.ndarray
    planted: tuple[tuple[int, dict[str, Any]], ...]


def read_keys(settings: DeduplicateSettings, collection: Collection) -> Keys:
    """Keys of all documents, one pass over the text."""
    bands = banding(settings.threshold)

    def parts() -> Iterator[Keys]:
        done = 0
        yield _empty(bands)
        for keys in in_order(partial(_group_keys, settings, bands), collection.groups):
            yield keys
            done += len(keys.words)
            events.progress("deduplicate", done, len(collection), N_("documents"))

    return _joined(parts())


def _group_keys(settings: DeduplicateSettings, bands: Banding, group: Group) -> Keys:
    rows = group.read(["id", "text", "meta"])
    parts, start = [_empty(bands)], group.start
    for some in in_batches(rows["text"], BATCH_BYTES):
        parts.append(_text_keys(settings, bands, some, start))
        start += len(some)
    texts = _joined(parts)
    dates = np.array([_date(meta) for meta in rows["meta"].to_pylist()] if settings.keep == "newest" else [], np.int64)
    planted = tuple(_planted(rows, group.start))
    return replace(texts, ids=rows["id"].cast(_IDS), dates=dates, planted=planted)


_IDS = pa.large_string()
_ARRAYS = ("words", "texts", "long", "bands", "paragraphs", "owners", "dates")


def _text_keys(settings: DeduplicateSettings, bands: Banding, texts: list[str], start: int) -> Keys:
    words = words_of(texts)
    long = np.flatnonzero(words.counts >= SHORT)
    keys = _empty(bands).bands
    if settings.near and len(long):
        # A short document has n-grams, too, but is not compared by them.
        grams = grams_of(words, LENGTH)
        with_grams = np.flatnonzero(np.diff(grams.offsets) > 0)
        keys = band_keys(grams, bands)[np.isin(with_grams, long)]
    paragraphs, owners = words.long_lines(SHORT)
    return Keys(
        pa.array([], _IDS),
        words.counts.astype(np.int32),
        words.texts(),
        long[: len(keys)] + start,
        keys,
        paragraphs,
        (owners + start).astype(np.int32),
        np.empty(0, np.int64),
        (),
    )


def _empty(bands: Banding) -> Keys:
    none = {name: np.empty(0, kind) for name, kind in _KINDS.items()} | {"bands": np.empty((0, bands.bands), np.uint32)}
    return Keys(pa.array([], _IDS), planted=(), **none)


_KINDS: dict[str, Any] = {
    "words": np.int32,
    "texts": np.uint64,
    "long": np.int64,
    "paragraphs": np.uint64,
    "owners": np.int32,
    "dates": np.int64,
}


def _joined(parts: Iterable[Keys]) -> Keys:
    """One after the other; of what is joined no column is held twice but the one that is being joined."""
    columns: dict[str, list[Any]] = {name: [] for name in ("ids", "planted", *_ARRAYS)}
    for part in parts:
        for name, column in columns.items():
            column.append(getattr(part, name))
    arrays = {name: np.concatenate(columns.pop(name)) for name in _ARRAYS}
    return Keys(
        ids=pa.concat_arrays(columns.pop("ids")), planted=tuple(chain.from_iterable(columns["planted"])), **arrays
    )


def _date(meta: str | None) -> int:
    """The year, month and day of a document's record as a number that grows with time (20240229), 0 without a date."""
    found = re.match(r"(?:D:)?(\d{4})(?:-?(\d\d))?(?:-?(\d\d))?", str(json.loads(meta or "{}").get("date") or ""))
    return int("".join(part or "00" for part in found.groups())) if found else 0


def _planted(rows: pa.RecordBatch, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of the embedded world's documents."""
    there = pc.call_function("match_substring", [rows["meta"].fill_null("")], pc.MatchSubstringOptions('"planted"'))
    for place in np.flatnonzero(there):
        yield start + int(place), json.loads(rows["meta"][int(place)].as_py())

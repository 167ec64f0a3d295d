"""The decontaminate stage: training documents in which an evaluation item stands go, and which items those are is written."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from treino import files
from treino.corpus.decontaminate.items import Item, labelled_items, read_items, world_items
from treino.corpus.decontaminate.passages import Hit, Passages
from treino.corpus.documents import EXCERPT, read_documents, read_rows, removed_row
from treino.corpus.shards import Outcome, apply, with_texts
from treino.corpus.words import words_of
from treino.errors import NothingLeft
from treino.measure import release_memory
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import DecontaminateSettings

ITEMS, CONTAMINATED, HITS = "records/items.parquet", "contaminated.json", "contaminated.parquet"
HELD_OUT = "held_out"
"""The set of the held-out documents."""
MOST_ITEMS = 100
"""Items that are recorded of one document."""
_RULE, _APART = "contaminated", " | "
_SCHEMA = pa.schema([(name, pa.string()) for name in ("set", "item", "found", "document")])


def decontaminate(
    settings: DecontaminateSettings,
    documents: Path,
    output: Path,
    *,
    truth: Path | None = None,
    labelled: Path | None = None,
    base: Path = Path(),
) -> dict[str, Any]:
    """Look for every evaluation item in the training part, and drop what `settings.drop` says.

    `truth`: folder with the town's questions; `labelled`: folder of labelled rows; `base`: where the recipe's files lie.
    Writes `contaminated.json` (items by set: how many, and which were found) and `contaminated.parquet` (set, item, which
    part was found, document).

    Raises:
        DataError: where a given file is missing, damaged or holds no item; where no training text is left.
    """
    items = output / ITEMS
    files.make_private(items.parent)
    if not items.exists():
        _write_items(items, _items(settings, truth, labelled, base))
    step = Decontaminate(str(items.absolute()), str(documents.absolute()), settings.own, settings.drop)
    facts = apply([step], documents, output, "decontaminate")
    if not facts["documents_out"] - facts["held_out_documents"]:
        raise NothingLeft(
            N_("no text is left: an evaluation item stands in every document"),
            fix=N_('set decontaminate.drop = "paragraph", or give more text'),
        )
    return facts | _summary(output, items, facts["held_out_documents"] if settings.own else 0)


def file_digests(settings: DecontaminateSettings, base: Path) -> dict[str, str]:
    """Digests of the given files."""
    paths = {name: base / name for name in settings.against}
    return {name: files.sha256_file(path) if path.is_file() else "missing" for name, path in paths.items()}


@dataclass(frozen=True)
class Decontaminate:
    """The step: `items` is a table of items, `documents` the folder whose held-out part counts as well if `own`."""

    items: str
    documents: str
    own: bool
    drop: str
    name: str = "decontaminate"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        known = _load(self.items, self.documents, self.own, Path(self.items).stat().st_mtime_ns)
        texts = [
            "" if number in known.held_out else text
            for number, text in zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True)
        ]
        hits: dict[int, list[Hit]] = defaultdict(list)
        for hit in known.passages.find(texts):
            hits[hit.text].append(hit)
        record: list[dict[str, Any]] = []
        after: list[str | None] = rows["text"].to_pylist()
        counts: Counter[str] = Counter()
        for place, found in hits.items():
            document = rows.slice(place, 1).to_pylist()[0]
            if self.drop == "document":
                after[place] = None
            elif self.drop == "paragraph":
                after[place] = _without(document["text"], found) or None
            counts[_RULE] += after[place] is not None
            record += _record(document, found, known, after[place] or "" if self.drop == "paragraph" else "")
        return Outcome(with_texts(rows, after) if hits else rows, record, +counts)


@dataclass(frozen=True)
class _Known:
    names: list[tuple[str, str]]
    passages: Passages
    held_out: frozenset[str]


@lru_cache(maxsize=2)
def _load(items: str, documents: str, own: bool, written: int) -> _Known:
    """The items in a form to search with; made once a process, and again where they were written anew."""
    given = [Item(**row) for row in pq.read_table(items).to_pylist()]
    names = [(item.set, item.id) for item in given]
    held_out = [row["id"] for row in read_rows(Path(documents), HELD_OUT, ["id"])]
    texts = (batch["text"].to_pylist() for batch in read_documents(Path(documents), HELD_OUT, ["text"]))
    passages = Passages(given, texts if own else ())
    release_memory()  # what was read to make it is gone
    return _Known(names + [(HELD_OUT, number) for number in held_out if own], passages, frozenset(held_out))


def _items(settings: DecontaminateSettings, truth: Path | None, labelled: Path | None, base: Path) -> Iterator[Item]:
    if settings.own and truth:
        yield from world_items(truth)
    if settings.own and labelled:
        yield from labelled_items(labelled)
    for name in settings.against:
        for item in read_items(base / name, name):
            yield replace(item, set=_plain(item.set), id=_plain(item.id))


def _plain(name: str) -> str:
    """A name that does not look like several in the record."""
    return " ".join(name.replace(_APART.strip(), "/").split())


def _write_items(path: Path, items: Iterator[Item]) -> None:
    schema = pa.schema([*((name, pa.string()) for name in ("set", "id", "prompt", "answer")), ("whole", pa.bool_())])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([vars(item) for item in items], schema), sink, compression="zstd")
    files.write_bytes(path, sink.getvalue().to_pybytes())


def _record(document: dict[str, Any], hits: list[Hit], known: _Known, after: str) -> Iterator[dict[str, Any]]:
    """A row for each item that stands in the document, with the text around it."""
    by_item: dict[int, list[Hit]] = defaultdict(list)
    for hit in hits:
        by_item[known.passages.owners[hit.passage]].append(hit)
    for item, found in islice(by_item.items(), MOST_ITEMS):
        parts = dict.fromkeys(known.passages.parts[hit.passage] for hit in found)
        detail = _APART.join([*known.names[item], ", ".join(parts)])
        row = removed_row(document, _RULE, detail, after)
        yield row if after else row | {"before": _around(document["text"], found[0].places[0])}


def _around(text: str, word: int) -> str:
    """The text from shortly before a word on."""
    found = next(islice(re.finditer(r"[^\W_]+", text), word, None), None)
    start = max(0, found.start() - EXCERPT // 10) if found else 0
    return text[start : start + EXCERPT]


def _without(text: str, hits: list[Hit]) -> str:
    """The text without the lines in which some of the found words stand."""
    lines = text.split("\n")
    ends = np.cumsum(words_of(lines).counts)
    gone: set[int] = set()
    for hit in hits:
        for place in hit.places:
            first, last = np.searchsorted(ends, [place, place + max(1, hit.length) - 1], side="right")
            gone.update(range(first, last + 1))
    return "\n".join(line for number, line in enumerate(lines) if number not in gone).strip("\n")


def _summary(output: Path, items: Path, held_out: int) -> dict[str, Any]:
    """Write which items were found where, and return how many of each set."""
    sizes = Counter(pq.read_table(items, columns=["set"])["set"].to_pylist())
    if held_out:
        sizes[HELD_OUT] = held_out
    rows = [
        dict(zip(_SCHEMA.names, [*row["detail"].split(_APART), row["id"]], strict=True))
        for row in read_rows(output, "removed", ["id", "rule", "detail"])
        if row["rule"] == _RULE
    ]
    rows.sort(key=lambda row: tuple(row.values()))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), sink, compression="zstd")
    files.write_bytes(output / HITS, sink.getvalue().to_pybytes())
    found = {name: sorted({row["item"] for row in rows if row["set"] == name}) for name in sizes}
    files.write_json(
        output / CONTAMINATED, {name: {"items": sizes[name], "contaminated": found[name]} for name in sizes}
    )
    return {
        "contaminated_documents": len({row["document"] for row in rows}),
        "items": dict(sizes),
        "contaminated_items": {name: len(which) for name, which in found.items()},
    }

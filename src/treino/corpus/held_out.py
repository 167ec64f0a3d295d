"""Which documents are kept away from training, to judge the model: named ones, a share by their hash, or tails of a few."""

from __future__ import annotations

import difflib
import json
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa

from treino import files
from treino.corpus.documents import (
    DOCUMENTS,
    PARTS,
    Writer,
    content_hash,
    iterate_texts,
    part_files,
    read_part,
    read_rows,
    writing_part,
)
from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.read import LABELS, WORLD, source_files
from treino.errors import UsageError
from treino.messages import N_
from treino.recipe import CorpusSettings

FEW_DOCUMENTS = 20
SHORTEST_TAIL = 200
"""Characters that the held-out tail of a document has at least; shorter documents are not cut."""


def part_of(row: dict[str, Any], raw: RawDocument, held_out: float | tuple[str, ...]) -> str:
    """Whether a document is for training or held out: by its name, or by where its hash falls."""
    if isinstance(held_out, tuple):
        return "held_out" if is_named(row["source"], held_out) else "training"
    falls = raw.may_be_held_out and int(row["content_hash"][:8], 16) < held_out * 2**32
    return "held_out" if falls else "training"


def hold_out_some(share: float, nearest: str, folder: Path) -> tuple[str, dict[str, tuple[int, int]]]:
    """See to it that something is held out when all documents are collected, if anything can be.

    Of fewer than 20 documents none can be spared: the tail of each is held out. Where no hash fell into the share, the
    document that came nearest is held out, `nearest`: its id. Returns how the held-out ones were chosen, and documents and
    bytes of each part.
    """
    if sum(count for count, _ in measured(folder).values()) < FEW_DOCUMENTS:
        _hold_out_tails(share, folder)
        held_out = measured(folder)
        return "tails" if held_out["held_out"][0] else "none", held_out
    if nearest:
        _move(nearest, folder)
    after = measured(folder)
    return "documents" if after["held_out"][0] else "none", after


def measured(folder: Path) -> dict[str, tuple[int, int]]:
    """Documents and bytes of text of each part."""
    sizes = {part: [len(text.encode()) for _, text in iterate_texts(folder, part)] for part in PARTS}
    return {part: (len(found), sum(found)) for part, found in sizes.items()}


def _move(number: str, folder: Path) -> None:
    """Move one document from the training part to the held-out one, which is empty."""
    for path in part_files(folder, "training"):
        chosen = [row for batch in read_part(path) for row in _rows(batch, number, True)]
        if chosen:
            with writing_part(part_files(folder, "held_out")[0], DOCUMENTS) as moved:
                moved.add(pa.RecordBatch.from_pylist(chosen, DOCUMENTS))
            with writing_part(path, DOCUMENTS) as rest:
                for batch in read_part(path):
                    rest.add(pa.RecordBatch.from_pylist(_rows(batch, number, False), DOCUMENTS))


def _rows(batch: pa.RecordBatch, number: str, wanted: bool) -> list[dict[str, Any]]:
    """The rows with an id, or those without."""
    return [row for row in batch.to_pylist() if (row["id"] == number) == wanted]


def _hold_out_tails(share: float, folder: Path) -> None:
    """Hold out the tail of each document, cut where a paragraph ends.

    What the generator says of a whole document (its probability) holds for no part of it, and goes.
    """
    rows = [row for part in PARTS for row in read_rows(folder, part)]
    for part in PARTS:
        files.remove_folder(folder / part)
    with Writer(folder / "training", DOCUMENTS) as training, Writer(folder / "held_out", DOCUMENTS) as held_out:
        for row in rows:
            cut = tail_cut(row["text"], share)
            if cut is None:
                training.add(row)
                continue
            shared = row | {"meta": _without_probability(row["meta"])}
            for writer, text, suffix in ((training, row["text"][:cut], ""), (held_out, row["text"][cut:], "-tail")):
                writer.add(shared | {"id": row["id"] + suffix, "text": text, "content_hash": content_hash(text)})


def _without_probability(meta: str) -> str:
    known = {name: value for name, value in json.loads(meta).items() if name != "log_probability"}
    return json.dumps(known, ensure_ascii=False, sort_keys=True)


def tail_cut(text: str, share: float) -> int | None:
    """Where the last `share` of a text begins: behind the paragraph, line or sentence end nearest to it; None: too short."""
    wanted = round(len(text) * (1 - share))
    if len(text) - wanted < SHORTEST_TAIL:
        return None
    for mark in ("\n\n", "\n", ". "):
        before, after = text.rfind(mark, 0, wanted), text.find(mark, wanted)
        ends = [place + len(mark) for place in (before, after) if place > 0]
        ends = [end for end in ends if abs(end - wanted) <= len(text) * share / 2]
        if ends:
            return min(ends, key=lambda end: abs(end - wanted))
    return wanted


def is_named(source: str, names: tuple[str, ...]) -> bool:
    """Whether a document's source is one of the names: the whole path, the file's name, or the file and the row."""
    path = source.rpartition(":")[0] if source.rpartition(":")[2].isdigit() else source
    return any(unicodedata.normalize("NFC", name) in (path, path.rpartition("/")[2], source) for name in names)


def check_names(names: tuple[str, ...], corpus: CorpusSettings, base: Path) -> None:
    """Every held-out name must be a file of a source."""
    known = [
        name
        for source in corpus.sources
        if source.path not in ("", WORLD, LABELS)
        for name, _ in source_files(source, base)
    ]
    for name in names:
        if not any(is_named(item, (name,)) for item in known):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.3) or known[:1] or ["-"]
            raise UsageError(
                N_("corpus.held_out names {name}, which no source holds"),
                fix=N_("did you mean {guess}?"),
                name=name,
                guess=near[0],
            )

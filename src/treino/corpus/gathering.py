"""The job of reading sources into documents, bundle by bundle (`corpus.crew.Job`)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino import files
from treino.corpus.documents import DOCUMENTS, Writer, content_hash
from treino.corpus.held_out import part_of
from treino.corpus.shards import ACCOUNTS
from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import WORLD, read_source
from treino.recipe import CorpusSettings, SourceSettings, WorldSettings

TOLD = 100
"""Documents between two words of how far the work is."""
PAGES = "records/pages"
"""Folder of what web sites answered: not asked for twice."""


@dataclass(frozen=True)
class Piece:
    """What a bundle takes of one source: its number in the recipe, the label in its documents' ids, and the names of its
    files, or None for all that it has.
    """

    source: int
    label: str
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Gathering:
    """Sources to be read, and where to."""

    corpus: CorpusSettings
    world: WorldSettings
    base: Path
    seed: int
    labelled: Path | None
    output: Path
    bundles: tuple[tuple[Piece, ...], ...]

    def account(self, item: int) -> Path:
        """The file that says that a bundle is read."""
        return self.output / ACCOUNTS / f"{item:05d}.json"

    def work(self, item: int) -> Iterator[int | str]:
        """Read a bundle into parts of its own; at last yields its account."""
        problems, counts = Problems(), {"documents": Counter(), "bytes": Counter(), "read": Counter()}
        nearest: list[str] = []
        name = f"part-{item:05d}" if len(self.bundles) > 1 else "part"
        folders = {part: self.output / part for part in ("training", "held_out")}
        with (
            Writer(folders["training"], DOCUMENTS, name) as training,
            Writer(folders["held_out"], DOCUMENTS, name) as held_out,
        ):
            writers = {"training": training, "held_out": held_out}
            for source, raw, row in self._rows(item, problems):
                part = part_of(row, raw, self.corpus.held_out)
                writers[part].add(row)
                counts["documents"][part] += 1
                counts["bytes"][part] += len(row["text"].encode("utf-8", "surrogatepass"))
                counts["read"][source] += 1
                if raw.may_be_held_out:
                    nearest = min(nearest or [row["content_hash"], row["id"]], [row["content_hash"], row["id"]])
                if counts["documents"].total() % TOLD == 0:
                    yield TOLD
        yield counts["documents"].total() % TOLD
        yield json.dumps({**counts, "nearest": nearest, "problems": vars(problems)}, sort_keys=True)

    def keep(self, item: int, result: str) -> None:
        """From now on the bundle is read."""
        files.write_text(self.account(item), result)

    def _rows(self, item: int, problems: Problems) -> Iterator[tuple[int, RawDocument, dict[str, Any]]]:
        for piece in self.bundles[item]:
            source = self.corpus.sources[piece.source]
            where = (self.world, self.base, self.seed, problems, self.labelled, self.output / PAGES, piece.names)
            for raw in read_source(source, *where):
                yield piece.source, raw, _row(raw, source, piece.label)


def _row(raw: RawDocument, source: SourceSettings, label: str) -> dict[str, Any]:
    place = f"{label}\0{raw.name}\0{raw.row}"
    return {
        "id": hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:24],
        "text": raw.text,
        "source": f"{raw.name}:{raw.row}" if raw.row and raw.name != WORLD else raw.name,
        "content_hash": content_hash(raw.text),
        "language": source.language,
        "licence": source.licence,
        "weight": source.weight,
        "meta": json.dumps(raw.meta, ensure_ascii=False, sort_keys=True),
    }

"""Documents of one source, in a stream: what it is decides how it is read."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treino import files
from treino.corpus.documents import read_rows
from treino.corpus.sources.raw import Problems, read_text
from treino.corpus.sources.tables import MissingColumn, csv_rows, json_rows
from treino.errors import DataError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import SourceSettings, WorldSettings

COMPRESSIONS = ("", ".gz", ".zst")
KINDS = {".txt": "text", ".md": "text", ".jsonl": "json", ".ndjson": "json", ".csv": "csv"}
WORLD = "world"
LABELS = "labels"
"""The source of the labelled rows' texts, without their labels, and without the rows of validation and test."""

UNLABELLED = "unlabelled"
"""The part of a split that holds those texts."""


@dataclass(frozen=True)
class RawDocument:
    """A text as its source gives it: the file's path below the source, the row in it (0 for a whole file), what else is
    known, and whether it may be held out.
    """

    name: str
    row: int
    text: str
    meta: dict[str, Any]
    may_be_held_out: bool = True


def kind_of(path: Path) -> str | None:
    """How a file is read, by its name without a compression's ending; None: not a source."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS[1:]:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def source_files(source: SourceSettings, base: Path) -> list[tuple[str, Path]]:
    """(name, path) of the files of a source, sorted by name: the path below the source's folder, POSIX and NFC, so that
    neither the machine nor the order of a listing shows in it.
    """
    root = base / source.path
    if root.is_file():
        return [(_readable(root.name), root)]
    if not root.is_dir():
        raise DataError(
            N_("there is no file or folder {path}"),
            fix=N_("check corpus.sources: paths start from the folder of the recipe"),
            path=str(root),
        )
    found = [path for path in root.rglob("*") if kind_of(path) and not _hidden(path, root) and _is_file(path)]
    named = _distinct(sorted((_readable(path.relative_to(root).as_posix()), path) for path in found))
    if not named:
        kinds = ", ".join(KINDS)
        raise DataError(
            N_("the folder {path} holds no file that can be read"),
            fix=N_("readable are {kinds}, plain or as .gz or .zst"),
            path=str(root),
            kinds=kinds,
        )
    return named


def source_digest(source: SourceSettings, base: Path) -> dict[str, str]:
    """{name: SHA-256} of what a source reads; empty for the world and for lines, which the settings hold whole, and for
    the labelled rows, which come from another stage.
    """
    if source.lines or source.path in (WORLD, LABELS):
        return {}
    return {name: _digest(path) for name, path in source_files(source, base)}


def _digest(path: Path) -> str:
    try:
        return files.sha256_file(path)
    except OSError:
        return "unreadable"


def read_source(
    source: SourceSettings,
    world: WorldSettings,
    base: Path,
    seed: int,
    problems: Problems,
    labelled: Path | None = None,
) -> Iterator[RawDocument]:
    """Every document of a source. What cannot be used is noted in `problems` and never stops the rest. `labelled`: the
    folder of the split rows, for the source "labels".
    """
    if source.path == LABELS:
        assert labelled is not None, "the pipeline splits the rows before it collects them"
        for row, content in enumerate(read_rows(labelled, UNLABELLED, ["text"]), 1):
            yield RawDocument(LABELS, row, content["text"], {})
        return
    if source.lines:
        for row, line in enumerate(source.lines, 1):
            yield RawDocument("recipe", row, line, {})
        return
    if source.path == WORLD:
        from treino.corpus.world.documents import documents

        for document in documents(world, seed):
            clean = document.meta.get("planted") == "none"
            yield RawDocument(WORLD, document.index, document.text, document.meta, clean)
        return
    named = source_files(source, base)
    for name, path in named:
        kind = kind_of(path) or "text"
        if kind == "text":
            text = read_text(path, problems, name)
            if text is not None:
                yield RawDocument(name, 0, text, {})
            continue
        rows = json_rows if kind == "json" else csv_rows
        try:
            for row, text in rows(path, source.text, problems, name):
                yield RawDocument(name, row, text, {})
        except MissingColumn as error:
            if len(named) == 1:
                raise
            problems.add(error.where or name, "no_text_column")


def _readable(name: str) -> str:
    """A file's name in NFC; bytes of it that are not UTF-8 (names from old machines) as in Windows-1252."""
    name = re.sub(r"[\udc80-\udcff]", lambda found: bytes([ord(found[0]) - 0xDC00]).decode("cp1252", "replace"), name)
    return unicodedata.normalize("NFC", re.sub(r"[\ud800-\udfff]", "\ufffd", name))


def _distinct(named: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """Names that differ only in how their accents are spelt become different ones."""
    seen: Counter[str] = Counter()
    distinct = []
    for name, path in named:
        seen[name] += 1
        distinct.append((name if seen[name] == 1 else f"{name}#{seen[name]}", path))
    return distinct


def _is_file(path: Path) -> bool:
    """Whether a path is a file; one that may not be looked at is taken for one, and found unreadable later."""
    try:
        return path.is_file()
    except OSError:
        return True


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)

"""Documents of one source, in a stream: what it is decides how it is read."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from treino import files
from treino.corpus.documents import read_rows
from treino.corpus.sources import hub, isolated
from treino.corpus.sources.archives import Room, members
from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.raw import DEEPEST, Problems, Unreadable, head_of, is_binary, rule_of, uncompressed
from treino.corpus.sources.tables import MissingColumn, csv_rows, json_rows, parquet_rows
from treino.corpus.threads import in_order
from treino.errors import DataError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import SourceSettings, WorldSettings

COMPRESSIONS = ("", ".gz", ".zst", ".bz2")
KINDS = {
    ".txt": "text", ".md": "text", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "csv",
    ".parquet": "parquet", ".html": "html", ".htm": "html", ".xhtml": "html", ".epub": "epub", ".pdf": "pdf",
    ".warc": "warc", ".wet": "warc", ".xml": "wikipedia", ".zip": "zip",
}  # fmt: skip
WORLD = "world"
LABELS = "labels"
"""The source of the labelled rows' texts, without their labels, and without the rows of validation and test."""

UNLABELLED = "unlabelled"
"""The part of a split that holds those texts."""

ONE_BY_CHILD = {"html", "epub", "pdf"}
ROWS = {"json": json_rows, "csv": csv_rows, "parquet": parquet_rows}


@dataclass(frozen=True)
class Reading:
    """What the readers of one source share: its settings, where problems go, how deep in archives they are, and the room
    that these have left.
    """

    source: SourceSettings
    problems: Problems
    depth: int = 0
    room: Room | None = None


def is_address(path: str) -> bool:
    """Whether a source is a web site."""
    return path.lower().startswith(("https://", "http://"))


def kind_of(path: Path) -> str | None:
    """How a file is read, by its name without a compression's ending; None: not a source."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS[1:]:
        suffixes.pop()
    return KINDS.get(suffixes[-1]) if suffixes else None


def true_kind(named: str, head: bytes) -> str:
    """How a file is read: as its first bytes say where they do, else as its name says."""
    start = head[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = start[:512].lower()
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return "epub" if named == "epub" or b"application/epub+zip" in head[:100] else "zip"
    if head.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"WARC/"):
        return "warc"
    if b"<mediawiki" in lower:
        return "wikipedia"
    if named in ("text", "wikipedia") and lower.startswith((b"<!doctype html", b"<html")):
        return "html"
    if named in ("pdf", "epub", "zip", "parquet", "warc") and _is_plain(head):
        return "json" if start.startswith(b"{") else "text"
    return named


def _is_plain(head: bytes) -> bool:
    """Whether what is named as something else is text, and not the rest of a damaged PDF."""
    return bool(head.strip()) and not is_binary(head) and not re.search(rb"\bendobj\b|PK\x01\x02|PAR1", head)


def source_files(source: SourceSettings, base: Path) -> list[tuple[str, Path]]:
    """(name, path) of the files of a source, sorted by name: the path below the source's folder, POSIX and NFC, so that
    neither the machine nor the order of a listing shows in it.
    """
    if is_address(source.path):
        return []
    root = hub.fetch(source.path) if hub.is_hub_name(source.path) else base / source.path
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
            fix=N_("readable are {kinds}, plain or as .gz, .zst or .bz2"),
            path=str(root),
            kinds=kinds,
        )
    return named


def source_digest(source: SourceSettings, base: Path) -> dict[str, str]:
    """{name: SHA-256} of what a source reads; empty for the world and for lines, which the settings hold whole, for the
    labelled rows, which come from another stage, and for what lies elsewhere: a web site is what it was when it was
    collected, a data set of the hub what its revision names.
    """
    if source.lines or source.path in (WORLD, LABELS) or is_address(source.path) or hub.is_hub_name(source.path):
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
    records: Path | None = None,
    names: Collection[str] | None = None,
) -> Iterator[RawDocument]:
    """Every document of a source. What cannot be used is noted in `problems` and never stops the rest. `labelled`: the
    folder of the split rows, for the source "labels". `records`: where the raw pages of a web site are kept, and are
    looked for before they are asked for. `names`: of the files to be read, where it is not all of them.
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
    if is_address(source.path):
        from treino.corpus.sources.web import site

        yield from site(source, records, problems)
        return
    named = source_files(source, base)
    alone, reading = len(named) == 1, Reading(source, problems)
    named = [(name, path) for name, path in named if names is None or name in names]
    for by_child, group in groupby(named, lambda item: kind_of(item[1]) in ONE_BY_CHILD):
        if by_child:
            yield from _side_by_side(list(group), reading, alone)
            continue
        for name, path in group:
            yield from _file(path, name, reading, alone)


def _file(path: Path, name: str, reading: Reading, alone: bool) -> Iterator[RawDocument]:
    """The documents of a file; a table without a column of text is an error only if it is `alone`."""
    try:
        yield from read_file(path, name, kind_of(path) or "text", reading)
    except MissingColumn as error:
        if alone:
            raise
        reading.problems.add(error.where or name, "no_text_column")


def _side_by_side(named: list[tuple[str, Path]], reading: Reading, alone: bool) -> Iterator[RawDocument]:
    """The documents of files of one document each that a process of its own parses: several files at a time, in order."""

    def documents(item: tuple[str, Path]) -> tuple[list[RawDocument] | None, Problems]:
        name, path = item
        told = Problems()
        try:
            if true_kind(kind_of(path) or "", head_of(path)) not in ONE_BY_CHILD:
                return None, told
        except (Unreadable, OSError) as error:
            told.add(name, rule_of(error))
            return [], told
        return list(read_file(path, name, kind_of(path) or "", replace(reading, problems=told))), told

    for (name, path), (found, told) in zip(named, in_order(documents, named, isolated.CHILDREN), strict=True):
        reading.problems.merge(vars(told))
        yield from _file(path, name, reading, alone) if found is None else found


def read_file(path: Path, name: str, named: str, reading: Reading) -> Iterator[RawDocument]:
    """The documents of a file that is named as a kind."""
    try:
        kind = true_kind(named, head_of(path))
        yield from _read_as(kind, path, name, reading)
    except (Unreadable, OSError) as error:
        reading.problems.add(name, rule_of(error))


def _read_as(kind: str, path: Path, name: str, reading: Reading) -> Iterator[RawDocument]:
    problems, fast = reading.problems, reading.source.fast
    if kind == "text":
        from treino.corpus.sources.books import text_file

        yield from text_file(path, name, problems)
    elif kind in ROWS:
        with uncompressed(path, problems, name) if kind == "parquet" else contextlib.nullcontext(path) as plain:
            for row, text in ROWS[kind](plain, reading.source.text, problems, name):
                yield RawDocument(name, row, text, {})
    elif kind == "html":
        from treino.corpus.sources.pages import html_file

        yield from html_file(path, name, problems, fast)
    elif kind == "epub":
        from treino.corpus.sources.books import epub_file

        yield from epub_file(path, name, problems)
    elif kind == "pdf":
        from treino.corpus.sources.books import pdf_file

        yield from pdf_file(path, name, problems)
    elif kind == "wikipedia":
        from treino.corpus.sources.wikipedia import articles

        yield from articles(path, name, problems)
    elif kind == "warc":
        from treino.corpus.sources.warc import warc_file

        yield from warc_file(path, name, problems, fast)
    else:
        yield from _archive(path, name, reading)


def _archive(path: Path, name: str, reading: Reading) -> Iterator[RawDocument]:
    """The documents of an archive's members, those of archives within it too."""
    if reading.depth >= DEEPEST:
        reading.problems.add(name, "nested_too_deep")
        return
    with uncompressed(path, reading.problems, name) as plain:
        room = reading.room or Room.of(plain)
        inner = replace(reading, depth=reading.depth + 1, room=room)
        for place, member in members(plain, name, reading.problems, room):
            named = kind_of(Path(place))
            if named is None:
                continue
            try:
                yield from read_file(member, _readable(place), named, inner)
            except MissingColumn as error:
                reading.problems.add(error.where or place, "no_text_column")


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

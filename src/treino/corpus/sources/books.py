"""Books: plain text with or without Project Gutenberg's cover sheets, EPUB, and PDF, whose pages become running text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from treino.corpus.sources import isolated
from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.raw import Problems, Unreadable, read_text, uncompressed
from treino.corpus.unwrap import NEARLY_FULL, is_full, rejoined

COVER = 30_000
"""Characters from either end of a text in which Gutenberg's cover sheets are looked for."""

MOST_CRASHES = 5
"""Pages of one PDF that may crash the parser before the rest of it is given up."""

FEWEST_REPEATS = 3
"""Pages on which a line at the edge stands before it counts as a running head."""

_GUTENBERG = re.compile(r"Project Gutenberg", re.IGNORECASE)
_START = re.compile(
    r"^[ \t]*\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG[^\n]*(?:\n[^\n*]+)?\*{3}[ \t]*$"
    r"|^\*END\*THE SMALL PRINT[^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_END = re.compile(
    r"^[ \t]*(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg)[^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_PRODUCED = re.compile(r"\s*(?:Produced by|E-?text prepared by|Credits:)[^\n]*(?:\n[^\n]+)*\n", re.IGNORECASE)
_FIELD = re.compile(r"^(Title|Author|Language|Release Date): *([^\n]+)$", re.MULTILINE)
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAY = re.compile(rf"({'|'.join(_MONTHS)}) (\d{{1,2}}), (\d{{4}})")
_NUMBER = re.compile(
    r"[\s\-–—\[(.]*(?:(\d{1,5})|(m{0,3}(?:c[dm]|d?c{0,3})(?:x[cl]|l?x{0,3})(?:i[vx]|v?i{0,3})))[\s\-–—\]).]*"
)
_LIGATURE = re.compile("[\ufb00-\ufb06]")
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}
_DIVIDED = re.compile(r"[^\W\d_][-\xad\u2010]$")
_PDF_DIVIDED = "\ufffe"
"""What pdfium makes of a hyphen at a line's end and of that end."""

_SENTENCE_END = re.compile(r"""[.!?…:;]["'”’»)]*$""")


def text_file(path: Path, name: str, problems: Problems) -> Iterator[RawDocument]:
    """The document of a text file."""
    text = read_text(path, problems, name)
    if text is not None:
        text, meta = without_gutenberg(text)
        yield RawDocument(name, 0, text, meta)


def without_gutenberg(text: str) -> tuple[str, dict[str, Any]]:
    """A text without Project Gutenberg's cover sheet and licence, and what the sheet tells; another text as it is."""
    if not _GUTENBERG.search(text[:COVER]):
        return text, {}
    plain = text.replace("\r\n", "\n")
    start = _START.search(plain[:COVER])
    if start is None:
        return text, {}
    keys = {"Title": "title", "Author": "author", "Language": "language", "Release Date": "date"}
    meta = {keys[found[1]]: found[2].strip() for found in _FIELD.finditer(plain[: start.start()])}
    if day := _DAY.match(meta.get("date", "")):
        meta["date"] = f"{day[3]}-{_MONTHS.index(day[1]) + 1:02d}-{int(day[2]):02d}"
    tail = max(start.end(), len(plain) - COVER)
    end = _END.search(plain, tail)
    body = plain[start.end() : end.start() if end else len(plain)].lstrip("\n")
    produced = _PRODUCED.match(body)
    return body[produced.end() if produced else 0 :].strip("\n") + "\n", meta


def epub_file(path: Path, name: str, problems: Problems) -> Iterator[RawDocument]:
    """The document of an EPUB: its chapters in the order of its spine. Damaged chapters are left out, and told of."""
    meta: dict[str, Any] = {}
    chapters: list[str] = []
    whole = False
    with uncompressed(path, problems, name) as plain:
        try:
            pieces = isolated.stream("epub", path=str(plain.absolute()))
            meta = json.loads(next(pieces))
            for piece in pieces:
                chapters.append(piece.decode())
            whole = True
        except Unreadable as error:
            problems.add(name, str(error))
    text = "\n\n".join(chapter.strip() for chapter in chapters if chapter.strip())
    if text:
        yield RawDocument(name, 0, text, {"kind": "epub", **meta})
    elif whole:
        problems.add(name, "empty")


def pdf_file(path: Path, name: str, problems: Problems) -> Iterator[RawDocument]:
    """The document of a PDF. A page that crashes the parser is left out, and told of; the others are read."""
    with uncompressed(path, problems, name) as plain:
        meta, pages, failed = _pdf_pages(plain, problems, name)
    text = running_text(pages)
    if text.strip():
        yield RawDocument(name, 0, text, {"kind": "pdf", **meta})
    elif pages and not failed:
        problems.add(name, "pdf_without_text")


def _pdf_pages(path: Path, problems: Problems, name: str) -> tuple[dict[str, Any], list[str], bool]:
    """What a PDF tells of itself, the text of its pages, and whether some of them could not be read."""
    meta: dict[str, Any] = {}
    pages: list[str] = []
    failed = False
    for _ in range(MOST_CRASHES):
        try:
            pieces = isolated.stream("pdf", path=str(path.absolute()), first=len(pages))
            meta = json.loads(next(pieces))
            for piece in pieces:
                pages.append(piece.decode())
            break
        except Unreadable as error:
            failed = True
            problems.add(f"{name}:{len(pages) + 1}" if meta else name, str(error))
            if not meta or str(error) not in ("crashes_the_parser", "takes_too_long"):
                break
            pages.append("")
    if "\0" in pages:
        failed = True
        problems.add(f"{name}:{pages.index(chr(0)) + 1}", "damaged")
    return meta, [page if page != "\0" else "" for page in pages], failed


def running_text(pages: list[str]) -> str:
    """The text of a book from its pages: running heads and page numbers gone, divided words whole.

    A line at the upper or lower edge is a running head where it stands, but for its numbers, on at least three pages, the
    next of them one or two away; a number alone, where it counts the pages. Lines stay as they are broken: what is verse
    and what is prose is decided when the text is cleaned.
    """
    leaves = [[line.rstrip() for line in _letters(page).splitlines()] for page in pages]
    for _ in range(2):  # a head may have two lines
        for edge in (0, -1):
            leaves = _without_heads(leaves, edge)
    lines: list[str] = []
    width = 0
    for leaf in filter(None, leaves):
        if lines and _SENTENCE_END.search(lines[-1]) and not is_full(lines[-1], leaf[0], NEARLY_FULL * width):
            lines.append("")
        lines += leaf
        width = max(map(len, leaf))
    return "\n".join(_undivided(lines))


def _letters(page: str) -> str:
    """A page with hyphens at the ends of lines, and with letters where its font has one sign for several (ﬁ, ﬄ)."""
    return _LIGATURE.sub(lambda found: unicodedata.normalize("NFKC", found[0]), page.replace(_PDF_DIVIDED, "-\n"))


def _without_heads(leaves: list[list[str]], edge: int) -> list[list[str]]:
    leaves = [_trimmed(leaf) for leaf in leaves]
    edges = [leaf[edge] if leaf else "" for leaf in leaves]
    offsets = [number and number - place for place, number in enumerate(map(_page_number, edges))]
    counting = Counter(offsets)
    keys = [re.sub(r"\d+", "#", line.lower()).strip() for line in edges]
    counts = Counter(keys)
    kept = []
    for place, (leaf, key, offset) in enumerate(zip(leaves, keys, offsets, strict=True)):
        near = [keys[other] for other in range(max(0, place - 2), min(len(keys), place + 3)) if other != place]
        repeated = len(key) > 3 and counts[key] >= FEWEST_REPEATS and key in near
        counts_pages = offset is not None and counting[offset] >= FEWEST_REPEATS
        head = repeated or counts_pages
        kept.append(leaf if not head else leaf[1:] if edge == 0 else leaf[:-1])
    return kept


def _page_number(line: str) -> int | None:
    """The number that a line is, in digits or small Roman letters (capitals number chapters)."""
    found = _NUMBER.fullmatch(line)
    if not found or not (found[1] or found[2]):
        return None
    if found[1]:
        return int(found[1])
    values = [_ROMAN[letter] for letter in found[2]]
    return sum(-one if one < two else one for one, two in pairwise([*values, 0]))


def _trimmed(leaf: list[str]) -> list[str]:
    first = next((place for place, line in enumerate(leaf) if line.strip()), len(leaf))
    last = next((place for place in range(len(leaf), first, -1) if leaf[place - 1].strip()), first)
    return leaf[first:last]


def _undivided(lines: list[str]) -> list[str]:
    """Words that were divided at a line's end made whole, each on the line that it begins on."""
    whole = list(lines)
    if not any(_DIVIDED.search(line) for line in lines):
        return whole
    words = Counter(re.findall(r"\w+(?:-\w+)*", "\n".join(lines).lower()))
    for place, (line, following) in enumerate(pairwise(lines)):
        rest, _, after = following.partition(" ")
        capitals = line[-2:-1].isupper() and rest.isupper()
        if not (_DIVIDED.search(line) and (rest[:1].islower() or capitals) and after):
            continue
        whole[place] = rejoined(whole[place][:-1] + "-", rest, words)
        whole[place + 1] = after
    return whole

"""Wikipedia's dumps (`.xml`, mostly as `.xml.bz2`): the articles, page by page, so that a broken page costs itself."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.raw import Problems, Unreadable, open_bytes, rule_of
from treino.corpus.sources.wikitext import is_redirect, plain

LARGEST_PAGE = 32_000_000
ARTICLES = "0"
"""The namespace of articles; talk pages, users, templates and the like have others."""

_BEGIN, _END = b"<page>", b"</page>"
_PORTION = 1 << 18


def articles(path: Path, name: str, problems: Problems) -> Iterator[RawDocument]:
    """The articles of a dump, each under the number of its page; redirects and pages that are no articles left out."""
    number = 0
    try:
        with open_bytes(path) as file:
            for number, data in enumerate(_pages(file, problems, name), 1):
                try:
                    page = _parsed(data)
                except ElementTree.ParseError:
                    problems.add(f"{name}#{number}", "broken_xml", data[:200].decode("utf-8", "replace"))
                    continue
                if document := _article(page, name, number):
                    yield document
    except (Unreadable, OSError) as error:
        problems.add(name, rule_of(error))
        return
    if not number:
        problems.add(name, "not_a_dump")


def _pages(file: io.BufferedReader, problems: Problems, name: str) -> Iterator[bytes]:
    """What stands between `<page>` and `</page>`, both included. A page without an end ends where the next begins."""
    buffer = bytearray()
    position = 0
    while True:
        start = buffer.find(_BEGIN, position)
        end = buffer.find(_END, max(start, position)) if start >= 0 else -1
        if end < 0:
            if start < 0:
                del buffer[: max(0, len(buffer) - len(_BEGIN))]
            elif len(buffer) - start > LARGEST_PAGE:
                problems.add(name, "too_large")
                del buffer[: start + len(_BEGIN)]
            else:
                del buffer[:start]
            position = 0
            chunk = file.read1(_PORTION)
            if not chunk:
                if start >= 0:
                    problems.add(name, "truncated")
                return
            buffer += chunk
            continue
        start = max(start, buffer.rfind(_BEGIN, start, end))
        position = end + len(_END)
        yield bytes(buffer[start:position])


def _parsed(data: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return ElementTree.fromstring(data.decode("utf-8", "replace"))


def _article(page: ElementTree.Element, name: str, number: int) -> RawDocument | None:
    text = page.findtext("revision/text") or ""
    model = page.findtext("revision/model") or "wikitext"
    other = page.findtext("ns", ARTICLES).strip() != ARTICLES or page.find("redirect") is not None
    if other or model != "wikitext" or is_redirect(text):
        return None
    text = plain(text)
    if not text:
        return None
    told = {"title": page.findtext("title"), "date": page.findtext("revision/timestamp")}
    identifier = (page.findtext("id") or "").strip()
    row = int(identifier) if identifier.isdecimal() else number
    return RawDocument(name, row, text, {"kind": "wikipedia", **{key: value for key, value in told.items() if value}})

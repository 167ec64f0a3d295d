"""Wikipedia's dumps (`.xml`, mostly as `.xml.bz2`): the articles, page by page, so that a broken page costs itself."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from treino.corpus.sources import isolated
from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.raw import Problems, Unreadable, open_bytes, rule_of
from treino.corpus.sources.wikitext import is_redirect, plain
from treino.corpus.threads import in_order

LARGEST_PAGE = 32_000_000
BATCH_BYTES = 1_000_000
ARTICLES = "0"
"""The namespace of articles; talk pages, users, templates and the like have others."""

_BEGIN, _END = b"<page>", b"</page>"
_PORTION = 1 << 18


def articles(path: Path, name: str, problems: Problems) -> Iterator[RawDocument]:
    """The articles of a dump, each under the number of its page; redirects and pages that are no articles left out.

    The dump is one stream; its pages are worked on in batches, by several processes, and come in order.
    """
    number = 0
    batches = _batches(_pages_before_a_break(path, name, problems))
    for found in chain.from_iterable(in_order(_articles, batches, isolated.CHILDREN)):
        number += 1
        if found is None:
            continue
        if rule := found.get("rule"):
            problems.add(f"{name}#{number}", rule, found.get("start", ""))
            continue
        told = {key: found[key] for key in ("title", "date") if found.get(key)}
        yield RawDocument(name, found["id"] or number, found["text"], {"kind": "wikipedia", **told})


def _pages_before_a_break(path: Path, name: str, problems: Problems) -> Iterator[bytes]:
    none = True
    try:
        with open_bytes(path) as file:
            for page in _pages(file, problems, name):
                none = False
                yield page
    except (Unreadable, OSError) as error:
        problems.add(name, rule_of(error))
        return
    if none:
        problems.add(name, "not_a_dump")


def _batches(pages: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Pages together that make up about a megabyte."""
    batch: list[bytes] = []
    size = 0
    for page in pages:
        batch.append(page)
        size += len(page)
        if size > BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _articles(batch: list[bytes]) -> list[dict[str, Any] | None]:
    """What the child makes of pages; where it dies of one, of each by itself."""
    try:
        return [json.loads(piece) for piece in isolated.stream("articles", b"".join(batch))]
    except Unreadable as error:
        if len(batch) == 1:
            return [{"rule": str(error)}]
    return [found for page in batch for found in _articles([page])]


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


def article_of(data: bytes) -> dict[str, Any] | None:
    """Number, title, date and text of the article that a page holds; None: it holds none."""
    try:
        page = _parsed(data)
    except ElementTree.ParseError:
        return {"rule": "broken_xml", "start": data[:200].decode("utf-8", "replace")}
    text = page.findtext("revision/text") or ""
    model = page.findtext("revision/model") or "wikitext"
    other = page.findtext("ns", ARTICLES).strip() != ARTICLES or page.find("redirect") is not None
    if other or model != "wikitext" or is_redirect(text) or not (text := plain(text)):
        return None
    number = (page.findtext("id") or "").strip()
    told = {"title": page.findtext("title"), "date": page.findtext("revision/timestamp")}
    return {"id": int(number) if number.isdecimal() and len(number) < 16 else 0, "text": text, **told}

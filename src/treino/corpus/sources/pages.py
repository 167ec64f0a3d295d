"""HTML pages: the text that they are there for, and what their heads tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin

from treino.corpus.sources import isolated
from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.raw import Problems, Unreadable, decode, read_bytes

LARGEST_PAGE = 20_000_000
SECONDS = 30.0
"""How long the text of one page may be looked for."""

LINKS = 20_000
"""Links of one page that are followed; a page with more is a trap."""

_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_MARKUP = re.compile(
    r"<\s*(?:!doctype\s+html|html|head|body|p|div|title|h[1-6]|table|a|br|span|article|main|meta)\b", re.I
)


@dataclass(frozen=True)
class Page:
    """What a page gives: its text, what is known of it (title, date, language, licence), and where its links lead."""

    text: str
    meta: dict[str, Any] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    wanted: bool = True
    """Whether the page lets its text be taken (`noindex` says no)."""


def is_html(text: str) -> bool:
    """Whether the beginning of a text has tags of a page."""
    return _MARKUP.search(text[:20_000]) is not None


def decode_page(data: bytes, told: str = "", whole: bool = True) -> str:
    """A page's characters. What the server or the page's head says of its encoding counts only where it is not UTF-8."""
    declared = _CHARSET.search(data[:4096])
    return decode(data, whole, told or (declared[1].decode("ascii", "replace") if declared else ""))


def read_page(source: str, fast: bool = False, url: str = "") -> Page:
    """Text, head and links of a page. `Unreadable`: it defeats the parsers.

    `url`: where the page stands, for the links; without it they are not looked at.
    """
    payload = source.encode("utf-8", "replace")
    try:
        answer = isolated.one("page", payload, SECONDS, fast=fast, url=url)
    except Unreadable:
        if fast:
            raise
        answer = isolated.one("page", payload, SECONDS, fast=True, url=url)  # what defeats one parser may suit another
    told = json.loads(answer)
    meta = {name: told[name] for name in ("title", "date", "language", "licence") if told.get(name)}
    links = () if told.get("nofollow") or not url else tuple(_absolute(told, url))
    return Page(told["text"], meta, links, not told.get("noindex"))


def _absolute(told: dict[str, Any], url: str) -> Iterator[str]:
    """The addresses of the links, in order, each once, without fragments."""
    seen: set[str] = set()
    for link in told.get("links", [])[:LINKS]:
        try:
            base = urljoin(url, told.get("base") or "")
            address = urldefrag(urljoin(base, link.strip()))[0]
        except ValueError:  # such as http://[
            continue
        if address not in seen:
            seen.add(address)
            yield address


def html_file(path: Path, name: str, problems: Problems, fast: bool) -> Iterator[RawDocument]:
    """The document of an HTML file; of one that breaks off, what stands before."""
    data, whole = read_bytes(path, problems, name, LARGEST_PAGE)
    if not data:
        if whole:
            problems.add(name, "empty")
        return
    try:
        source = decode_page(data, whole=whole)
        page = read_page(source, fast) if is_html(source) else Page(source)
    except Unreadable as error:
        problems.add(name, str(error))
        return
    if page.text.strip():
        yield RawDocument(name, 0, page.text, {"kind": "html", **page.meta})
    else:
        problems.add(name, "page_without_text")

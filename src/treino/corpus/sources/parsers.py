"""What the isolated child does: pages, books and Parquet files to text, by native libraries that a damaged file may crash."""

from __future__ import annotations

import contextlib
import html
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from treino.corpus.sources.raw import LARGEST_TEXT, Unreadable, decode

LONG = 200
"""Characters from which on a paragraph counts as running text, and not as the teaser of another page."""

MOST_LEFT_OUT = 0.15
FEW = 1000
"""Share of a page's running text that the extractor of the main text may leave out, and characters that are few."""

SAMPLE = 400
"""Paragraphs that are looked for, so that a huge page takes no longer than its extraction."""

BATCH_ROWS = 1024
_ENTITY = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)\w+;")
_SPACES = re.compile(r"\s+")


def page(payload: bytes, fast: bool = False, url: str = "") -> Iterator[bytes]:
    """The main text of an HTML page (UTF-8), what its head tells, and its links, as JSON."""
    source = payload.decode("utf-8", "replace")
    if fast:
        known = {"text": plain_text(source, main=True)}
        yield _json(known | _links_and_licence(source))
        return
    yield _json(_main_text(source, url) | _links_and_licence(source))


def _main_text(source: str, url: str) -> dict[str, Any]:
    """By trafilatura; by resiliparse where that leaves out running text.

    Trafilatura takes the first part of a page that looks like its text. A page may have several: of the Brazilian
    constitution it dropped the transitional provisions, a quarter of the text.
    """
    import trafilatura

    found = trafilatura.bare_extraction(source, url=url or None, include_comments=False, with_metadata=True)
    text = str(getattr(found, "text", None) or "")
    other = plain_text(source, main=True)
    if leaves_much_out(other, text):
        text = other
    known = {"title": getattr(found, "title", None), "date": getattr(found, "date", None)}
    return {"text": text or plain_text(source), **{name: value for name, value in known.items() if value}}


def leaves_much_out(whole: str, chosen: str) -> bool:
    """Whether much of the running text of one version is not in another one, by some hundreds of its paragraphs."""
    within = _SPACES.sub("", chosen)
    paragraphs = [_SPACES.sub("", line) for line in whole.split("\n") if len(line) >= LONG]
    long = paragraphs[:: 1 + len(paragraphs) // SAMPLE]
    missing = sum(len(line) for line in long if line not in within)
    return missing > max(FEW, MOST_LEFT_OUT * sum(map(len, long)))


def plain_text(source: str, main: bool = False) -> str:
    """Text of HTML with its paragraphs and line breaks; `main`: without what looks like navigation and comments."""
    from resiliparse.extract.html2text import extract_plain_text

    return extract_plain_text(source, main_content=main, alt_texts=False, comments=False, list_bullets=False)


def _links_and_licence(source: str) -> dict[str, Any]:
    from resiliparse.parse.html import HTMLTree

    tree = HTMLTree.parse(source)
    root = tree.document
    if root is None:
        return {}
    known: dict[str, Any] = {"links": [], "nofollow": False, "noindex": False}
    for node in root.query_selector_all("meta[name=robots i]"):
        told = (node.getattr("content") or "").lower()
        known["nofollow"] |= "nofollow" in told or "none" in told
        known["noindex"] |= "noindex" in told or "none" in told
    base = root.query_selector("base[href]")
    known["base"] = base.getattr("href") if base else ""
    for node in root.query_selector_all("a[href], area[href], link[rel][href]"):
        target, relation = node.getattr("href") or "", (node.getattr("rel") or "").lower().split()
        if "license" in relation or "creativecommons.org/licenses/" in target:
            known.setdefault("licence", target)
        elif node.tag != "link" and "nofollow" not in relation:
            known["links"].append(target)
    language = root.query_selector("html[lang]")
    if language and language.getattr("lang"):
        known["language"] = language.getattr("lang")
    known.setdefault("title", (tree.title or "").strip())
    return known


def epub(_payload: bytes, path: str) -> Iterator[bytes]:
    """What a book tells of itself (JSON), then the text of its chapters in the order of its spine."""
    with zipfile.ZipFile(path) as book:
        names = set(book.namelist())
        if "META-INF/encryption.xml" in names and re.search(
            rb'URI="[^"]+html?"', _member(book, "META-INF/encryption.xml")
        ):
            raise Unreadable("encrypted")
        told, spine = _package(book, names)
        yield _json(told)
        room = LARGEST_TEXT
        failed = 0
        for name in spine:
            try:
                data = _member(book, name)
                text = plain_text(_as_html(data))
            except (Unreadable, zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, NotImplementedError):
                failed += 1
                continue
            room -= len(data)
            if room < 0:
                raise Unreadable("too_large")
            yield text.encode("utf-8", "replace")
        if failed:
            raise Unreadable("damaged")


def _package(book: zipfile.ZipFile, names: set[str]) -> tuple[dict[str, str], list[str]]:
    """Title, author, date, language and rights, and the names of the chapters; without a spine all pages, by name."""
    pages = sorted(name for name in names if name.lower().endswith((".xhtml", ".html", ".htm")))
    try:
        container = _xml(_member(book, "META-INF/container.xml"))
        place = container.xpath("string(//*[local-name()='rootfile']/@full-path)")
        package = _xml(_member(book, place))
    except (KeyError, ValueError, AttributeError, zipfile.BadZipFile, Unreadable):
        return {}, pages
    fields = {"title": "title", "author": "creator", "date": "date", "language": "language", "licence": "rights"}
    told = {key: package.xpath(f"string(//*[local-name()='{tag}'])").strip() for key, tag in fields.items()}
    folder = PurePosixPath(place).parent
    items = {
        item.get("id"): _resolved(folder, item.get("href") or "")
        for item in package.xpath("//*[local-name()='item']")
        if "nav" not in (item.get("properties") or "").split()
    }
    order = [items.get(item.get("idref")) for item in package.xpath("//*[local-name()='itemref']")]
    spine = [name for name in order if name and name in names]
    return {key: value for key, value in told.items() if value}, list(dict.fromkeys(spine)) or pages


def _resolved(folder: PurePosixPath, href: str) -> str:
    parts: list[str] = []
    for part in (folder / unquote(href.partition("#")[0])).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _member(book: zipfile.ZipFile, name: str) -> bytes:
    with book.open(name) as file:
        data = file.read(LARGEST_TEXT + 1)
    if len(data) > LARGEST_TEXT:
        raise Unreadable("too_large")
    return data


def _xml(data: bytes) -> Any:
    import lxml.etree as etree

    root = etree.fromstring(data, etree.XMLParser(recover=True, resolve_entities=False, no_network=True))
    if root is None:
        raise ValueError("no XML")
    return root


def _as_html(data: bytes) -> str:
    """XHTML as HTML: to HTML an empty `<title/>` or `<a id="x"/>` would be open, and swallow what follows."""
    import lxml.etree as etree

    text = _ENTITY.sub(lambda found: html.unescape(found[0]), decode(data))
    try:
        return etree.tostring(_xml(re.sub(r"^\s*<\?xml[^>]*\?>", "", text).encode()), method="html", encoding="unicode")
    except ValueError:
        return text


def pdf(_payload: bytes, path: str, first: int = 0) -> Iterator[bytes]:
    """What a document tells of itself (JSON), then the text of its pages from `first` on."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise Unreadable("encrypted" if "password" in str(error).lower() else "damaged") from error
    with contextlib.closing(document):
        told = document.get_metadata_dict(skip_empty=True)
        names = {"title": "Title", "author": "Author", "date": "CreationDate"}
        yield _json({key: told[name] for key, name in names.items() if name in told} | {"pages": len(document)})
        room = LARGEST_TEXT
        for number in range(first, len(document)):
            text = _leaf(document, number)
            room -= len(text)
            if room < 0:
                raise Unreadable("too_large")
            yield text.encode("utf-8", "replace")


def _leaf(document: Any, number: int) -> str:
    """The text of a page; a zero alone for one that is damaged."""
    import pypdfium2

    try:
        with contextlib.closing(document[number]) as leaf, contextlib.closing(leaf.get_textpage()) as content:
            return content.get_text_range(errors="replace")
    except pypdfium2.PdfiumError:
        return "\0"


def parquet_columns(_payload: bytes, path: str, nested: bool = False) -> Iterator[bytes]:
    """The names of a Parquet file's columns as JSON; without `nested` those that are no lists or structures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    yield _json([field.name for field in pq.read_schema(path) if nested or not pa.types.is_nested(field.type)])


def parquet(_payload: bytes, path: str, columns: list[str]) -> Iterator[bytes]:
    """Batches of rows of some columns as Arrow streams. A damaged group of rows is left out, and told of at the end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    failed = False
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            try:
                for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=columns):
                    sink = pa.BufferOutputStream()
                    with pa.ipc.new_stream(sink, batch.schema) as stream:
                        stream.write_batch(batch)
                    yield sink.getvalue().to_pybytes()
            except (pa.ArrowException, OSError):
                failed = True
    if failed:
        raise Unreadable("damaged")


def articles(payload: bytes) -> Iterator[bytes]:
    """The articles among pages of a Wikipedia dump, each as JSON: number, title, date and text; null for a redirect or
    a page that is none, and what it begins with for one that is broken.
    """
    from treino.corpus.sources.wikipedia import article_of

    for data in payload.split(b"</page>")[:-1]:
        yield _json(article_of(data + b"</page>"))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


TASKS: dict[str, Callable[..., Iterator[bytes]]] = {
    task.__name__: task for task in (page, epub, pdf, parquet_columns, parquet, articles)
}

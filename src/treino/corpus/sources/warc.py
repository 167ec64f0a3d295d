"""WARC (ISO 28500): web pages as they were sent. Archives are read tolerantly; a crawl keeps its own, and goes on from it."""

from __future__ import annotations

import datetime
import io
import re
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import zstandard

from treino.corpus.sources import isolated
from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.pages import LARGEST_PAGE, Page, decode_page, is_html, read_page
from treino.corpus.sources.raw import LARGEST_RATIO, Problems, Unreadable, open_bytes, rule_of
from treino.corpus.threads import in_order

LARGEST_HEAD = 1 << 16
_NEXT = b"\r\n\r\nWARC/1."
FREE_PAGE = 1_000_000
"""Bytes that a page may expand to whatever its ratio."""

HTML_TYPES = ("text/html", "application/xhtml+xml")
TEXT_TYPES = (*HTML_TYPES, "text/plain")
_PORTION = 1 << 16


@dataclass(frozen=True)
class Response:
    """What a server answered: status, headers in small letters, and the body as it was sent. `rule`: why there is none,
    or why it is not whole.
    """

    url: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    rule: str = ""

    @property
    def kind(self) -> str:
        """Its media type, without parameters; one that is not told is looked for in the content."""
        return self.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()

    @property
    def temporary(self) -> bool:
        """Whether asking again may give something else."""
        return self.status == 0 or self.status == 429 or self.status >= 500

    def content(self) -> bytes:
        """The body with its encoding undone. `Unreadable`: it expands without bound, or is encoded in an unknown way."""
        encoding = self.headers.get("content-encoding", "").strip().lower()
        if not self.body or encoding in ("", "identity"):
            return self.body
        if encoding in ("gzip", "x-gzip", "deflate"):
            return _inflated(self.body)
        if encoding == "zstd":
            return _bounded(zstandard.ZstdDecompressor().decompressobj().decompress, self.body)
        raise Unreadable("unknown_encoding")

    def text(self) -> str:
        """Its characters, by what the server says of them where they are not UTF-8."""
        told = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", self.headers.get("content-type", ""))
        return decode_page(self.content(), told[1] if told else "", whole=not self.rule)


def _inflated(body: bytes) -> bytes:
    limit = max(FREE_PAGE, min(LARGEST_PAGE, LARGEST_RATIO * len(body)))
    for bits in (47, -15):  # gzip or zlib; deflate without a head, as some servers send it
        try:
            inflater = zlib.decompressobj(bits)
            data = inflater.decompress(body, limit)
        except zlib.error:
            continue
        if inflater.unconsumed_tail:
            raise Unreadable("expands_without_bound")
        return data
    raise Unreadable("damaged")


def _bounded(decompress, body: bytes) -> bytes:
    data = bytearray()
    for start in range(0, len(body), 1024):
        try:
            data += decompress(body[start : start + 1024])
        except zstandard.ZstdError as error:
            raise Unreadable("damaged") from error
        if len(data) > LARGEST_PAGE:
            raise Unreadable("expands_without_bound")
    return bytes(data)


def warc_file(path: Path, name: str, problems: Problems, fast: bool) -> Iterator[RawDocument]:
    """The documents of a WARC file: pages (responses), resources, and texts that were taken from pages (WET files)."""

    def document(record: tuple[int, tuple[dict[str, str], bytes | None]]) -> tuple[RawDocument | None, Problems]:
        number, (head, block) = record
        place, told = f"{name}:{number}", Problems()
        if head.get("warc-type") not in ("response", "resource", "conversion"):
            return None, told
        if block is None:
            told.add(place, "too_large")
            return None, told
        response = _response(head, block)
        page = page_of(response, place, told, fast)
        if not (page and page.wanted and page.text.strip()):
            return None, told
        return RawDocument(name, number, page.text, {"kind": "warc", "url": response.url, **page.meta}), told

    for found, told in in_order(document, _before_a_break(path, name, problems), isolated.CHILDREN):
        problems.merge(vars(told))
        if found:
            yield found


def _before_a_break(
    path: Path, name: str, problems: Problems
) -> Iterator[tuple[int, tuple[dict[str, str], bytes | None]]]:
    try:
        with open_bytes(path) as file:
            yield from enumerate(records(file, problems, name), 1)
    except (Unreadable, OSError) as error:
        problems.add(name, rule_of(error))


def page_of(response: Response, place: str, problems: Problems, fast: bool) -> Page | None:
    """The page that was answered; None where it is none, and the reason among the problems where it should have been one."""
    if response.status != 200 or response.kind not in TEXT_TYPES:
        return None
    try:
        source = response.text()
        page = read_page(source, fast, response.url) if response.kind in HTML_TYPES or is_html(source) else Page(source)
    except Unreadable as error:
        problems.add(place, str(error))
        return None
    told = response.headers.get("x-robots-tag", "").lower()
    if "noindex" in told or "none" in told:
        page = replace(page, wanted=False)
    if not page.wanted:
        problems.add(place, "noindex")
    elif not page.text.strip():
        problems.add(place, "page_without_text")
    return page


class Stream:
    """A file of which something read too far can be given back."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._given = file, io.BytesIO()

    def readline(self, most: int) -> bytes:
        """The next line, or as much of it as asked."""
        line = self._given.readline(most)
        return line if line.endswith(b"\n") or len(line) == most else line + self._file.readline(most - len(line))

    def read(self, size: int) -> bytes:
        """The next bytes, fewer only at the end."""
        data = bytearray(self._given.read(size))
        while len(data) < size and (chunk := self._file.read(min(_PORTION, size - len(data)))):
            data += chunk
        return bytes(data)

    def give_back(self, data: bytes) -> None:
        """Let these bytes be read again."""
        self._given = io.BytesIO(data + self._given.read())


def records(file: BinaryIO, problems: Problems, name: str) -> Iterator[tuple[dict[str, str], bytes | None]]:
    """(head, block) of every record; None for a block over the bound. Between broken records the next one is looked for."""
    stream = Stream(file)
    lost = False
    while line := stream.readline(LARGEST_HEAD):
        if not line.startswith(b"WARC/"):
            if line.strip() and not lost:
                problems.add(name, "damaged")
                lost = True
            continue
        head = _fields(stream)
        length = head.get("content-length", "")
        if not length.isdecimal():
            problems.add(name, "damaged")
            lost = True
            continue
        lost = False
        yield head, _block(stream, int(length), problems, name)


def _block(stream: Stream, size: int, problems: Problems, name: str) -> bytes | None:
    """What a record holds. Where its stated length is wrong, it ends before the next record."""
    if size > LARGEST_PAGE:
        head = stream.read(LARGEST_PAGE)
        if (end := head.find(_NEXT)) < 0:
            while size > LARGEST_PAGE and (chunk := stream.read(min(_PORTION, size - LARGEST_PAGE))):
                size -= len(chunk)
            return None
        block = head
    else:
        block, after = stream.read(size), stream.read(4)
        if len(block) == size and after in (b"\r\n\r\n", b""):
            return block
        block += after
        end = block.find(_NEXT)
    problems.add(name, "damaged" if end >= 0 or len(block) > size else "truncated")
    if end >= 0:
        stream.give_back(block[end:])
        return block[:end]
    stream.give_back(block[size:])
    return block[:size]


def _fields(file: Stream) -> dict[str, str]:
    """Header lines up to an empty one, names in small letters; of two of a name the last."""
    found: dict[str, str] = {}
    room = LARGEST_HEAD
    while (line := file.readline(LARGEST_HEAD)).strip() and room > 0:
        room -= len(line)
        name, colon, value = line.partition(b":")
        if colon:
            found[name.strip().lower().decode("latin-1")] = value.strip().decode("utf-8", "replace")
    return found


def _response(head: dict[str, str], block: bytes) -> Response:
    """The answer that a record holds."""
    url = head.get("warc-target-uri", "").strip("<>")
    if head.get("warc-type") != "response":
        kind = head.get("content-type", "") if head.get("warc-type") == "resource" else "text/plain"
        return Response(url, 200, {"content-type": kind}, block)
    file = Stream(io.BytesIO(block))
    status = re.match(rb"HTTP/[\d.]+ +(\d{3})", file.readline(LARGEST_HEAD))
    headers = _fields(file)
    body = file.read(len(block))
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = _unchunked(body)
    cut = "page_cut" if head.get("warc-truncated") else ""
    return Response(url, int(status[1]) if status else 0, headers, body, cut)


def _unchunked(body: bytes) -> bytes:
    """A body without the sizes of its chunks; as it is where it has none, as some archives keep it."""
    data, position = bytearray(), 0
    while found := re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[^\r\n]{0,200}\r?\n").match(body, position):
        size = int(found[1], 16)
        data += body[found.end() : found.end() + size]
        position = found.end() + size
        position += 2 if body[position : position + 2] == b"\r\n" else 1
        if size == 0:
            break
    return bytes(data) if position else body


class Archive:
    """The WARC of a crawl (`.warc.gz`, a member each record): what was asked before is in it, what is asked anew is added.

    A record that was not written to its end when the crawl was interrupted is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._places: dict[str, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a+b")  # noqa: SIM115
        end = 0
        for place, behind, head in self._members():
            end = behind
            if "warc-target-uri" in head:
                self._places[head["warc-target-uri"]] = place
        self._file.truncate(end)
        self.size = end
        if not end:
            self._write({"WARC-Type": "warcinfo", "Content-Type": "application/warc-fields"}, b"software: treino\r\n")

    def _members(self) -> Iterator[tuple[int, int, dict[str, str]]]:
        """(place, place behind it, head) of every whole record."""
        place = 0
        while (found := self._member(place)) is not None:
            size, data = found
            yield place, place + size, _only_record(data)[0]
            place += size

    def _member(self, place: int) -> tuple[int, bytes] | None:
        """Compressed size and content of the gzip member at a place; None: it is not whole."""
        self._file.seek(place)
        inflater, data, size = zlib.decompressobj(31), bytearray(), 0
        try:
            while not inflater.eof:
                chunk = self._file.read(_PORTION)
                if not chunk:
                    return None
                data += inflater.decompress(chunk)
                size += len(chunk)
        except zlib.error:
            return None
        return size - len(inflater.unused_data), bytes(data)

    def find(self, url: str) -> Response | None:
        """What was answered for an address, if it was asked."""
        place = self._places.get(url)
        found = None if place is None else self._member(place)
        return _response(*_only_record(found[1])) if found else None

    def keep(self, response: Response) -> None:
        """Add an answer."""
        self._places[response.url] = self.size
        head = {"WARC-Target-URI": response.url}
        if response.rule:
            head["WARC-Truncated"] = "length"
        lines = [f"HTTP/1.1 {response.status} -", *(f"{name}: {value}" for name, value in response.headers.items())]
        block = "\r\n".join([*lines, "", ""]).encode() + response.body
        head |= {"WARC-Type": "response", "Content-Type": "application/http;msgtype=response"}
        self._write(head, block)

    def _write(self, head: dict[str, str], block: bytes) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        head = {"WARC-Record-ID": f"<urn:uuid:{uuid.uuid4()}>", "WARC-Date": now} | head
        head["Content-Length"] = str(len(block))
        lines = "\r\n".join(["WARC/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""])
        packer = zlib.compressobj(wbits=31)
        data = packer.compress(lines.encode() + block + b"\r\n\r\n") + packer.flush()
        self._file.seek(0, io.SEEK_END)
        self._file.write(data)
        self._file.flush()
        self.size += len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _only_record(data: bytes) -> tuple[dict[str, str], bytes]:
    head, block = next(records(io.BytesIO(data), Problems(), ""), ({}, b""))
    return head, block or b""

"""Raw bytes to text: decompression in a stream with a bound, and encodings recognised."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from treino import events
from treino.corpus.rules import RULES
from treino.messages import Message

FREE_BYTES = 1_000_000_000
LARGEST_RATIO = 200
"""A compressed file may expand to 1 GB, and beyond that to 200 times its size; more is taken for a bomb."""

PORTION = 1 << 16
"""Bytes that are decompressed at once."""

MORSEL = 1 << 10
"""Compressed bytes given to zstd at once: they may become 256 blocks of 128 kB, 32 MB, and no more."""

LARGEST_LINE = 32_000_000
LARGEST_TEXT = 256_000_000
"""A text file is one document; a larger one belongs into a table of documents."""


@dataclass
class Problems:
    """What could not be used, counted by rule, the first few with their place."""

    counts: dict[str, int] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)
    kept: int = 1000

    def add(self, place: str, rule: str, excerpt: str = "") -> None:
        """Note one problem at `file` or `file:line`."""
        self.counts[rule] = self.counts.get(rule, 0) + 1
        if len(self.rows) < self.kept:
            row = {"id": place, "source": place, "rule": rule, "detail": place, "before": excerpt[:200], "after": ""}
            self.rows.append(row)

    def tell(self) -> None:
        """Say how many rows or files could not be used, and why the first one."""
        if self.rows:
            events.emit(
                "warning.set_aside",
                count=sum(self.counts.values()),
                first=self.rows[0]["detail"],
                reason=self.first_reason(),
            )

    def first_reason(self) -> Message:
        """Why the first one could not be used."""
        return Message(RULES.get(self.rows[0]["rule"], self.rows[0]["rule"]))


class Unreadable(Exception):
    """A file that breaks off or cannot be read: the rule that it falls under."""


class Bounded(io.RawIOBase):
    """A decompressed stream that ends with `Unreadable` where it expands beyond all reason or breaks off."""

    def __init__(self, inner: Any, compressed: int) -> None:
        self._inner, self._left = inner, FREE_BYTES + LARGEST_RATIO * compressed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            # In small portions: what a portion held before a break is lost with it.
            data = self._inner.read1(min(len(buffer), PORTION))
        except (EOFError, zlib.error, zstandard.ZstdError, OSError) as error:
            raise Unreadable("truncated" if isinstance(error, EOFError) else "damaged") from error
        self._left -= len(data)
        if self._left < 0:
            raise Unreadable("expands_without_bound")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


class ZstdFrames:
    """zstd frames in a row. A frame that breaks off raises `EOFError`: the library's own reader takes that for the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._compressed, self._ready = file, b"", io.BytesIO()
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def read1(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while not (data := self._ready.read(size)):
            self._compressed = self._compressed or self._file.read(MORSEL)
            if not self._compressed:
                if self._frame:
                    raise EOFError
                return b""
            frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready = io.BytesIO(frame.decompress(self._compressed))
            self._compressed = frame.unused_data if frame.eof else b""
            self._frame = None if frame.eof else frame
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_bytes(path: Path) -> io.BufferedReader:
    """A file's content, decompressed where its name ends in .gz or .zst."""
    try:
        size = path.stat().st_size
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise Unreadable("unreadable") from error
    if path.suffix.lower() == ".gz":
        return io.BufferedReader(Bounded(_Gzip(file), size))
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(Bounded(ZstdFrames(file), size))
    return file


class _Gzip(gzip.GzipFile):
    """A gzip stream that closes the file that it reads."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()


def is_utf_16(head: bytes) -> bool:
    """Whether a file begins with the byte order mark of UTF-16."""
    return head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def decode(data: bytes, whole: bool = True) -> str:
    """Text of a file: UTF-16 by its mark, else UTF-8, else line by line UTF-8 or Windows-1252. `Unreadable`: binary.

    Where the file breaks off (not `whole`), so may its last character, which goes.
    """
    if is_utf_16(data):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        raise Unreadable("binary")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not whole and error.end == len(data) and error.reason == "unexpected end of data":
            return data[: error.start].decode("utf-8-sig")
    lines = data.splitlines(keepends=True)
    return "".join(_decode_line(line, number == 0) for number, line in enumerate(lines))


def _decode_line(line: bytes, first: bool) -> str:
    try:
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def read_text(path: Path, problems: Problems, place: str) -> str | None:
    """A whole text file; what stands before a break is kept. None where there is nothing to use."""
    buffer, whole = bytearray(), True
    try:
        with open_bytes(path) as file:
            while chunk := file.read1(PORTION):
                buffer += chunk
                if len(buffer) > LARGEST_TEXT:
                    raise Unreadable("too_large")
    except (Unreadable, OSError) as error:
        problems.add(place, _rule(error))
        if str(error) == "too_large":
            return None
        whole = False
    try:
        text = decode(bytes(buffer), whole)
    except Unreadable as error:
        problems.add(place, str(error))
        return None
    if not text.strip():
        if whole:
            problems.add(place, "empty")
        return None
    return text


def read_lines(path: Path, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    """(number, line) of a text file in a stream; lines before a break are kept, over-long ones set aside."""
    before = sum(problems.counts.values())
    used = False
    try:
        with open_bytes(path) as file:
            for number, line in _lines(file, problems, place):
                used = used or bool(line.strip())
                yield number, line
    except (Unreadable, OSError) as error:
        problems.add(place, _rule(error))
    if not used and sum(problems.counts.values()) == before:
        problems.add(place, "empty")


def _lines(file: io.BufferedReader, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    head = file.peek(PORTION)
    if is_utf_16(head):
        yield from enumerate(io.TextIOWrapper(file, "utf-16", errors="replace", newline="\n"), 1)
        return
    if b"\0" in head:
        raise Unreadable("binary")
    number = 0
    while line := file.readline(LARGEST_LINE):
        number += 1
        if len(line) >= LARGEST_LINE and not line.endswith(b"\n"):
            problems.add(f"{place}:{number}", "line_too_long")
            while (rest := file.readline(LARGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            continue
        yield number, _decode_line(line, number == 1)


def _rule(error: Exception) -> str:
    return str(error) if isinstance(error, Unreadable) else "unreadable"

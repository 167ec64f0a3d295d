"""Raw bytes to text: decompression in a stream with a bound, and encodings recognised."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import zstandard

FREE_BYTES = 1_000_000_000
LARGEST_RATIO = 200
"""A compressed file may expand to 1 GB, and beyond that to 200 times its size; more is taken for a bomb."""

PORTION = 1 << 16
"""Bytes that are decompressed at once."""

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


class Unreadable(Exception):
    """A file that breaks off or cannot be read: the rule that it falls under."""


class Bounded(io.RawIOBase):
    """A decompressed stream that ends with `Unreadable` where it expands beyond all reason or breaks off."""

    def __init__(self, inner: BinaryIO, compressed: int) -> None:
        self._inner, self._left = inner, FREE_BYTES + LARGEST_RATIO * compressed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            # In small portions: what a portion held before a break is lost with it.
            data = self._inner.read1(min(len(buffer), PORTION))  # type: ignore[attr-defined]
        except (EOFError, gzip.BadGzipFile, zstandard.ZstdError, OSError) as error:
            raise Unreadable("truncated" if isinstance(error, EOFError) else "damaged") from error
        self._left -= len(data)
        if self._left < 0:
            raise Unreadable("expands_without_bound")
        buffer[: len(data)] = data
        return len(data)


def open_bytes(path: Path) -> io.BufferedReader:
    """A file's content, decompressed where its name ends in .gz or .zst."""
    try:
        size = path.stat().st_size
        if path.suffix.lower() == ".gz":
            return io.BufferedReader(Bounded(gzip.open(path, "rb"), size))  # type: ignore[arg-type]
        if path.suffix.lower() == ".zst":
            return io.BufferedReader(Bounded(_zstd(path), size))  # type: ignore[arg-type]
        return open(path, "rb")
    except OSError as error:
        raise Unreadable("unreadable") from error


def _zstd(path: Path):
    """A zstd stream that notices a frame that breaks off (the library takes it for the end)."""
    reader = zstandard.ZstdDecompressor().stream_reader(open(path, "rb"), read_across_frames=True)  # noqa: SIM115
    return _WholeFrames(reader, path)


class _WholeFrames:
    def __init__(self, reader: zstandard.ZstdDecompressionReader, path: Path) -> None:
        self._reader, self._path, self._read = reader, path, 0

    def read1(self, size: int) -> bytes:
        data = self._reader.read1(size)
        self._read += len(data)
        if not data:
            expected = zstandard.frame_content_size(self._path.read_bytes()[:64])
            if expected > self._read:
                raise EOFError
        return data


def encoding_of(head: bytes, whole: bool) -> str | None:
    """Encoding of a text by its first bytes: a byte order mark, else UTF-8 if it is valid, else Windows-1252. None: binary."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def read_text(path: Path, problems: Problems, place: str) -> str | None:
    """A whole text file; what stands before a break is kept. None where there is nothing to use."""
    buffer, whole = bytearray(), True
    try:
        with open_bytes(path) as file:
            while chunk := file.read1(PORTION):
                buffer += chunk
                if len(buffer) > LARGEST_TEXT:
                    problems.add(place, "too_large")
                    return None
    except (Unreadable, OSError) as error:
        problems.add(place, str(error) if isinstance(error, Unreadable) else "unreadable")
        whole = False
    data = bytes(buffer)
    encoding = encoding_of(data, whole)
    if encoding is None:
        problems.add(place, "binary")
        return None
    text = data.decode(encoding, "replace")
    if not text.strip():
        if whole:
            problems.add(place, "empty")
        return None
    return text


def read_lines(path: Path, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    """(number, line) of a text file in a stream; lines before a break are kept, over-long ones set aside."""
    try:
        with open_bytes(path) as file:
            head = file.peek(1 << 16)
            encoding = encoding_of(head, False)
            if encoding is None:
                problems.add(place, "binary")
                return
            if encoding == "utf-16":
                yield from enumerate(io.TextIOWrapper(file, "utf-16", errors="replace", newline=""), 1)
                return
            number = 0
            while line := file.readline(LARGEST_LINE):
                number += 1
                if len(line) >= LARGEST_LINE and not line.endswith(b"\n"):
                    problems.add(f"{place}:{number}", "line_too_long")
                    while (rest := file.readline(LARGEST_LINE)) and not rest.endswith(b"\n"):
                        pass
                    continue
                yield number, _decode(line, number == 1)
    except Unreadable as error:
        problems.add(place, str(error))
    except OSError:
        problems.add(place, "unreadable")


def _decode(line: bytes, first: bool) -> str:
    try:
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")

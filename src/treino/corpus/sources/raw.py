"""Raw bytes to text: decompression in a stream with a bound, and encodings recognised."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import tempfile
import zlib
from collections.abc import Iterator, Mapping
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

DEEPEST = 4
"""Compressions around one another, and archives within one another; more is taken for a trap."""

SHORTEST_WIDE = 16
"""Bytes from which on the places of zeros say something."""

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

    def merge(self, other: Mapping[str, Any]) -> None:
        """Add the problems (the fields of them) that were noted apart."""
        for rule, count in other["counts"].items():
            self.counts[rule] = self.counts.get(rule, 0) + count
        self.rows += other["rows"][: max(0, self.kept - len(self.rows))]

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


def open_bytes(path: Path) -> io.BufferedReader[Any]:
    """A file's content, decompressed where it begins as gzip, zstd or bzip2 do, whatever its name says."""
    try:
        size = path.stat().st_size
        reader: io.BufferedReader[Any] = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise Unreadable("unreadable") from error
    try:
        for _ in range(DEEPEST):
            inner = _decompressor(reader)
            if inner is None:
                return reader
            reader = io.BufferedReader(Bounded(inner, size))
    except (OSError, Unreadable) as error:
        reader.close()
        raise Unreadable(rule_of(error)) from error
    reader.close()
    raise Unreadable("nested_too_deep")


def _decompressor(reader: io.BufferedReader[Any]) -> Any:
    """A stream of what the reader holds compressed; None: it is not."""
    head = reader.peek(10)
    if head.startswith(b"\x1f\x8b\x08"):
        return _Gzip(reader)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return ZstdFrames(reader)
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return _Bzip2(reader)
    return None


class _Gzip(gzip.GzipFile):
    """A gzip stream that closes the file that it reads."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()


class _Bzip2(bz2.BZ2File):
    """A bzip2 stream that closes the file that it reads."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()


def head_of(path: Path) -> bytes:
    """The first bytes of a file's content. `Unreadable`: there is no reading it."""
    try:
        with open_bytes(path) as file:
            return file.peek(PORTION)[:PORTION]
    except OSError as error:
        raise Unreadable("unreadable") from error


@contextlib.contextmanager
def uncompressed(path: Path, problems: Problems, place: str) -> Iterator[Path]:
    """A file for parsers that jump about in it: itself, or what it holds compressed, in a folder that is gone afterwards.

    What stands before a break is there, and the break noted.
    """
    with open(path, "rb") as file:
        plain = _decompressor(file) is None
    if plain:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="treino-") as folder:
        copy = Path(folder) / "content"
        with open(copy, "wb") as target:
            try:
                with open_bytes(path) as content:
                    while chunk := content.read1(PORTION):
                        target.write(chunk)
            except (Unreadable, OSError) as error:
                problems.add(place, rule_of(error))
        yield copy


def wide_encoding(head: bytes) -> str | None:
    """The Unicode form of two or four bytes a character: by its mark, else by where the zeros stand; None: another."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = head[: len(head) // 2 * 2]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if (
        len(head) >= SHORTEST_WIDE and max(even, odd) > 0.35 * len(head) and min(even, odd) < 0.02 * len(head)
    ):  # of `len / 2` such places
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def is_binary(head: bytes) -> bool:
    """Whether bytes are no text: more than one in fifty is a control character that no text has."""
    return len(head.translate(None, _NOT_CONTROLS)) > 0.02 * len(head)


_NOT_CONTROLS = bytes(set(range(256)) - (set(range(32)) - set(b"\t\n\r\f\x1b")))


def decode(data: bytes, whole: bool = True, declared: str = "") -> str:
    """Text of a file: by its mark, else UTF-8, else as declared, else line by line UTF-8 or Windows-1252, which has the
    printable characters of Latin-1 where Latin-1 has them. `Unreadable`: binary.

    A declaration counts last, for many are wrong, and bytes that are no UTF-8 are hardly ever so by chance. Where the file
    breaks off (not `whole`), so may its last character, which goes. Lone zeros go too.
    """
    if wide := wide_encoding(data[:PORTION]):
        return data.decode(wide, "replace").removeprefix("\ufeff")
    if is_binary(data[:PORTION]):
        raise Unreadable("binary")
    data = data.replace(b"\0", b"")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not whole and error.end == len(data) and error.reason == "unexpected end of data":
            return data[: error.start].decode("utf-8-sig")
    with contextlib.suppress(LookupError, UnicodeError, ValueError):
        if declared and codecs.lookup(declared).name not in ("utf-8", "ascii", "iso8859-1", "cp1252"):
            return data.decode(declared)
    lines = data.splitlines(keepends=True)
    return "".join(_decode_line(line, number == 0) for number, line in enumerate(lines))


def _decode_line(line: bytes, first: bool) -> str:
    line = line.replace(b"\0", b"")
    try:
        return line.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def read_bytes(path: Path, problems: Problems, place: str, largest: int | None = None) -> tuple[bytes, bool]:
    """What a file holds, and whether that is all of it; what stands before a break is kept, what is too large is not."""
    buffer, largest = bytearray(), largest or LARGEST_TEXT
    try:
        with open_bytes(path) as file:
            while chunk := file.read1(PORTION):
                buffer += chunk
                if len(buffer) > largest:
                    raise Unreadable("too_large")
    except (Unreadable, OSError) as error:
        problems.add(place, rule_of(error))
        return b"" if str(error) == "too_large" else bytes(buffer), False
    return bytes(buffer), True


def read_text(path: Path, problems: Problems, place: str) -> str | None:
    """A whole text file; what stands before a break is kept. None where there is nothing to use."""
    data, whole = read_bytes(path, problems, place)
    try:
        text = decode(data, whole)
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
        problems.add(place, rule_of(error))
    if not used and sum(problems.counts.values()) == before:
        problems.add(place, "empty")


def _lines(file: io.BufferedReader, problems: Problems, place: str) -> Iterator[tuple[int, str]]:
    head = file.peek(PORTION)
    wide = wide_encoding(head)
    if wide is None and is_binary(head):
        raise Unreadable("binary")
    reader: Any = io.TextIOWrapper(file, wide, errors="replace", newline="\n") if wide else file
    end = "\n" if wide else b"\n"
    number = 0
    while line := reader.readline(LARGEST_LINE):
        number += 1
        if len(line) >= LARGEST_LINE and not line.endswith(end):
            problems.add(f"{place}:{number}", "line_too_long")
            while (rest := reader.readline(LARGEST_LINE)) and not rest.endswith(end):
                pass
            continue
        yield number, line.removeprefix("\ufeff") if wide else _decode_line(line, number == 1)


def rule_of(error: Exception) -> str:
    """The rule by which a file is set aside."""
    return str(error) if isinstance(error, Unreadable) else "unreadable"

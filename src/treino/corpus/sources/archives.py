"""ZIP archives, also within one another: each member is unpacked by itself, up to a bound, and read as a file."""

from __future__ import annotations

import io
import lzma
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from treino.corpus.sources.raw import FREE_BYTES, LARGEST_RATIO, PORTION, Problems, Unreadable

MOST_MEMBERS = 200_000
_HEAD = struct.Struct("<4s2xHH8xI4xHH")
"""Of a member: mark, flags, method, packed size, lengths of its name and of what follows that."""

_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, ValueError, KeyError, IndexError,
    NotImplementedError, RuntimeError, OverflowError,
)  # fmt: skip


@dataclass
class Room:
    """Bytes that what lies in an archive, at any depth, may still expand to."""

    left: int

    @classmethod
    def of(cls, path: Path) -> Room:
        """Room for what a file holds."""
        return cls(FREE_BYTES + LARGEST_RATIO * path.stat().st_size)

    def take(self, size: int) -> None:
        """Use some of it. `Unreadable`: there is no more."""
        self.left -= size
        if self.left < 0:
            raise Unreadable("expands_without_bound")


def members(path: Path, name: str, problems: Problems, room: Room) -> Iterator[tuple[str, Path]]:
    """(name, unpacked file) of an archive's members, by name; each file is gone when the next is asked for.

    Of a member that breaks off or is damaged, what stands before is there, and it is noted.
    """
    try:
        archive = zipfile.ZipFile(path)
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
    except _BROKEN:
        yield from _without_directory(path, name, problems, room)
        return
    with archive, tempfile.TemporaryDirectory(prefix="treino-") as folder:
        if len(entries) > MOST_MEMBERS:
            problems.add(name, "too_many_members")
        for entry in entries[:MOST_MEMBERS]:
            place = f"{name}/{entry.filename}"
            if entry.is_dir() or _is_hidden(entry.filename):
                continue
            if entry.flag_bits & 1:
                problems.add(place, "encrypted")
                continue
            unpacked = Path(folder) / "member"
            try:
                _unpack(archive, entry, unpacked, room)
            except Unreadable as error:
                problems.add(place, str(error))
                return
            except _BROKEN:
                problems.add(place, "damaged")
            if unpacked.exists() and (unpacked.stat().st_size or not entry.file_size):
                yield place, unpacked
            unpacked.unlink(missing_ok=True)


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, room: Room) -> None:
    with archive.open(entry) as content, open(target, "wb") as file:
        while chunk := content.read(PORTION):
            room.take(len(chunk))
            file.write(chunk)


def _without_directory(path: Path, name: str, problems: Problems, room: Room) -> Iterator[tuple[str, Path]]:
    """The members of an archive whose directory, at its end, is lost: one after the other, by the heads before them."""
    problems.add(name, "truncated")
    with open(path, "rb") as file, tempfile.TemporaryDirectory(prefix="treino-") as folder:
        unpacked = Path(folder) / "member"
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            mark, flags, method, packed, name_length, extra = _HEAD.unpack(head)
            if mark != b"PK\x03\x04":
                return
            member = file.read(name_length).decode("utf-8" if flags & 0x800 else "cp437", "replace")
            file.seek(extra, io.SEEK_CUR)
            try:
                with open(unpacked, "wb") as target:
                    if not _inflate(file, target, method, packed, room):
                        return
            except Unreadable as error:
                problems.add(f"{name}/{member}", str(error))
                return
            except zlib.error:
                problems.add(f"{name}/{member}", "damaged")
                return
            if flags & 8:  # its sizes stand behind it, with or without a mark
                file.seek(12 if file.read(4) == b"PK\x07\x08" else 8, io.SEEK_CUR)
            if not (flags & 1 or member.endswith("/") or _is_hidden(member)):
                yield f"{name}/{member}", unpacked


def _inflate(file: BinaryIO, target: BinaryIO, method: int, packed: int, room: Room) -> bool:
    """Unpack one member and go to what stands behind it; whether it is whole."""
    if method == zipfile.ZIP_STORED:
        while packed > 0 and (chunk := file.read(min(packed, PORTION))):
            packed -= len(chunk)
            room.take(len(chunk))
            target.write(chunk)
        return packed == 0
    if method != zipfile.ZIP_DEFLATED:
        file.seek(packed, io.SEEK_CUR)
        return packed > 0
    inflater = zlib.decompressobj(-15)
    while not inflater.eof:
        chunk = inflater.unconsumed_tail or file.read(PORTION)
        if not chunk:
            return False
        data = inflater.decompress(chunk, PORTION)
        room.take(len(data))
        target.write(data)
    file.seek(-len(inflater.unused_data), io.SEEK_CUR)
    return True


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.replace("\\", "/").split("/"))

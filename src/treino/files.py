"""Atomic writes, digests and locks: what stands in a file under its final name is whole, or it is not there.

Every write goes to a temporary name beside the target, is synced, and renamed. Before and after each write and rename
there is a *fault point* with a name; `TREINO_FAULT=name` kills the process there, so that a test can prove that nothing
is lost (`tests/pipeline/test_restart.py`, `make proof`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from treino import environment
from treino.errors import DataError, MachineError, reason_of
from treino.messages import N_

_FAULT = environment.fault_point()
_RECORD = _FAULT.removeprefix("record=") if _FAULT and _FAULT.startswith("record=") else None
_passed: dict[str, int] = {}


def fault(name: str) -> None:
    """Pass a named fault point: die here (SIGKILL) when the environment asks for it (`name` or `name#n` for the n-th)."""
    if _FAULT is None:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _RECORD:
        with open(_RECORD, "a", encoding="utf-8") as record:
            record.write(f"{name}#{_passed[name]}\n")
    elif _FAULT in (name, f"{name}#{_passed[name]}"):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value in canonical form: sorted keys, no white space, UTF-8."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path | str) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def machine_errors(path: Path | str) -> Iterator[None]:
    """Turn what the operating system refuses (disk full, no permission) into a sentence with a fix."""
    try:
        yield
    except OSError as error:
        raise MachineError(
            N_("cannot write {path}: {reason}"),
            fix=N_("free some space or choose another folder with --runs, then run the same command again"),
            path=str(path),
            reason=reason_of(error),
        ) from error


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a whole file atomically."""
    write_with(path, lambda temporary: temporary.write_bytes(data))


def write_with(path: Path | str, write: Callable[[Path], object]) -> None:
    """Let `write` make a whole file, atomically: temporary name beside it, sync, rename."""
    with writing(path) as temporary:
        write(temporary)


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[Path]:
    """The temporary name beside `path` for a file that the block writes; at its end the file is synced and renamed."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    fault(f"{path.name}:before-write")
    with machine_errors(path):
        try:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            fault(f"{path.name}:after-write")
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    fault(f"{path.name}:after-rename")


def remove_temporaries(folder: Path) -> None:
    """Remove what interrupted writes left below a folder that nobody else writes to."""
    for path in folder.rglob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file atomically, with `\\n` line ends on every system."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, value: Any) -> None:
    """Write a JSON file atomically, indented and with sorted keys so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; `DataError` when it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(N_("{path} is missing"), path=str(path)) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(N_("{path} is damaged: {reason}"), path=str(path), reason=reason_of(error)) from error


def make_private(folder: Path | str) -> Path:
    """Make a folder that only its owner may enter (mode 0700), with the folders above it."""
    folder = Path(folder)
    with machine_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def list_files(folder: Path) -> list[str]:
    """Relative POSIX paths of all files below a folder, sorted; temporary files of interrupted writes left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".tmp"))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def sync_tree(folder: Path) -> None:
    """Ask the system to put every file and folder name below `folder` on the disk (folders: where it can)."""
    for path in [folder, *folder.rglob("*")]:
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        else:
            sync_folder(path)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk; a system that cannot open folders (Windows) does it by itself."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish_folder(partial: Path, final: Path) -> None:
    """Give a finished folder its final name: synced, then renamed in one step."""
    fault(f"{final.name.split('-')[0]}:before-publish")
    with machine_errors(final):
        sync_tree(partial)
        os.replace(partial, final)
        sync_folder(final.parent)
    fault(f"{final.name.split('-')[0]}:after-publish")


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or, where the disk knows no such thing, a copy."""
    with machine_errors(target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all it holds; nothing happens where it is absent."""
    if folder.exists():
        with machine_errors(folder):
            shutil.rmtree(folder)

"""What work costs: seconds and memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of glibc's settings (malloc.h)."""


_SMALL = 8 << 20
"""Bytes that are not worth looking for: the search through all objects takes a tenth of a second once torch is there."""

_LOOK = 0.05
"""Seconds between two looks at the memory of helpers: what they take grows over a second or more."""

_ACCOUNT = Path("/proc/self/smaps_rollup")
_beside = 0
_with_helpers = 0
_held_after_release = 0


def worked_beside(peak: int) -> None:
    """Take note of the memory that processes beside this one held at most, together, for the meter that is running."""
    global _beside
    _beside = max(_beside, peak)


@contextlib.contextmanager
def watching_helpers() -> Iterator[None]:
    """Take note, for the meter that is running, of what this process and those that it started hold together at most while the
    block runs: pages that several hold count in parts. Only Linux tells.
    """
    over = threading.Event()
    own = _field(_ACCOUNT, "Pss")
    if own is None:
        yield
        return
    strangers = (resident_memory() or 0) - own  # what other programs hold a part of, and this process holds whole

    def watch() -> None:
        global _with_helpers
        while not over.wait(_LOOK):
            _with_helpers = max(_with_helpers, tree_memory() + strangers)

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def tree_memory() -> int:
    """Bytes that this process, those that it started and those which they started hold together now, pages of several in parts
    (Linux's proportional set size); 0 where the system does not say.
    """
    found, processes = 0, [str(os.getpid())]
    while processes:
        process = Path("/proc") / processes.pop()
        with contextlib.suppress(OSError):  # one that has ended
            found += _field(process / "smaps_rollup", "Pss") or 0
            for thread in (process / "task").iterdir():
                processes += (thread / "children").read_text(encoding="ascii").split()
    return found


class Meter:
    """Wall-clock seconds and the process's peak resident memory since it was made, with that of processes beside it.

    Linux can start the peak anew for each stage; elsewhere it is the peak since the process began.
    """

    def __init__(self) -> None:
        global _beside, _with_helpers
        _beside = _with_helpers = 0
        self._started = time.monotonic()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def peak_memory(self) -> int | None:
        """Bytes, or None where the system does not say."""
        peak = peak_memory()
        return None if peak is None else max(peak + _beside, _with_helpers)


def peak_memory() -> int | None:
    """Bytes that this process held at most, or None where the system does not say."""
    peak = _status("VmHWM")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def release_memory() -> None:
    """Give memory that was freed back to the system where the C library keeps it (glibc): what is measured next is then
    what the next piece of work needs, not what an earlier one left behind, but for a few megabytes."""
    global _held_after_release
    held = resident_memory()
    if held is not None and held <= _held_after_release + _SMALL:
        return
    gc.collect()
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    _held_after_release = resident_memory() or 0


def keep_memory() -> None:
    """Let the C library (glibc) keep freed blocks of any size for the next step, where it would hand large ones back and the
    system would clear every page anew: a training step takes and frees the same ones each time.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def resident_memory() -> int | None:
    """Bytes that this process holds now, or None where the system does not say."""
    return _status("VmRSS")


def available_memory() -> int | None:
    """Bytes that this process could still take without swapping, or None where the system does not say: what Linux calls
    available, less where a container's limit is lower.
    """
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / f"memory.{name}").read_text(encoding="ascii")) for name in ("max", "current"))
        found.append(max(0, limit - used))
    return min(found, default=None)


def machine_memory() -> int | None:
    """Bytes that this machine has, or None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _status(field: str) -> int | None:
    """A size from Linux's account of this process, in bytes."""
    return _field(Path("/proc/self/status"), field)


def _field(account: Path, field: str) -> int | None:
    with contextlib.suppress(OSError):
        for line in account.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return None

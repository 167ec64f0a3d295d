"""Compile the kernels once per machine, and load them.

The library lies in the user's cache under a name made of sources, flags, compiler, torch and processor, in a folder that only
its owner may enter. Where the processor, the system or a compiler lacks, `library()` is None and all runs in plain torch.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from filelock import FileLock

from treino import environment, events, files
from treino.errors import MachineError
from treino.messages import Message

FOLDER = Path(__file__).parent
SOURCES = ("attention.cpp", "decode.cpp", "nf4.cpp", "optimiser.cpp", "pointwise.cpp")
HEADERS = ("vectors.h",)
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-w")
COMPILERS = ("c++", "g++", "clang++")
SECONDS = 180


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where this machine cannot have them."""
    compiler = _compiler()
    if compiler is None or not _processor_can():
        return None
    try:
        return ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError, MachineError) as error:
        events.emit("warning.kernels_missing", reason=_reason(error))
        return None


def identity() -> str:
    """What the kernels are made from, as a short digest; empty where this machine has none. Runs of equal bits share it."""
    return "" if library() is None else _sources()[:12]


def _processor_can() -> bool:
    """AVX-512 BF16 under Linux, and not forbidden by a limit on the instruction set."""
    return (
        sys.platform == "linux"
        and platform.machine() == "x86_64"
        and not environment.instruction_set_limits()
        and bool(torch.cpu._is_avx512_bf16_supported())
    )


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, COMPILERS)), None)


@functools.cache
def _sources() -> str:
    return files.digest([*FLAGS, *((FOLDER / name).read_text(encoding="utf-8") for name in (*SOURCES, *HEADERS))])


def _built(compiler: str) -> Path:
    """Path of the library, compiled now if it is not there."""
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, timeout=SECONDS, check=True
    ).stdout
    key = files.digest([_sources(), version, torch.__version__, _processor()])[:20]
    folder = files.make_private(environment.cache_folder() / "kernels")
    _check_owner(folder)
    path = folder / f"kernels-{key}.so"
    if not path.exists():
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                _compile(compiler, path)
    return path


def _compile(compiler: str, path: Path) -> None:
    """Sources to objects side by side, objects to a library beside its final name, renamed when whole."""
    started = time.monotonic()
    events.emit("kernels.building")
    with tempfile.TemporaryDirectory(dir=path.parent) as work, ThreadPoolExecutor() as pool:

        def make(*what: str | Path, out: Path) -> Path:
            command = [compiler, *FLAGS, *map(str, what), "-o", str(out)]
            subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
            return out

        objects = list(pool.map(lambda name: make("-c", FOLDER / name, out=Path(work) / f"{name}.o"), SOURCES))
        os.replace(make("-shared", *objects, out=Path(work) / path.name), path)
    events.emit("kernels.built", seconds=time.monotonic() - started)


def _check_owner(folder: Path) -> None:
    """Code is loaded only from a folder that nobody else can write to."""
    state = folder.stat()
    if state.st_uid != os.getuid() or state.st_mode & 0o022:
        raise OSError(f"{folder} can be written by others")


def _processor() -> str:
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        return "\n".join(
            sorted({line for line in lines if line.startswith(("model", "flags", "cpu family", "stepping"))})
        )
    return platform.processor()


def _reason(error: Exception) -> Message | str:
    if isinstance(error, MachineError):
        return error.message
    if isinstance(error, subprocess.CalledProcessError):
        return (error.stderr or "").strip().splitlines()[-1:][0] if error.stderr else str(error)
    return str(error)

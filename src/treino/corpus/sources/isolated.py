"""Native parsers in a process of their own: a file that crashes, blocks or bloats them costs itself, and the run goes on.

The child is started when first used (not through multiprocessing: that would run a user's script anew), works for its
parent until that ends, and is started again after it died. Requests and answers are frames: a mark, a length, bytes.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import IO, Any

from treino.corpus.sources.raw import Unreadable

SECONDS = 60.0
"""How long a parser may take for its next piece: a page, a chapter, a batch of rows."""

CHILDREN = 8
"""Children at most that work side by side for one source; each has its parsers in memory."""

MOST_MEMORY = 6_000_000_000
"""Bytes of address space that the child may have, where the system can hold it to that."""

_FRAME = struct.Struct(">cI")
DATA, END, FAILED = b"D", b"E", b"F"


def stream(task: str, payload: bytes = b"", seconds: float = SECONDS, **arguments: Any) -> Iterator[bytes]:
    """What a task of `parsers.TASKS` gives, piece by piece. `Unreadable`: it failed, crashed, or took too long."""
    try:
        child = _idle.pop()
    except IndexError:
        child = Child()
    finished = False
    try:
        child.ask(task, payload, arguments)
        while True:
            mark, data = child.answer(seconds)
            if mark == DATA:
                yield data
                continue
            finished = True
            if mark == FAILED:
                raise Unreadable(data.decode())
            return
    finally:
        if finished:
            _idle.append(child)
        else:  # it died, or was left in the middle of an answer
            child.close()


def one(task: str, payload: bytes = b"", seconds: float = SECONDS, **arguments: Any) -> bytes:
    """The only piece that a task gives."""
    (piece,) = stream(task, payload, seconds, **arguments)
    return piece


class Child:
    """A process that parses, and the pipes to it."""

    def __init__(self) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from treino.corpus.sources.isolated import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def ask(self, task: str, payload: bytes, arguments: dict[str, Any]) -> None:
        """Send a request."""
        assert self._process.stdin
        with contextlib.suppress(OSError):  # it died meanwhile: reading says so
            write_frame(self._process.stdin, DATA, json.dumps({"task": task, **arguments}).encode())
            write_frame(self._process.stdin, DATA, payload)

    def answer(self, seconds: float) -> tuple[bytes, bytes]:
        """The next frame; the child is killed where that takes too long. `Unreadable`: there is none."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            assert self._process.stdout
            frame = read_frame(self._process.stdout)
        finally:
            timer.cancel()
        if frame is None:
            raise Unreadable("takes_too_long" if late.is_set() else "crashes_the_parser")
        return frame

    def close(self) -> None:
        """End it."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()


def write_frame(pipe: IO[bytes], mark: bytes, data: bytes) -> None:
    """Write a frame and send it off."""
    pipe.write(_FRAME.pack(mark, len(data)))
    pipe.write(data)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> tuple[bytes, bytes] | None:
    """The next frame; None where the other end is gone."""
    head = pipe.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    mark, length = _FRAME.unpack(head)
    data = pipe.read(length)
    return (mark, data) if len(data) == length else None


def serve() -> None:
    """What the child does: answer requests until its parent is gone. What parsers print goes nowhere."""
    from treino.corpus.sources.parsers import TASKS

    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is the parent's; a page lost by it would be told of as damaged
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _bound_memory()
    while (request := read_frame(sys.stdin.buffer)) and (payload := read_frame(sys.stdin.buffer)):
        arguments = json.loads(request[1])
        task = TASKS[arguments.pop("task")]
        try:
            for piece in task(payload[1], **arguments):
                write_frame(answers, DATA, piece)
            write_frame(answers, END, b"")
        except BrokenPipeError:
            return
        except Unreadable as error:
            write_frame(answers, FAILED, str(error).encode())
        except MemoryError:
            write_frame(answers, FAILED, b"too_large")
        except Exception:  # whatever a parser makes of a damaged file
            write_frame(answers, FAILED, b"damaged")


def _bound_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows, macOS
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


_idle: list[Child] = []
"""Children without work."""


@atexit.register
def _end() -> None:
    while _idle:
        _idle.pop().close()

"""What xz makes of a text: bits per byte, alone and after having read the training text. Runs in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from treino.errors import MachineError, reason_of
from treino.evaluation import xz
from treino.messages import N_

FIX = N_("lower evaluate.sample_megabytes, or do without this comparison: evaluate.compressor = false")


@dataclass(frozen=True)
class Compression:
    """Bits per UTF-8 byte of the held-out text, alone and after the training text, and the bytes of each that were read.

    After the training text: C(training + held-out) − C(training). What ends a document (a line end here) counts in the
    bits and not in the bytes, as a model's end tokens do.
    """

    alone: float
    after_training: float
    held_out_bytes: int
    training_bytes: int


@dataclass(frozen=True)
class Sample:
    """What the compressor reads; `held_out_bytes` are those of the documents without what ends them."""

    held_out: bytes
    held_out_bytes: int
    training: bytes


def sample(held_out: Iterable[str], training: Iterable[str], limit: int) -> Sample:
    """The beginning of the held-out text and the end of the training text, at most `limit` bytes of each."""
    kept, counted = bytearray(), 0
    for text in held_out:
        data = text.encode()[: limit - counted]
        kept += data + b"\n"
        counted += len(data)
        if counted == limit:
            break
    before = bytearray()
    for text in training:
        before += text.encode() + b"\n"
        if len(before) > 4 * limit:
            del before[:-limit]
    return Sample(bytes(kept), counted, bytes(before[-limit:]))


@contextlib.contextmanager
def measuring(texts: Sample) -> Iterator[Callable[[], Compression]]:
    """Measure in another process while the `with` block does something else; what is given waits for the result.

    The texts go through a pipe, never onto the disk. The process holds about 12 bytes for each byte that it reads, beside
    10 MB of its own, and ends with the block at the latest.

    Raises:
        MachineError: where the process cannot start, is killed, or runs out of memory.
    """
    command = [sys.executable, "-I", str(Path(xz.__file__)), str(len(texts.training))]
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise MachineError(N_("the compressor could not start: {reason}"), fix=FIX, reason=reason_of(error)) from error
    with process:
        try:
            _hand_over(process, texts)
            yield lambda: _result(process, texts)
        finally:
            process.kill()


def _hand_over(process: subprocess.Popen[bytes], texts: Sample) -> None:
    """Write the texts to the process; one that died early is found out by its exit code."""
    assert process.stdin
    with contextlib.suppress(OSError):
        process.stdin.write(texts.training)
        process.stdin.write(texts.held_out)
    with contextlib.suppress(OSError):
        process.stdin.close()


def _result(process: subprocess.Popen[bytes], texts: Sample) -> Compression:
    assert process.stdout and process.stderr
    out, errors = process.stdout.read(), process.stderr.read().decode("utf-8", "replace")
    code = process.wait()
    if code < 0:
        raise MachineError(
            N_("the compressor was ended by signal {signal:raw}, as happens where memory runs out"),
            fix=FIX,
            signal=-code,
        )
    if code:
        reason = (errors.strip().splitlines() or [str(code)])[-1]
        raise MachineError(N_("the compressor failed: {reason}"), fix=FIX, reason=reason)
    found = json.loads(out)
    bits = 8 / texts.held_out_bytes
    after = found["both"] - found["training"]
    return Compression(found["alone"] * bits, after * bits, texts.held_out_bytes, len(texts.training))

"""What xz makes of a text: bits per byte, alone and after having read the training text. Runs in a process of its own."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SMALLEST_DICTIONARY = 1 << 20


@dataclass(frozen=True)
class Compression:
    """Bits per byte of the held-out text, alone and after the training text, and the bytes of each that were read."""

    alone: float
    after_training: float
    held_out_bytes: int
    training_bytes: int


def compressed_size(data: bytes) -> int:
    """Bytes of raw LZMA2 (preset 9 extreme) with a dictionary larger than the data: no header and no checksum counts."""
    dictionary = SMALLEST_DICTIONARY
    while dictionary < len(data):
        dictionary *= 2
    preset = 9 | lzma.PRESET_EXTREME
    chain = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary}]
    return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=chain))


def start(held_out: Path, training: Path, limit: int) -> subprocess.Popen[str]:
    """Begin the measurement in another process, which holds none of this one's memory; `finish` waits for it."""
    command = [sys.executable, "-m", "treino.evaluation.compressor", str(held_out), str(training), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")


def finish(process: subprocess.Popen[str]) -> Compression:
    """The result of `start`."""
    out, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    return Compression(**json.loads(out))


def measure(held_out: bytes, training: bytes, limit: int) -> Compression:
    """Bits per byte; of more than `limit` bytes the beginning of the held-out text and the end of the training text are
    read. After training: C(training + held-out) − C(training).
    """
    held_out, training = held_out[:limit], training[-limit:]
    before = compressed_size(training) if training else 0
    after = compressed_size(training + held_out) - before
    size = len(held_out)
    return Compression(8 * compressed_size(held_out) / size, 8 * after / size, size, len(training))


def main() -> None:
    """`python -m treino.evaluation.compressor HELD_OUT TRAINING LIMIT`: the result as JSON on standard output."""
    held_out, training, limit = sys.argv[1:]
    result = measure(Path(held_out).read_bytes(), Path(training).read_bytes(), int(limit))
    sys.stdout.write(json.dumps(vars(result)))


if __name__ == "__main__":
    main()

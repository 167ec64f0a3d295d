"""What xz makes of a text, measured in a process that may fail without taking this one along."""

from __future__ import annotations

import lzma
import random
import subprocess
import sys
from pathlib import Path

import pytest

from treino.errors import MachineError
from treino.evaluation import compressor, xz
from treino.evaluation.compressor import Sample, measuring, sample

EXTREME = 9 | lzma.PRESET_EXTREME
WORDS = ("o", "gato", "subiu", "no", "telhado", "e", "a", "padeira", "da", "rua", "viu", "que", "não", "ventava")


def texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=20)) + f" Às {draw.randrange(10**6)} horas." for _ in range(count)]


def compressed(data: bytes, dictionary: int = 1 << 20) -> int:
    """Bytes under the library itself, with a dictionary that is far larger than any text here."""
    chain = [{"id": lzma.FILTER_LZMA2, "preset": EXTREME, "dict_size": dictionary}]
    return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=chain))


def measure(held_out: list[str], training: list[str], limit: int = 10**6) -> compressor.Compression:
    with measuring(sample(held_out, training, limit)) as result:
        return result()


def child(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Put another program in the place of the compressor's."""
    program = folder / "outro programa, não xz.py"
    program.write_text(f"import os, signal, sys, time\n{code}\n", encoding="utf-8")
    monkeypatch.setattr(xz, "__file__", str(program))


def test_bits_per_byte_are_those_of_the_library() -> None:
    held_out, training = texts(9, 1), texts(60, 2)
    after, own = ("".join(f"{text}\n" for text in part).encode() for part in (training, held_out))
    size = sum(len(text.encode()) for text in held_out)
    found = measure(held_out, training)
    assert found.alone == pytest.approx(8 * compressed(own) / size)
    assert found.after_training == pytest.approx(8 * (compressed(after + own) - compressed(after)) / size)
    assert found.after_training < found.alone
    assert (found.held_out_bytes, found.training_bytes) == (size, len(after))


def test_what_was_read_before_costs_next_to_nothing() -> None:
    text = texts(50, 3)
    assert measure(text, text).after_training < 0.1 < measure(text, []).alone
    alone = measure(text, [])
    assert alone.after_training == alone.alone


def test_the_dictionary_reaches_over_all_that_is_read() -> None:
    """Noise twice: only who still remembers the first byte at the last can spare the second half."""
    noise = random.Random(4).randbytes(200_000)
    assert compressed(noise * 2, 1 << 17) > 390_000
    assert xz.compressed_size(noise * 2) < 205_000


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 5_000_000])
def test_the_dictionary_is_larger_than_the_text_and_hardly_larger(size: int) -> None:
    """The encoder's memory is a multiple of it."""
    assert size < xz.dictionary_size(size) <= max(4096, size + 1)


def test_sample_keeps_the_beginning_of_one_text_and_the_end_of_the_other() -> None:
    held_out, training = ["primeiro", "segundo"], [f"texto {n}" for n in range(100)]
    whole = "".join(f"{text}\n" for text in training).encode()
    assert sample(held_out, training, 10**6) == Sample(b"primeiro\nsegundo\n", 15, whole)
    assert sample(held_out, training, 11) == Sample(b"primeiro\nseg\n", 11, whole[-11:])
    assert sample(held_out, training, 8) == Sample(b"primeiro\n", 8, whole[-8:])


def test_sample_counts_bytes_and_not_characters() -> None:
    assert sample(["não é"], [], 100).held_out_bytes == 7


def test_sample_holds_no_more_than_it_needs() -> None:
    """The training text is read once, as a stream."""
    read = iter(texts(500, 5))
    assert len(sample(["a"], read, 100).training) == 100
    assert next(read, None) is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that kill")
def test_a_killed_process_is_the_machine_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child(tmp_path, monkeypatch, "sys.stdin.buffer.read()\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(MachineError, match=r"signal 9.*sample_megabytes"):
        measure(texts(5, 6), texts(5, 7))


@pytest.mark.parametrize("code", ["raise MemoryError", "sys.stdin.buffer.read()\nraise MemoryError"])
def test_a_process_without_memory_is_the_machine_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """Also where it ends before it has read a text that no pipe holds at once."""
    child(tmp_path, monkeypatch, code)
    with pytest.raises(MachineError, match=r"failed: MemoryError.*evaluate\.compressor = false"):
        measure(["abc " * 100_000], ["def " * 100_000])


def test_a_process_that_cannot_start_is_the_machine_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "não existe"))
    with pytest.raises(MachineError, match="could not start"):
        measure(["a"], ["b"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_process_ends_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """An interruption or an error elsewhere does not leave it behind."""
    child(tmp_path, monkeypatch, "sys.stdin.buffer.read()\ntime.sleep(20)")
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    with pytest.raises(error), measuring(sample(["a"], ["b"], 9)):
        assert started[0].poll() is None
        raise error
    assert started[0].wait(timeout=5) != 0


def test_nothing_beside_the_program_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the user's that is named like a module of the standard library stays unread."""
    (tmp_path / "lzma.py").write_text("raise RuntimeError('not mine')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert measure(["abc"], ["def"]).held_out_bytes == 3

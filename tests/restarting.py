"""Runs Treino in child processes that die at named points, for the tests and for `make proof`."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

MINI = """
name = "mini"
[corpus]
sources = [{ path = "world", weight = 1.5 }]
[world]
documents = 150
people = 8
[order]
difficulty = "length"
start = 0.3
[tokens]
vocabulary = 300
validation = 0.1
[model]
architecture = "{architecture}"
width = 16
layers = 1
heads = 2
embedding = 16
context = 32
dropout = 0.2
[pretrain]
budget = "{steps} steps"
batch = 3
accumulation = 3
precision = "float32"
validate_every = 5
checkpoint_seconds = 0.0
[evaluate]
sample_megabytes = 0.05
bootstrap = 100
"""
"""Small, yet with everything on: dropout, accumulation, validation, checkpoints after every step, weights, a curriculum."""


def recipe(folder: Path, architecture: str = "transformer", steps: int = 12) -> Path:
    """Write the small recipe; returns its path."""
    path = folder / "mini.toml"
    text = MINI.replace("{architecture}", architecture).replace("{steps}", str(steps))
    if architecture == "lstm":
        text = text.replace("heads = 2\n", "")
    path.write_text(text, encoding="utf-8")
    return path


TUNING = """
name = "mini"
[labels]
source = "world"
limit = 40
[world]
documents = 150
people = 8
[evaluate]
bootstrap = 100
[finetune]
base = "{base}"
epochs = 2
batch = 8
patience = 1
long_texts = "cut"
checkpoint_seconds = 0.0
[search]
trials = 2
"""
"""The second half alone, on a model that is there: two trials with dropout, checkpoints after every step, best weights kept."""


def tuning_recipe(folder: Path, base: Path) -> Path:
    """Write the small fine-tuning on the model of a run; returns its path."""
    path = folder / "tuning.toml"
    path.write_text(TUNING.replace("{base}", base.resolve().as_posix()), encoding="utf-8")
    return path


def start(
    path: Path, runs: Path, *, lock: Path | None = None, fault: str | None = None, more: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start `treino run --json` on one thread in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "treino", *_arguments(path, runs, lock, more)],
        env=_environment(fault),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def copy(
    path: Path, runs: Path, *, lock: Path | None = None, fault: str | None = None, more: tuple[str, ...] = ()
) -> Copy:
    """The same in a copy of a process that has loaded torch already, and nothing of Treino: two seconds less for each."""
    return Copy(_arguments(path, runs, lock, more), _environment(fault))


def _arguments(path: Path, runs: Path, lock: Path | None, more: tuple[str, ...]) -> list[str]:
    return ["run", str(path), "--runs", str(runs), "--json", *more, *(["--lock", str(lock)] if lock else [])]


def _environment(fault: str | None) -> dict[str, str]:
    names = os.environ | {"TREINO_LANG": "en", "OMP_NUM_THREADS": "1"}
    names.pop("TREINO_FAULT", None)
    return names | ({"TREINO_FAULT": fault} if fault else {})


class Copy:
    """What is used of `subprocess.Popen`, for a process that multiprocessing's server of forks makes."""

    def __init__(self, arguments: list[str], names: dict[str, str]) -> None:
        context: Any = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["torch", "pyarrow.compute", "pydantic", "scipy.sparse", "tokenizers", "click", "rich"]
        )
        out, told = context.Pipe(duplex=False)
        with tempfile.NamedTemporaryFile(delete=False) as file:
            self._errors = Path(file.name)
        self._process = context.Process(target=_be_treino, args=(arguments, names, told, file.name))
        self._process.start()
        told.close()
        self.stdout: IO[str] = open(os.dup(out.fileno()), encoding="utf-8")  # noqa: SIM115  # closed when all is read
        out.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        with self.stdout:
            out = self.stdout.read()
        self._process.join(timeout)
        err = self._errors.read_text(encoding="utf-8")
        self._errors.unlink()
        return out, err


def _be_treino(arguments: list[str], names: dict[str, str], out: Connection, errors: str) -> None:
    os.dup2(out.fileno(), 1)
    out.close()
    with open(errors, "wb") as file:
        os.dup2(file.fileno(), 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(names)
    sys.argv = ["treino", *arguments]
    assert not any(name.partition(".")[0] == "treino" for name in sys.modules), "a copy begins before Treino does"
    from treino.cli.main import main

    main()


Starter = Callable[..., "subprocess.Popen[str] | Copy"]


def finish(child: subprocess.Popen[str] | Copy, timeout: float = 300) -> tuple[int, list[dict], str]:
    """Exit code, the JSON lines of standard output, and standard error."""
    out, err = child.communicate(timeout=timeout)
    return child.returncode, [json.loads(line) for line in out.splitlines()], err


def digests(lines: list[dict]) -> dict[str, str]:
    """Digest of every stage from the last line of a run."""
    assert lines[-1]["kind"] == "result", lines[-1]
    return {name: value for name, value in lines[-1]["digests"].items() if name != "report"}


def fault_points(path: Path, folder: Path, lock: Path) -> list[str]:
    """Every fault point that a run of the recipe passes, in order, each with its count."""
    record = folder / "points.txt"
    code, _, err = finish(start(path, folder / "recorded", lock=lock, fault=f"record={record}"))
    assert code == 0, err
    return record.read_text(encoding="utf-8").split("\n")[:-1]


def killed_at(point: str, path: Path, runs: Path, lock: Path, start: Starter = start) -> dict[str, str]:
    """Die at a fault point, run again; the digests of the second run."""
    code, _, err = finish(start(path, runs, lock=lock, fault=point))
    assert code == -signal.SIGKILL, f"{point}: not reached, exit {code}: {err}"
    code, lines, err = finish(start(path, runs, lock=lock))
    assert code == 0, f"{point}: {err}"
    return digests(lines)


def killed_in_training(
    path: Path, runs: Path, lock: Path, draw: random.Random, start: Starter = start
) -> tuple[int, dict[str, str]]:
    """Kill a run after a random step, at a random moment of the next one, and run again; (step, digests)."""
    child = start(path, runs, lock=lock)
    assert child.stdout
    wanted = draw.randrange(1, 40)
    step = 0
    for line in child.stdout:
        event = json.loads(line)
        if event["kind"] == "train.step":
            step = event["step"]
            if step >= wanted:
                break
    time.sleep(draw.random() * 0.05)
    child.kill()
    child.communicate()
    code, lines, err = finish(start(path, runs, lock=lock))
    assert code == 0, err
    return step, digests(lines)

"""Measuring one program beside another: pairs of turns in one run, and the interval of their ratio.

Each contender is a process of its own that lives through the whole comparison, so imports, compilation and warm-up are paid
before the first timed turn. The parent lets them take turns, A B A B …; whoever waits sleeps on a pipe, which the parent
checks by its processor time. A pair's ratio cancels what is slow about the machine at that moment.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from scipy.stats import t as student

HERE = Path(__file__).parent
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
IDLE_SHARE = 0.02
"""A waiting process that uses more than this share of one processor disturbs the other's turn."""

FOREIGN_SHARE = 0.04
"""A pair counts when other programs took at most this share of the processors in each of its turns."""


@dataclass(frozen=True)
class Ratio:
    """Rates of A over rates of B: the median over the pairs, and an interval of their typical value."""

    median: float
    low: float
    high: float
    first: float
    second: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio_interval(rates: Sequence[tuple[float, float]], confidence: float = 0.9) -> Ratio:
    """Median ratio of pairs of rates, with Student's interval of the mean of its logarithm, exp(m ± t · s / √n).

    `first` and `second` are the medians of the rates. Needs two pairs or more.
    """
    logs = [math.log(first / second) for first, second in rates]
    half = float(student.ppf((1 + confidence) / 2, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    middle = statistics.fmean(logs)
    return Ratio(
        math.exp(statistics.median(logs)),
        math.exp(middle - half),
        math.exp(middle + half),
        *(statistics.median(side) for side in zip(*rates, strict=True)),
        len(rates),
    )


class Failed(Exception):
    """A contender ended by itself; the message holds the end of what it said."""


class Worker:
    """A contender's process: `python -m contenders NAME …`, which answers one JSON line to each request.

    Attributes:
        facts: what it said of itself when it was ready: threads and versions.
    """

    def __init__(self, python: str, *arguments: str) -> None:
        paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, "-m", "contenders", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        self.facts = self._answer()

    def take(self, steps: int) -> dict[str, Any]:
        """Let it take so many steps; its answer holds `rate` (of work per second)."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(steps, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            raise Failed("".join(self.log.readlines()[-15:]).strip() or f"ended with code {self.process.returncode}")
        return json.loads(line)

    def processor_seconds(self) -> float:
        """Processor time that it and its children have used."""
        process = psutil.Process(self.process.pid)
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return sum(time.user + time.system for time in times)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """It ends when nobody can ask it any more."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def alternate(
    first: Worker, second: Worker, pairs: int, steps: int, warm_up: int = 4, other_steps: int = 0
) -> list[tuple[float, float]]:
    """Rates of (first, second) in so many pairs of turns of `steps` steps each (of the second one `other_steps`, where a step
    of it is another amount of work), after a turn of warm-up each.

    A pair during which anything else took more than `FOREIGN_SHARE` of the processors (other programs, or the host of a
    virtual machine) is measured again.

    Raises:
        Failed: where that happens more often than not.
    """
    for worker in (first, second):
        worker.take(warm_up)
    rates: list[tuple[float, float]] = []
    for _ in range(2 * pairs + 1):
        one, other = _turn(first, second, steps), _turn(second, first, other_steps or steps)
        if max(one.foreign, other.foreign) <= FOREIGN_SHARE:
            rates.append((one.rate, other.rate))
        if len(rates) == pairs:
            return rates
    raise Failed(f"the machine is not quiet: {len(rates)} of {2 * pairs + 1} pairs were undisturbed")


@dataclass(frozen=True)
class _Turn:
    """The rate of a turn, and the share of all processors that went to anything but the one whose turn it was."""

    rate: float
    foreign: float


def _turn(worker: Worker, waiting: Worker, steps: int) -> _Turn:
    started, busy, own, idle = time.perf_counter(), _busy(), worker.processor_seconds(), waiting.processor_seconds()
    rate = worker.take(steps)["rate"]
    seconds, busy, own = time.perf_counter() - started, _busy() - busy, worker.processor_seconds() - own
    if waiting.processor_seconds() - idle > 0.1 + IDLE_SHARE * seconds:
        raise Failed("the process that should wait worked in the other's turn")
    return _Turn(rate, max(0.0, busy - own) / seconds / (psutil.cpu_count() or 1))


def _busy() -> float:
    """Seconds that all processors together were not idle."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def packages(python: str, names: Sequence[str]) -> dict[str, str]:
    """Versions of those packages that an interpreter can import."""
    code = (
        "import importlib, importlib.metadata as m, json, sys\n"
        "found = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try: importlib.import_module(name); found[name] = m.version(name)\n"
        "    except ImportError: pass\n"
        "print(json.dumps(found))"
    )
    out = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def machine() -> str:
    """The processor in a few words, with the instruction sets that matter here."""
    model, flags = platform.processor(), set()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in fields.items()}
        model = f"{fields.get('model name', model)} (family {fields.get('cpu family', '?')})"
        flags = set(fields.get("flags", "").split())
    return ", ".join([model, *(flag for flag in FLAGS if flag in flags)])

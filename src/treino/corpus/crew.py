"""The processes of this machine that share a job: each a Python of its own, for cleaning is Python and one holds one processor.

They are started as `-m treino.corpus.crew`, not forked, and not by `multiprocessing`, which would run a caller's script a
second time in each. The job comes through standard input, answers go through standard output. A process whose starter is gone
ends with its next answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any, Protocol

from treino import environment
from treino.errors import MachineError, from_row, to_row
from treino.measure import peak_memory, worked_beside
from treino.messages import N_

LOOK_SECONDS = 0.2


class Job(Protocol):
    """A picklable piece of work with numbered items, each done by itself."""

    def work(self, item: int) -> Iterator[int | str]:
        """Do an item: yields how much was done since the last time, and at the end what is to be kept of it."""
        ...

    def keep(self, item: int, result: str) -> None:
        """Make an item count as done, once; called beside the process that worked, never by one whose starter is gone."""
        ...


def packed(job: Job) -> bytes:
    """A job as it is sent to another process of the same program."""
    return pickle.dumps(job)


class Worker:
    """One process that knows the job."""

    def __init__(self, program: bytes) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "treino.corpus.crew"],
            env=environment.for_ranks(1),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.peak_memory = 0
        self._send(pickle.dumps((sys.path, program)))

    def _send(self, data: bytes) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError, OSError):  # it is gone: that shows when no answer comes
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def answers(self, item: int) -> Iterator[int | str]:
        """What the job yields for an item.

        Raises:
            MachineError: when the process ends before.
        """
        assert self.process.stdout
        self._send(b"%d\n" % item)
        while True:
            line = self.process.stdout.readline()
            if not line.endswith(b"\n"):
                raise MachineError(
                    N_("a process that worked on the corpus was lost (exit code {code:raw})"),
                    fix=N_(
                        "run the same command again: it goes on at the part that was in work; if the memory was too small, "
                        "ask for fewer processes (OMP_NUM_THREADS=1)"
                    ),
                    code=self.process.wait(),
                )
            answer = json.loads(line)
            if isinstance(answer, dict):
                raise from_row(answer)
            if isinstance(answer, int):
                yield answer
                continue
            result, self.peak_memory = answer
            yield result
            return

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


class Crew:
    """Up to `size` workers, started when they are first needed; `seen` hears, in one thread at a time, how much was done."""

    def __init__(self, program: bytes, size: int, seen: Callable[[int], None]) -> None:
        self._program, self._seen = program, seen
        self._job: Job = pickle.loads(program)
        self._free: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)
        self._workers: list[Worker] = []
        self._lock = threading.Lock()
        self._ended = False

    def carry_out(self, item: int) -> int:
        """Have an item done by the next worker that is free; returns how much was done."""
        worker = self._free.get()
        done = 0
        try:
            worker = worker or self._start()
            for answer in worker.answers(item):
                if isinstance(answer, str):
                    self._job.keep(item, answer)
                    return done
                done += answer
                with self._lock:
                    self._seen(answer)
        finally:
            self._free.put(worker)
        return done

    def _start(self) -> Worker:
        with self._lock:
            if self._ended:
                raise RuntimeError("the crew has ended")
            worker = Worker(self._program)
            self._workers.append(worker)
        return worker

    def end(self) -> None:
        """End all processes; who waits for one hears that it is lost."""
        with self._lock:
            self._ended = True
        for worker in self._workers:
            worker.end()
        worked_beside(sum(worker.peak_memory for worker in self._workers))


def share(job: Job, items: Sequence[int], processes: int, seen: Callable[[int], None]) -> None:
    """Have every item of a job done by so many processes.

    Raises:
        TreinoError: what went wrong with an item, or with a process; `Interrupted` among it. All processes have ended then.
    """
    crew = Crew(packed(job), processes, seen)
    with ThreadPoolExecutor(processes) as threads:
        try:
            pending = {threads.submit(crew.carry_out, item) for item in items}
            while pending:
                # Waits are short, for on Windows a Ctrl-C interrupts none.
                done, pending = wait(pending, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for item in done:
                    item.result()
        finally:
            crew.end()


_crews: dict[bytes, Crew] = {}
_gathering = threading.Lock()


def of_this_machine(program: bytes) -> Crew:
    """The crew of a job that a cluster has dealt to this machine: gathered at the first call, it ends with the process."""
    with _gathering:
        if program not in _crews:
            _crews[program] = Crew(program, environment.processors(), lambda _: None)
        return _crews[program]


def main() -> None:
    """Do items of a job as their numbers come in, until no more come."""
    environment.prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C of the terminal is the starter's, which ends this process
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library may print must not come among the answers
    with contextlib.suppress(BrokenPipeError):
        sys.path[:], program = pickle.load(sys.stdin.buffer)
        jobs: list[Job] = []
        for line in sys.stdin.buffer:
            try:
                jobs = jobs or [pickle.loads(program)]
                for answer in jobs[0].work(int(line)):
                    _tell(answers, answer if isinstance(answer, int) else [answer, peak_memory() or 0])
            except BrokenPipeError:
                raise
            except Exception as error:  # told to the starter, which raises it
                _tell(answers, to_row(error))
    os._exit(0)  # nothing is open; closing the pipe that nobody reads would complain


def _tell(answers: Any, answer: int | list[Any] | dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()

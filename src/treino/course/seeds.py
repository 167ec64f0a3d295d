"""A lab's repetitions: one job a seed, side by side in processes of one thread each, with a forecast before."""

from __future__ import annotations

import concurrent.futures
import contextlib
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from treino import environment, events
from treino.errors import UsageError
from treino.messages import N_

Job = TypeVar("Job")
Found = TypeVar("Found")


def check(seeds: int) -> None:
    """Raise UsageError where there is nothing to repeat."""
    if seeds < 1:
        raise UsageError(N_("the lab needs a seed or more"), fix=N_("give --seeds a number such as 4"))


def repeat(work: Callable[[Job], Found], jobs: Sequence[Job], seconds: float) -> list[Found]:
    """`work` (a function of a module) on every job, in their order; `seconds`: what one job should take."""
    workers = min(len(jobs), environment.processors())
    whole = seconds * math.ceil(len(jobs) / workers)
    events.emit("lab.forecast", seconds=whole, jobs=len(jobs), processes=workers)
    if workers == 1:
        found = []
        for number, job in enumerate(jobs, 1):
            with events.unheard(), one_thread():  # as of one that works in a process of its own
                found.append(work(job))
            events.progress("lab", number, len(jobs), N_("seeds"))
        return found
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, spawn, initializer=_alone) as pool:
        waiting = [pool.submit(work, job) for job in jobs]
        try:
            for done, future in enumerate(concurrent.futures.as_completed(waiting), 1):
                future.result()
                events.progress("lab", done, len(jobs), N_("seeds"))
            return [future.result() for future in waiting]
        finally:  # after Ctrl-C or a failure no further job begins
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """torch keeps to one thread inside: the labs' models are small, and a second one waits more than it works."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _alone() -> None:
    environment.prepare()
    environment.keep_to_one_processor()

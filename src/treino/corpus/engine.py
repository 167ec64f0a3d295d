"""The only importer of Daft: has the shards of a job done by the processes of this machine, or of a Ray cluster's machines."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from treino import environment
from treino.corpus import crew
from treino.corpus.crew import Job
from treino.errors import Interrupted, UsageError, from_row, reason_of, to_row
from treino.messages import N_

if TYPE_CHECKING:
    import daft

_on_ray = False


def use_ray(address: str) -> None:
    """From now on have shards done on a Ray cluster; without an address on the one that this machine is part of, or on a
    new one of this machine alone.

    All its machines must see the folder of runs under the same path, and have the same treino.

    Raises:
        UsageError: where ray is missing, or nothing answers at the address.
    """
    global _on_ray
    environment.prepare()
    _check_reachable(address)
    try:
        import daft

        daft.set_runner_ray(address or None, noop_if_initialized=True)
    except ImportError as error:
        raise UsageError(N_("ray is not installed"), fix=N_('install it with: pip install "treino[ray]"')) from error
    _on_ray = True


def _check_reachable(address: str) -> None:
    """Ray itself would ask for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not address or address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UsageError(
            N_("no Ray cluster answers at {address} ({reason})"),
            fix=N_("give its address as --on ray:HOST:PORT; ray status on its head tells it"),
            address=address,
            reason=reason_of(error),
        ) from error


def is_on_ray() -> bool:
    """Whether shards are done on a Ray cluster."""
    return _on_ray


def spread(job: Job, items: Sequence[int], processes: int, seen: Callable[[int], None]) -> None:
    """Have every item of a job done by so many processes of this machine, or by those of all machines of the cluster.

    In both cases a machine's own crew does the work (`corpus.crew`). On Ray it is Daft that deals the items to the machines.
    In-process the crew takes them itself: with Daft's own processes (0.7.26) about one run of ten ended in a crash of the
    interpreter, and so did every Ctrl-C in the middle of one of its programs.

    Args:
        seen: hears how much was done.

    Raises:
        TreinoError: what went wrong with an item, or with a process.
    """
    if not _on_ray:
        crew.share(job, items, processes, seen)
        return
    import daft

    program = crew.packed(job)

    @daft.func(return_dtype=daft.DataType.string())
    def carry_out(item: int) -> str:
        try:
            return json.dumps(crew.of_this_machine(program).carry_out(item))
        except Exception as error:  # told to the starter, which raises it
            return json.dumps(to_row(error))

    dealt = daft.from_pydict({"item": list(items)}).into_partitions(len(items)).into_batches(1)
    finished = 0
    try:
        for told in _as_they_come(dealt.select(carry_out(daft.col("item")).alias("done"))):
            done = json.loads(told["done"])
            if isinstance(done, dict):
                raise from_row(done)
            finished += 1
            seen(done)
    except Interrupted:
        sys.modules["ray"].shutdown()  # what is still in work would keep the interpreter from ending
        raise
    if finished < len(items):  # Daft ends quietly when it is stopped
        raise RuntimeError(f"the engine ended after {finished} of {len(items)} parts")


def _as_they_come(program: daft.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of a program on Ray. It runs in a thread: an exception that a signal raises in the middle of Ray's own code
    would end the interpreter.
    """
    told: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            for row in program.iter_rows():
                told.put(row)
            told.put(None)
        except Exception as error:  # raised in the thread that asked
            told.put(error)

    threading.Thread(target=run, daemon=True).start()
    while True:
        with contextlib.suppress(queue.Empty):  # waits are short, for on Windows a Ctrl-C interrupts none
            row = told.get(timeout=crew.LOOK_SECONDS)
            if row is None:
                return
            if isinstance(row, Exception):
                raise row
            yield row

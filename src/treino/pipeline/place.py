"""Where a training works: in this process, in several that torchrun started with it, or in several that are started here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treino import environment, events, files, interruption
from treino.errors import Interrupted, UsageError, from_row
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import Recipe
    from treino.training.order import Leading, Order

LOOK_SECONDS = 0.05
GRACE_SECONDS = 45.0
"""Longer than torchrun gives its processes to end."""


@dataclass(frozen=True)
class Place:
    """How many processes train, and the ones that were started together with this one, if any."""

    ranks: int = 1
    leading: Leading | None = None

    def carry_out(self, order: Order) -> dict[str, Any]:
        """Train where it is to be done; returns the facts.

        Raises:
            TreinoError: what the training raised, or `LostRank`.
        """
        if self.leading:
            return self.leading.carry_out(order)
        if self.ranks == 1:
            from treino.training.ranks import ALONE

            return order.carry_out(ALONE)
        return _launched(replace(order, threads=self.threads), self.ranks)

    @property
    def threads(self) -> int:
        """Processors for each process on this machine."""
        return environment.processors() if self.leading else max(1, environment.processors() // self.ranks)

    def check_rows(self, recipe: Recipe) -> None:
        """Refuse more processes than a step of the recipe has rows."""
        from treino.training.ranks import check_share

        check_share(recipe.pretrain.batch * recipe.pretrain.accumulation, self.ranks)

    def check(self, recipe: Recipe) -> None:
        """Refuse, before anything is done, what could not work."""
        import torch

        self.check_rows(recipe)
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        here = environment.distributed().local_size if self.leading else self.ranks
        if gpus and here > gpus:
            raise UsageError(
                N_("{size} processes cannot share {gpus} GPUs"),
                fix=N_(
                    "ask for one process for each GPU, or hide the GPUs (CUDA_VISIBLE_DEVICES=) to train on processors"
                ),
                size=here,
                gpus=gpus,
            )


HERE = Place()


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster for the stages that make documents: its address, empty for the one that this machine is part of."""

    address: str = ""


@contextmanager
def started_together(ranks: int) -> Iterator[Place]:
    """The place of a run: `ranks` processes to be started, or those that torchrun started beside this one."""
    beside = environment.distributed().size
    if beside == 1:
        yield Place(ranks)
        return
    if ranks > 1:
        raise UsageError(N_("torchrun has started {size} processes already"), fix=N_("leave --on out"), size=beside)
    from treino.training.order import Leading

    leading = Leading()
    try:
        yield Place(beside, leading)
    finally:
        leading.end()


def _launched(order: Order, ranks: int) -> dict[str, Any]:
    """Start processes by torchrun, hand on what the first one tells, and end with its facts or its error."""
    from treino.training.worker import FACTS, ORDER, STARTER

    folder = Path(order.output) / "ranks"
    files.remove_folder(folder)
    files.make_private(folder)
    files.write_text(folder / ORDER, order.to_json())
    files.write_json(folder / STARTER, {"process": os.getpid()})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    with open(folder / "log.txt", "wb") as log:
        agent = subprocess.Popen(
            [*command, "-m", "treino.training.worker", str(folder)],
            env=environment.for_ranks(order.threads),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C of the terminal comes here alone, and is handed on once
        )
        try:
            with interruption.deferring():
                _watch(agent, folder)
        finally:
            _end(agent)
    if not (folder / FACTS).exists():  # once they are there, all is saved: how the processes part does not matter
        _raise_what_was_left(folder, ranks, agent.returncode, Path(order.output) / "checkpoints")
        interruption.raise_if_requested()
    facts = files.read_json(folder / FACTS)
    files.remove_folder(folder)
    for rank in range(ranks):
        Path(f"{order.output}.{rank}.lock").unlink(missing_ok=True)
    return facts


def _watch(agent: subprocess.Popen[bytes], folder: Path) -> None:
    """Until the processes end: emit their events here, and hand a signal on to the first of them, once."""
    from treino.training.worker import EVENTS

    place, handed = 0, False
    while True:
        over = agent.poll() is not None
        place = _emit_from(folder / EVENTS, place)
        if over:
            return
        process = folder / "process-0.json"
        if interruption.requested() and not handed:
            if not process.exists():
                return  # nothing has begun
            os.kill(files.read_json(process)["process"], interruption.requested())
            handed = True
        time.sleep(LOOK_SECONDS)


def _emit_from(path: Path, place: int) -> int:
    """Emit the whole lines of a file from a place on; returns the place behind them."""
    if not path.exists():
        return place
    with open(path, "rb") as told:
        told.seek(place)
        whole = told.read().rpartition(b"\n")[0]
    for line in whole.splitlines():
        event = json.loads(line)
        events.emit(event["kind"], **event["values"])
    return place + len(whole) + 1 if whole else place


def _end(agent: subprocess.Popen[bytes]) -> None:
    """Let no process outlive this one."""
    if agent.poll() is not None:
        return
    agent.terminate()
    try:
        agent.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        agent.kill()


def _raise_what_was_left(folder: Path, ranks: int, code: int, checkpoints: Path) -> None:
    """Raise the error that best says why the processes ended, if one did: a mistake or a bug before the loss of a process,
    which another one's end looks like.
    """
    from treino.training.ranks import LostRank, lost
    from treino.training.worker import error_file

    paths = [folder / error_file(rank) for rank in range(ranks)]
    errors = [files.read_json(path) for path in paths if path.exists()]
    asked = interruption.requested()
    for error in errors:
        if error["kind"] not in (LostRank.__name__, Interrupted.__name__):
            raise from_row(error)
    if asked and (code or any(error["kind"] == Interrupted.__name__ for error in errors)):
        interruption.raise_if_requested()
    if code or errors:
        raise lost(checkpoints)

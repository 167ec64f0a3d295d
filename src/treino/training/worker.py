"""One of the processes of a pretraining that another process started, by torchrun: `-m treino.training.worker FOLDER`.

The folder holds the order. The first process writes the events there as they happen, and the facts once the model is saved;
each writes the error that ended it. All end with exit code 0, so that the launcher kills none that is still saving; another
code means a process that was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock

from treino import environment, events, files, interruption
from treino.errors import to_row
from treino.measure import Meter

ORDER, EVENTS, FACTS, STARTER = "order.json", "events.jsonl", "facts.json", "starter.json"


def error_file(rank: int) -> str:
    """Name of the file in which a process leaves the error that ended it."""
    return f"error-{rank}.json"


def main(folder: Path) -> None:
    """Carry out the order of a folder."""
    environment.prepare()
    rank = environment.distributed().rank
    try:
        with interruption.catching(), open(folder / EVENTS if rank == 0 else os.devnull, "a", encoding="utf-8") as told:

            def listener(event: events.Event) -> None:
                row = {"kind": event.kind, "values": event.values}
                told.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
                told.flush()

            with events.listening(listener):
                _carry_out(folder, rank)
    except Exception as error:  # told to the starter, which raises it
        files.write_json(folder / error_file(rank), to_row(error))


def _carry_out(folder: Path, rank: int) -> None:
    from treino.training.order import Order
    from treino.training.ranks import join, leave

    order = Order.from_json((folder / ORDER).read_text(encoding="utf-8"))
    starter = files.read_json(folder / STARTER)["process"]
    _end_with(starter)
    # Processes whose starter was killed may still be saving when the same command is given again: wait for them.
    with FileLock(f"{order.output}.{rank}.lock"):
        files.write_json(folder / f"process-{rank}.json", {"process": os.getpid()})
        meter = Meter()
        facts = order.carry_out(join(order.threads))
        if rank == 0:
            files.write_json(folder / FACTS, facts | {"peak_memory": meter.peak_memory()})
        leave()


def _end_with(starter: int) -> None:
    """Save and stop when the process that started the training is gone."""
    if sys.platform == "win32":
        return  # there, asking whether a process lives by signal 0 would end it

    def look() -> None:
        while True:
            try:
                os.kill(starter, 0)
            except OSError:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(1.0)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

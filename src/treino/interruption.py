"""Ctrl-C and SIGTERM: work that can save itself finishes its step first, everything else stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from treino.errors import Interrupted
from treino.messages import N_

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
TWICE = 1.0
"""Seconds within which the same wish may arrive twice: a launcher hands on a Ctrl-C that the terminal sent to all."""

_requested: int | None = None
_since = 0.0
_deferring = False


def _stop(number: int) -> Interrupted:
    return Interrupted(
        N_("stopped; what was finished is kept: the same command goes on from there"), exit_code=128 + number
    )


def _handle(number: int, frame: FrameType | None) -> None:
    global _requested, _since
    if _deferring and _requested is None:
        _requested, _since = number, time.monotonic()
    elif not _deferring or time.monotonic() - _since > TWICE:
        raise _stop(number)


@contextlib.contextmanager
def catching() -> Iterator[None]:
    """Turn the two signals into `Interrupted`, inside the `with` block (main thread only; elsewhere nothing changes)."""
    global _requested
    _requested = None
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferring() -> Iterator[None]:
    """Inside the `with` block a first signal only sets a flag that `raise_if_requested` reads; a second one stops at once."""
    global _deferring
    _deferring = True
    try:
        yield
    finally:
        _deferring = False


def requested() -> int:
    """The signal that is waiting for a good moment, 0 if there is none."""
    return _requested or 0


def raise_if_requested(number: int | None = None) -> None:
    """Stop now if a signal came (here, or the one of this number to another process): called where everything is saved."""
    if number or requested():
        raise _stop(number or requested())

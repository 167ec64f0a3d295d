"""Ctrl-C and SIGTERM: work that can save itself finishes its step first, everything else stops at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from treino.errors import Interrupted
from treino.messages import N_

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_requested: int | None = None
_deferring = False


def _stop(number: int) -> Interrupted:
    return Interrupted(
        N_("stopped; what was finished is kept: the same command goes on from there"), exit_code=128 + number
    )


def _handle(number: int, frame: FrameType | None) -> None:
    global _requested
    if _deferring and _requested is None:
        _requested = number
    else:
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


def requested() -> bool:
    """Whether a signal is waiting for a good moment."""
    return _requested is not None


def raise_if_requested() -> None:
    """Stop now if a signal came: called where everything is saved."""
    if _requested is not None:
        raise _stop(_requested)

"""The one stream of what happens: ids and values, no language.

Library code calls `emit`; the terminal, `events.jsonl`, the report and the page listen. `TEXTS` maps each kind of event
to the English template that a terminal shows for it (empty: shown in another form, or not at all).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from treino.messages import N_, Message

SCHEMA = 1

TEXTS: dict[str, str] = {
    "run.started": N_("run {run} of recipe {recipe} in {folder}"),
    "run.finished": N_("finished in {seconds:seconds}: {ran:raw} stages ran, {cached:raw} were ready"),
    "stage.started": "",
    "stage.cached": "",
    "stage.finished": "",
    "stage.waiting": N_("{stage}: another process is making the same artefact; waiting for it"),
    "stage.resumed": N_("{stage}: going on where an interrupted run stopped"),
    "stage.forecast": N_("  about {seconds:seconds} for {bytes:bytes} of text, by what its beginning took"),
    "progress": "",
    "forecast": "",
    "forecast.measured": "",
    "decision": N_("decided and locked: {where} = {value} ({reason})"),
    "warning.damaged": N_("{path} is damaged ({reason}); it was set aside as {aside} and is made again"),
    "warning.lock_differs": N_(
        "this machine differs from the one of the lock in {what}: the result may differ in its last digits"
    ),
    "warning.set_aside": N_(
        "rows or files that could not be used and were set aside: {count}; the first: {first} ({reason})"
    ),
    "note.nothing_held_out": N_(
        "{documents} texts were learnt and none was held out. That shows that the training works: the loss falls because the "
        "model memorises them. It cannot show what the model would make of another text."
    ),
    "note.words": N_(
        "Words that are not among them are all one unknown token. Words are numbered by how often they occur; a program "
        "that numbers them in the order of a set gets another model in every process."
    ),
    "note.unknown_words": N_(
        "{share:percent} of the words of the labelled texts were not in the pretraining's text: to the model they are all the "
        "same word. What tells the classes apart may be among them, so look at the test rows before you believe the training "
        "rows."
    ),
    "kernels.building": N_("compiling the processor's own kernels, once for this machine …"),
    "kernels.built": N_("compiled in {seconds:seconds}"),
    "warning.kernels_missing": N_(
        "the own kernels could not be compiled ({reason}); training goes on without them, slower"
    ),
    "compile.started": N_("compiling the training step: about a minute now, faster steps afterwards"),
    "warning.compile_failed": N_("the training step could not be compiled ({reason}); it runs as it is"),
    "warning.flex_failed": N_(
        "flex attention does not work here ({reason}); packed documents are kept apart by a mask"
    ),
    "train.started": "",
    "train.step": "",
    "train.validation": "",
    "train.sample": "",
    "train.checkpoint": "",
    "warning.checkpoint_damaged": N_("checkpoint {checkpoint} is damaged ({reason}); going on from the one before it"),
    "warning.step_skipped": N_("step {step:raw} gave a loss or a gradient that is no number; it was not taken {path}"),
    "warning.loss_leapt": N_("the loss leapt from {before:3} to {loss:3} at step {step:raw} {path}"),
    "finetune.started": "",
    "finetune.merged": N_("  adapters merged into the weights; the largest change of a logit by it: {difference:2}"),
    "pilot.point": N_("  {rows} rows: macro-F1 {macro_f1:3} on validation in {seconds:seconds}"),
    "chat.started": "",
    "chat.rows": "",
    "compare.method": N_("method {method} ({number} of {methods})"),
    "lab.forecast": N_("the lab should take {seconds:seconds}: {jobs} seeds, {processes} at once"),
    "remote.forecast": N_(
        "  {requests} requests to {model} at {address}, about {tokens_in} tokens to read and at most {tokens_out} to write: "
        "US$ {cost:4} of the US$ {limit:4} that remote.limit allows; {known} are answered already"
    ),
    "remote.leaving": N_(
        "  {texts} texts ({bytes:bytes}) leave this machine for {address}; personal data masked in them: {masked}"
    ),
    "remote.local": N_(
        "  {texts} texts ({bytes:bytes}) go to {address}, a server on this machine; personal data masked in them: {masked}"
    ),
    "remote.preview": N_("  to be sent:\n{said}"),
    "remote.trial": N_("  with {shots} examples of each class"),
    "warning.old_price": N_("the price of {model} in the table is of {date}: check it, or set remote.price"),
    "search.trial": "",
    "search.ran_away": N_("  this trial is given up: {reason}"),
    "search.judged": "",
    "train.resumed": N_("going on from the checkpoint at step {step:raw}"),
}


@dataclass(frozen=True)
class Event:
    """One thing that happened: its kind (a key of `TEXTS`), when (seconds since the epoch) and its values."""

    kind: str
    time: float
    values: dict[str, Any]


Listener = Callable[[Event], None]
_listeners: list[Listener] = []
_last_progress: dict[str, float] = {}


def emit(kind: str, **values: Any) -> None:
    """Tell everyone who listens that something happened. An unknown kind is a bug."""
    if kind not in TEXTS:
        raise KeyError(f"unknown kind of event: {kind}")
    plain = {name: value.plain() if isinstance(value, Message) else value for name, value in values.items()}
    event = Event(kind, time.time(), plain)
    for listener in tuple(_listeners):
        listener(event)


def progress(what: str, done: float, total: float | None, unit: str) -> None:
    """Say how far a long loop has come; at most five times a second, and always at its end."""
    now = time.monotonic()
    if done != total and now - _last_progress.get(what, 0.0) < 0.2:
        return
    _last_progress[what] = now
    emit("progress", what=what, done=done, total=total, unit=unit)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Nobody hears what happens inside the `with` block."""
    heard, _listeners[:] = list(_listeners), []
    try:
        yield
    finally:
        _listeners[:] = heard


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear every event inside the `with` block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)

"""The planner's questions the other way round: what would fit at most, and which changes would make a training fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from treino.planning.memory import memory
from treino.planning.model import of_size
from treino.planning.parameters import Architecture
from treino.planning.work import Work


def largest(shape: Architecture, work: Work, room: float) -> dict[str, float]:
    """The most rows, the longest row and the largest model (of Llama's proportions) that fit, each alone; 0: none does."""

    def fits(changed: Work) -> bool:
        return memory(shape, changed)["total"] <= room

    return {
        "batch": _most(lambda rows: fits(replace(work, batch=rows)), 1 << 20),
        "context": _most(lambda tokens: fits(replace(work, context=tokens)), 1 << 24),
        "parameters": 1e6
        * _most(lambda millions: memory(of_size(millions * 1e6).architecture, work)["total"] <= room, 1 << 23),
    }


REMEDIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--recompute", {"recompute": True}),
    ("--shard weights", {"shard": "weights"}),
    ("--optimizer adamw8bit", {"optimiser": "adamw8bit"}),
    ("--offload optimiser", {"offload": frozenset({"optimiser"})}),
    ("--precision bf16", {"precision": "pure"}),
    ("--method lora", {"method": "lora"}),
    ("--method qlora", {"method": "qlora"}),
    ("--stream", {"stream": True}),
)
"""Changes that save memory, the gentlest first: what is slower before what trains less."""


def remedies(shape: Architecture, work: Work, room: float) -> tuple[str, ...]:
    """At most three options, each of which alone makes the training fit; if there is none, the first few that do together,
    one row at a time; none if nothing helps.
    """
    alone = [
        name
        for name, change in REMEDIES
        if _can(name, change, work) and memory(shape, _with(work, change))["total"] <= room
    ]
    if alone:
        return tuple(alone[:3])
    together, names = replace(work, batch=1), [] if work.batch == 1 else ["--batch 1"]
    for name, change in REMEDIES:
        if not _can(name, change, together):
            continue
        if name.startswith("--method") and names and names[-1].startswith("--method"):
            names.pop()
        names.append(name)
        together = _with(together, change)
        if memory(shape, together)["total"] <= room:
            return (" ".join(names),)
    return ()


def _with(work: Work, change: dict[str, Any]) -> Work:
    """The work with a change; what is offloaded already stays so."""
    return replace(
        work, **{name: work.offload | value if name == "offload" else value for name, value in change.items()}
    )


def _can(name: str, change: dict[str, Any], work: Work) -> bool:
    """Whether a change makes sense here, and is not there already."""
    if name == "--shard weights" and work.ranks == 1:
        return False
    if name.startswith("--method") and work.method in ("scratch", "qlora"):
        return False
    if name == "--stream" and work.method not in ("lora", "qlora", "frozen"):
        return False
    return _with(work, change) != work


def _most(fits: Callable[[int], bool], limit: int) -> int:
    """The largest whole number up to `limit` that fits, 0 if 1 does not; what fits must fit for all smaller numbers."""
    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 256):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return min(low, limit)

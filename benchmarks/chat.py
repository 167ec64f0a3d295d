"""Chat tuning beside TRL's SFTTrainer: tokens per second that are no padding, in pairs, on shape M in bfloat16.

    python benchmarks/chat.py --peer-python PATH --only best                 a search of TRL's best settings, then its pairs
    python benchmarks/chat.py --peer-python PATH --only defaults packing     the other comparisons
    python benchmarks/chat.py --peer-python PATH --best NAME --record        all, with settings that are known; into RESULTS.md

Conversations of random ids, lengths log-normal with mean 59 and at most 256 tokens; the second half of each is learnt, here
and there. TRL's settings are its defaults, the defaults with packing, and the fastest of a search: rows padded, rows of like
length, or packed, more of them at a time, nothing computed twice, compiled; documents are isolated everywhere (checked). PATH
is an interpreter that has trl.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import pairs
import results
from contenders.shapes import SHAPES

SEED, SHAPE = 20, "M"
CONVERSATIONS, MEAN, SPREAD, LONGEST = 6000, 59, 0.75, 256
COLUMNS = ("beside", "Treino", "ratio [90 %]", "rates", "bar (aim)", "met", "pairs", "when, with")

NARROW = {"bf16": True, "gradient_checkpointing": False, "max_length": LONGEST}
DEFAULTS: dict[str, dict[str, Any]] = {"defaults": {}, "packing": {"packing": True}}
SEARCHED: dict[str, dict[str, Any]] = {
    "rows-8": NARROW | {"per_device_train_batch_size": 8},
    "rows-32": NARROW | {"per_device_train_batch_size": 32},
    "sorted-32": NARROW | {"per_device_train_batch_size": 32, "train_sampling_strategy": "group_by_length"},
    "sorted-64": NARROW | {"per_device_train_batch_size": 64, "train_sampling_strategy": "group_by_length"},
    "free-16": NARROW | {"per_device_train_batch_size": 16, "padding_free": True, "max_length": None},
    "packed-2": NARROW | {"per_device_train_batch_size": 2, "packing": True},
    "packed-8": NARROW | {"per_device_train_batch_size": 8, "packing": True},
    "sorted-32-compiled": NARROW
    | {"per_device_train_batch_size": 32, "train_sampling_strategy": "group_by_length", "torch_compile": True},
    "packed-2-compiled": NARROW | {"per_device_train_batch_size": 2, "packing": True, "torch_compile": True},
}
TITLES = {"defaults": "TRL, defaults", "packing": "TRL, packing = True"}
BARS = {"defaults": (6.0, 9.0), "best": (1.3, 2.0)}
STEPS = {"defaults": 3, "packing": 1}
"""Steps of a timed turn of TRL's; the searched ones take as many as `turn_of` says."""

TURN_TOKENS = 4000
"""Tokens of a timed turn, about, of the searched settings; ours takes twice as many, in less time."""


def write_conversations(folder: Path) -> Path:
    """Ids from 2 on behind a first one (0), lengths log-normal; the second half of each is learnt."""
    draw = np.random.default_rng(SEED)
    middle = np.log(MEAN) - SPREAD**2 / 2
    lengths = np.clip(np.rint(draw.lognormal(middle, SPREAD, CONVERSATIONS)), 8, LONGEST).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = draw.integers(2, SHAPES[SHAPE].vocabulary, offsets[-1])
    tokens[offsets[:-1]] = 0
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    for name, values in (
        ("tokens", tokens.astype(np.int64)),
        ("offsets", offsets),
        ("supervised", place >= np.repeat(lengths, lengths) // 2),
    ):
        np.save(folder / f"{name}.npy", values)
    say(f"{CONVERSATIONS} conversations, mean {lengths.mean():.1f}, longest {lengths.max()} tokens")
    return folder


class Stand:
    """Where contenders are started: the peers' interpreter and the data."""

    def __init__(self, options: argparse.Namespace, data: Path) -> None:
        self.options, self.data = options, data
        self.found = pairs.packages(options.peer_python, ["trl", "transformers", "datasets", "torch"])

    def ours(self) -> pairs.Worker:
        return pairs.Worker(sys.executable, "own_chat", SHAPE, str(self.data), "{}")

    def theirs(self, name: str) -> pairs.Worker:
        settings = (DEFAULTS | SEARCHED)[name]
        return pairs.Worker(self.options.peer_python, "sft", SHAPE, str(self.data), json.dumps(settings))

    def conditions(self, worker: pairs.Worker) -> str:
        """Date, threads, machine and versions, for a row of the records."""
        versions = [f"{name} {self.found[name]}" for name in ("trl", "transformers")]
        where = f"{datetime.date.today()}, {worker.facts['threads']} threads, {pairs.machine()}"
        return ", ".join([where, f"torch {worker.facts['torch'].partition('+')[0]}", *versions])


def turn_of(name: str) -> int:
    """Steps of a timed turn."""
    if name in STEPS:
        return STEPS[name]
    settings = SEARCHED[name]
    row = 240 if settings.get("packing") else MEAN
    return max(1, TURN_TOKENS // (settings["per_device_train_batch_size"] * row))


def search(stand: Stand) -> str:
    """The fastest of TRL's settings by one timed turn each, after a turn of warm-up."""
    rates: dict[str, float] = {}
    for name in SEARCHED:
        try:
            with stand.theirs(name) as worker:
                worker.take(max(2, turn_of(name) // 2))
                rates[name] = worker.take(turn_of(name))["rate"]
            say(f"{name}: {rates[name]:,.0f} tokens/s")
        except pairs.Failed as failure:
            say(f"{name}: no figure\n{failure}")
    return max(rates, key=rates.__getitem__)


def compare(stand: Stand, ours: pairs.Worker, name: str, count: int) -> dict[str, Any]:
    """Pairs of turns, ours beside TRL's under the settings of this name."""
    with stand.theirs(name) as theirs:
        assert ours.facts["threads"] == theirs.facts["threads"], "both must use as many threads"
        rates = alternate(ours, theirs, turn_of(name), count)
    ratio = pairs.ratio_interval(rates)
    bar, aim = BARS.get(name if name in DEFAULTS else "best", (None, None))
    met = None if bar is None else ratio.low >= bar
    title = TITLES.get(name, f"TRL, best of the search: {name}")
    row = [
        *(title, "packed, bfloat16", str(ratio), f"{ratio.first:,.0f} : {ratio.second:,.0f} tokens/s"),
        *("–" if bar is None else f"{bar:g} ({aim:g})", "–" if met is None else "yes" if met else "**no**"),
        *(str(ratio.pairs), stand.conditions(ours)),
    ]
    return {"name": name, "rates": rates, "met": met, "row": row}


def alternate(ours: pairs.Worker, theirs: pairs.Worker, steps: int, count: int) -> list[tuple[float, float]]:
    """As `pairs.alternate`, where a step of one is not a step of the other."""
    return pairs.alternate(ours, theirs, count, steps=2, other_steps=steps, warm_up=steps)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer-python", required=True, help="interpreter that has trl")
    parser.add_argument("--best", choices=SEARCHED, help="TRL's best settings, where the search has named them already")
    parser.add_argument("--only", nargs="+", choices=("defaults", "packing", "best"), help="only these comparisons")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of turns of each comparison (5)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--record", action="store_true", help="put the rows into RESULTS.md")
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        stand = Stand(options, write_conversations(Path(folder)))
        wanted = options.only or ["defaults", "packing", "best"]
        best = options.best or (search(stand) if "best" in wanted else "")
        with stand.ours() as ours:
            for name in wanted:
                found.append(compare(stand, ours, best if name == "best" else name, options.pairs))
                print(" | ".join(found[-1]["row"]), flush=True)
                if options.record:
                    results.record("chat tuning", COLUMNS, [found[-1]["row"]], keys=1)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(any(entry["met"] is False for entry in found))


if __name__ == "__main__":
    raise SystemExit(main())

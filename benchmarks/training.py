"""Training beside its peers: tokens per second in pairs, share of the machine's matrix products, agreement of losses.

    python benchmarks/training.py                                all parts
    python benchmarks/training.py S peak --pairs 9               only these
    python benchmarks/training.py M --against hf-compile         only this peer
    python benchmarks/training.py S --peer-python PATH --record  peers of another environment; into RESULTS.md

Parts: `S` and `M` (Transformers), `lstm`, `lora` and `qlora` (adapters of rank 16 on every linear layer of M), `peak` (share of
the fastest matrix product), `loss` (`loss-S` and `loss-M`: fifty steps in bfloat16 against float32, here and in the Trainer).
The peers are the extra `bench`. A bar is met when the lower end of the interval reaches it. All train on equal rows, with
gradients limited to length 1; peers with AdamW, Treino with AdamW and with Muon, which a fresh Transformer starts with.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

import pairs
import results
from contenders import own
from contenders.shapes import SHAPES, Shape
from treino.corpus.world.documents import documents
from treino.planning.flops import training_flops_per_token
from treino.recipe import TokenSettings, WorldSettings
from treino.tokens.tokenizer import train_tokenizer

SEED = 20
LOSS_STEPS = 50
SPEED_ROWS = 1024
LARGEST_MEAN_DIFFERENCE = 0.005
SPEED_COLUMNS = ("shape", "beside", "Treino", "ratio [90 %]", "rates", "bar (aim)", "met", "pairs", "when, with")
LOSS_COLUMNS = ("shape", "rate", "who", "mean", "largest", "first → last loss", "bar", "met", "when, with")


@dataclass(frozen=True)
class Contender:
    """Who trains: a module of `contenders` and its keywords; `needs`: packages, which peers may have elsewhere."""

    title: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


TRANSFORMERS = ("transformers", "accelerate")
PEFT = (*TRANSFORMERS, "peft")
CONTENDERS = {
    "float32": Contender("Treino, float32", "own", {"precision": "float32"}),
    "bfloat16": Contender("Treino, bfloat16", "own", {"precision": "bfloat16"}),
    "muon": Contender("Treino, bfloat16, Muon", "own", {"precision": "bfloat16", "optimiser": "muon"}),
    "moved": Contender("Treino, float32 moved", "own", {"precision": "float32", "moved": 1e-6}),
    "hf": Contender("HF Trainer, defaults (float32)", "huggingface", {}, TRANSFORMERS),
    "hf-bf16": Contender("HF Trainer, bf16", "huggingface", {"bf16": True}, TRANSFORMERS),
    "hf-compile": Contender(
        "HF Trainer, bf16, torch_compile", "huggingface", {"bf16": True, "torch_compile": True}, TRANSFORMERS
    ),
    "lora": Contender("Treino, LoRA", "own", {"precision": "bfloat16", "adapters": "lora"}),
    "qlora": Contender("Treino, QLoRA", "own", {"precision": "bfloat16", "adapters": "qlora"}),
    "peft": Contender("PEFT, bf16", "huggingface", {"bf16": True, "adapters": "float32"}, PEFT),
    "peft-narrow": Contender("PEFT, bf16 weights", "huggingface", {"bf16": True, "adapters": "bfloat16"}, PEFT),
    "peft-compile": Contender(
        "PEFT, bf16 weights, torch_compile",
        "huggingface",
        {"bf16": True, "torch_compile": True, "adapters": "bfloat16"},
        PEFT,
    ),
    "peft-nf4": Contender(
        "PEFT, bitsandbytes NF4, bf16", "huggingface", {"bf16": True, "adapters": "nf4"}, (*PEFT, "bitsandbytes")
    ),
    "litgpt": Contender("LitGPT, bf16, compiled", "lightning_gpt", {}, ("litgpt",)),
    "plain": Contender("plain torch, float32", "plain_lstm"),
    "products": Contender("fastest bf16 product", "products"),
}


@dataclass(frozen=True)
class Comparison:
    """Two contenders on a shape; `bar` is what the interval's lower end must reach, `aim` what is hoped for."""

    part: str
    shape: str
    ours: str
    theirs: str
    bar: float | None = None
    aim: float | None = None


COMPARISONS = (
    Comparison("S", "S", "bfloat16", "hf", 2.3, 3.0),
    Comparison("S", "S", "bfloat16", "hf-bf16"),
    Comparison("S", "S", "bfloat16", "hf-compile", 1.2, 1.4),
    Comparison("S", "S", "bfloat16", "litgpt", 1.1, 1.3),
    Comparison("S", "S", "muon", "hf", 2.3, 3.0),
    Comparison("S", "S", "muon", "hf-compile", 1.2, 1.4),
    Comparison("S", "S", "muon", "litgpt", 1.1, 1.3),
    Comparison("M", "M", "bfloat16", "hf", 2.5, 3.0),
    Comparison("M", "M", "bfloat16", "hf-bf16"),
    Comparison("M", "M", "bfloat16", "hf-compile", 1.25, 1.5),
    Comparison("M", "M", "muon", "hf", 2.5, 3.0),
    Comparison("M", "M", "muon", "hf-compile", 1.25, 1.5),
    Comparison("lstm", "lstm", "float32", "plain"),
    Comparison("lstm", "lstm", "bfloat16", "plain", 2.3, 4.0),
    Comparison("lora", "M", "lora", "peft", 1.7, 2.2),
    Comparison("lora", "M", "lora", "peft-narrow"),
    Comparison("lora", "M", "lora", "peft-compile", 1.3, 1.7),
    Comparison("lora", "M", "lora", "bfloat16"),
    Comparison("qlora", "M", "qlora", "peft-nf4", 1.65, 2.2),
    Comparison("qlora", "M", "qlora", "lora", 0.95, 1.0),
    Comparison("peak", "S", "bfloat16", "products"),
    Comparison("peak", "M", "bfloat16", "products", 0.70, 0.85),
    Comparison("peak", "M", "muon", "products"),
)
LOSS_PARTS = {"loss-S": "S", "loss-M": "M"}
PARTS = tuple(dict.fromkeys([comparison.part for comparison in COMPARISONS])) + tuple(LOSS_PARTS)
GROUPS = {"loss": tuple(LOSS_PARTS)}


class Stand:
    """Where contenders are started: the two interpreters, the data, and the parts that were asked for."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder, self.failed = options, folder, False
        self.peers = options.peer_python or sys.executable
        wanted = sorted({name for contender in CONTENDERS.values() for name in contender.needs})
        self.found = pairs.packages(self.peers, [*wanted, "torch"])
        for name in set(wanted) - set(self.found):
            say(f"{self.peers} cannot import {name}: its contenders are left out")

    def can(self, name: str) -> bool:
        return all(package in self.found for package in CONTENDERS[name].needs)

    def start(self, name: str, shape: str, data: Path, schedule: dict[str, Any] | None = None) -> pairs.Worker:
        """The contender's process; those of packages run in the peers' interpreter."""
        contender = CONTENDERS[name]
        python = self.peers if contender.needs else sys.executable
        options = contender.options | (schedule or {})
        return pairs.Worker(python, contender.module, shape, str(data), json.dumps(options))

    def conditions(self, name: str, worker: pairs.Worker) -> str:
        """Date, threads, machine and versions, for a row of the records."""
        versions = [f"{package} {self.found[package]}" for package in CONTENDERS[name].needs]
        ours = f"torch {worker.facts['torch'].partition('+')[0]}"
        theirs = self.found.get("torch", ours).partition("+")[0]
        if versions and theirs not in ours:
            versions.append(f"its torch {theirs}")
        where = f"{datetime.date.today()}, {worker.facts['threads']} threads, {pairs.machine()}"
        return ", ".join([where, ours, *versions])


def random_rows(shape: Shape, folder: Path) -> Path:
    """Documents of random ids, each as long as the context: every contender sees the same full causal rows."""
    draw = np.random.default_rng(SEED)
    tokens = draw.integers(1, shape.vocabulary, (SPEED_ROWS, shape.context))
    tokens[:, -1] = 0
    return _write(shape, tokens.ravel(), np.arange(SPEED_ROWS + 1) * shape.context, folder)


def text_rows(shape: Shape, folder: Path, source: Path | None) -> Path:
    """The texts of a folder, or else the embedded town's, packed as in training, for as many steps as losses are compared."""
    needed = (LOSS_STEPS + 5) * shape.tokens
    if source:
        texts = [path.read_text(encoding="utf-8") for path in sorted(source.rglob("*.txt"))]
    else:
        texts = [item.text for item in documents(WorldSettings(documents=needed // 30), SEED)]
    tokenizer = train_tokenizer(iter(texts), TokenSettings(vocabulary=shape.vocabulary))
    pieces = [[*ids, tokenizer.end_of_text] for ids in tokenizer.encode_batch(texts)]
    assert tokenizer.end_of_text == 0, "the rows' source reads it as 0"
    offsets = np.cumsum([0, *map(len, pieces)])
    assert offsets[-1] > needed, f"{offsets[-1]} tokens are not enough for {needed}"
    path = _write(shape, np.concatenate(pieces), offsets, folder)
    save_file(
        {name: value.detach() for name, value in own.model(shape).named_parameters()}, path / "weights.safetensors"
    )
    return path


def _write(shape: Shape, tokens: np.ndarray, offsets: np.ndarray, folder: Path) -> Path:
    """A shard as Treino reads it, and the rows that Treino makes of it as others read them: ids and unshifted labels."""
    folder.mkdir(parents=True)
    np.save(folder / "tokens.npy", tokens.astype(np.int32))
    np.save(folder / "offsets.npy", offsets.astype(np.int64))
    source = own.source(shape, folder)
    steps = source.rows.rows_in_epoch(0) // shape.rows
    batches = [source.step(step)[0] for step in range(steps)]
    ids, targets = (np.concatenate([getattr(batch, name) for batch in batches]) for name in ("ids", "targets"))
    labels = np.full_like(targets, -100)
    labels[:, 1:] = targets[:, :-1]
    np.save(folder / "ids.npy", ids)
    np.save(folder / "labels.npy", labels)
    return folder


def compare(stand: Stand, part: str) -> Iterator[dict[str, Any]]:
    """The comparisons of a part, one after the other; Treino's process stays while those of the peers come and go."""
    chosen = [one for one in COMPARISONS if one.part == part and stand.can(one.theirs)]
    chosen = [one for one in chosen if one.theirs in (stand.options.against or CONTENDERS)]
    chosen = [one for one in chosen if one.ours in (stand.options.ours or CONTENDERS)]
    data = {name: random_rows(SHAPES[name], stand.folder / part / name) for name in {one.shape for one in chosen}}
    with contextlib.ExitStack() as stack:
        started: dict[tuple[str, str], pairs.Worker] = {}
        for one in chosen:
            key = (one.ours, one.shape)
            if key not in started:
                started[key] = stack.enter_context(stand.start(*key, data[one.shape]))
            try:
                with stand.start(one.theirs, one.shape, data[one.shape]) as peer:
                    yield measured(stand, one, started[key], peer)
            except pairs.Failed as failure:
                say(f"{one.shape}, {CONTENDERS[one.theirs].title}: no figure\n{failure}")
                stand.failed = True


def measured(stand: Stand, one: Comparison, ours: pairs.Worker, theirs: pairs.Worker) -> dict[str, Any]:
    """Pairs of turns of a comparison; beside matrix products, rates are FLOP/s and the ratio is the share of them."""
    assert ours.facts["threads"] == theirs.facts["threads"], "both must use as many threads"
    shape = SHAPES[one.shape]
    products = one.theirs == "products"
    scale, unit, digits = (flops_per_token(shape), "GFLOP/s", 1e-9) if products else (1.0, "tokens/s", 1.0)
    rates = pairs.alternate(ours, theirs, stand.options.pairs, shape.steps)
    ratio = pairs.ratio_interval([(scale * mine, other) for mine, other in rates])
    met = None if one.bar is None else ratio.low >= one.bar
    row = [
        *(one.shape, CONTENDERS[one.theirs].title, CONTENDERS[one.ours].title.removeprefix("Treino, "), str(ratio)),
        f"{digits * ratio.first:,.0f} : {digits * ratio.second:,.0f} {unit}",
        *("–" if one.bar is None else f"{one.bar:g} ({one.aim:g})", verdict(met), str(ratio.pairs)),
        stand.conditions(one.theirs, ours),
    ]
    return {**asdict(one), **asdict(ratio), "met": met, "rates": rates, "row": row}


def flops_per_token(shape: Shape) -> float:
    """FLOPs that a token costs, of attention the causal half that is needed."""
    parts = training_flops_per_token(own.settings(shape), shape.vocabulary, shape.context)
    return parts["total"] - parts["attention"] / 2


def agree(stand: Stand, part: str) -> Iterator[dict[str, Any]]:
    """Losses of the first steps in bfloat16 against those in float32: Treino's, and the Trainer's from the same weights; and
    float32's own with its first weights moved by a millionth. At the start of 2,000 steps by the default recipe (Muon, rate
    from the width, 100 steps of warm-up), the same by AdamW, and gently; the Trainer has AdamW.
    """
    name = LOSS_PARTS[part]
    data = text_rows(SHAPES[name], stand.folder / part, stand.options.texts)
    default = round(4e-3 * (128 / SHAPES[name].width) ** 0.5, 6)
    for title, schedule in (
        ("default recipe", {"rate": default, "warm_up": 100, "optimiser": "muon"}),
        ("the same, AdamW", {"rate": default, "warm_up": 100}),
        ("gentle", {"rate": 3e-4, "warm_up": 10}),
    ):
        runs = {"HF Trainer, bf16": ("hf", "hf-bf16")} if stand.can("hf") else {}
        runs |= {"Treino, bfloat16": ("float32", "bfloat16"), "Treino, float32 moved": ("float32", "moved")}
        known: dict[str, list[float]] = {}
        largest = None
        for who, (exact, narrow) in runs.items():
            found = differences(stand, name, data, exact, narrow, schedule, known)
            met, bar = None, "–"
            if who == "Treino, bfloat16" and largest is not None:
                met = found["mean"] <= LARGEST_MEAN_DIFFERENCE and found["largest"] <= largest
                bar = f"mean ≤ {LARGEST_MEAN_DIFFERENCE:g}, largest ≤ the Trainer's"
            largest = largest or found["largest"]
            row = [name, title, who, f"{found['mean']:.5f}", f"{found['largest']:.5f}"]
            row += [f"{found['first']:.3f} → {found['last']:.3f}", bar, verdict(met), found["conditions"]]
            yield {"part": part, "schedule": title, "title": who, **found, "met": met, "row": row}


def differences(
    stand: Stand,
    shape: str,
    data: Path,
    exact: str,
    narrow: str,
    schedule: dict[str, Any],
    known: dict[str, list[float]],
) -> dict[str, Any]:
    """Mean and largest |loss in bfloat16 − loss in float32| over the steps; both start from equal weights."""
    conditions = ""
    for name in (exact, narrow):
        if name not in known:
            asked = {key: value for key, value in schedule.items() if key != "optimiser" or not name.startswith("hf")}
            with stand.start(name, shape, data, asked) as worker:
                known[name] = worker.take(LOSS_STEPS)["losses"]
                conditions = stand.conditions(name, worker)
    losses = known[exact], known[narrow]
    apart = [abs(one - other) for one, other in zip(*losses, strict=True)]
    return {
        "mean": statistics.fmean(apart),
        "largest": max(apart),
        "first": losses[0][0],
        "last": losses[0][-1],
        "losses": losses,
        "conditions": conditions,
    }


def verdict(met: bool | None) -> str:
    return "–" if met is None else "yes" if met else "**no**"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"any of {', '.join((*PARTS, *GROUPS))}; all by default"
    )
    parser.add_argument("--pairs", type=int, default=7, help="pairs of turns of each comparison (7)")
    names = sorted({one.theirs for one in COMPARISONS})
    parser.add_argument("--against", nargs="+", choices=names, metavar="PEER", help=f"only these of {', '.join(names)}")
    ours = sorted({one.ours for one in COMPARISONS})
    parser.add_argument("--ours", nargs="+", choices=ours, metavar="WAY", help=f"only these of {', '.join(ours)}")
    parser.add_argument("--texts", type=Path, help="folder of texts for the losses; the embedded town by default")
    parser.add_argument("--peer-python", help="interpreter that has the peers; this one by default")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--record", action="store_true", help="put the rows into RESULTS.md")
    options = parser.parse_args(words)
    unknown = set(options.parts) - {*PARTS, *GROUPS}
    if unknown or options.pairs < 2:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}" if unknown else "--pairs must be 2 or more")
    named = [name for part in options.parts for name in GROUPS.get(part, (part,))]
    options.parts = list(dict.fromkeys(named)) or list(PARTS)
    return options


def main() -> int:
    options = parse()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        stand = Stand(options, Path(folder))
        for part in options.parts:
            work: Callable[[Stand, str], Iterator[dict[str, Any]]] = agree if part in LOSS_PARTS else compare
            table = ("training losses", LOSS_COLUMNS) if part in LOSS_PARTS else ("training speed", SPEED_COLUMNS)
            for entry in work(stand, part):
                found.append(entry)
                print(" | ".join(entry["row"]), flush=True)
                if options.record:
                    results.record(*table, [entry["row"]], keys=3)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(stand.failed or any(entry["met"] is False for entry in found))


if __name__ == "__main__":
    raise SystemExit(main())

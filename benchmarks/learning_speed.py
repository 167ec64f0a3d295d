"""Time to a loss on real text by optimiser and schedule: what the defaults of pretraining are chosen by.

    python benchmarks/learning_speed.py FOLDER [--width 128 --layers 4 --context 256 --batch 4] [--steps 2000] [--seeds 3]

FOLDER holds texts (*.txt), say the works of Machado de Assis. By their names' hashes a tenth of them judges the learning
rates, another tenth judges the contenders, and the rest is learnt from, in tokens of a BPE that was trained on it alone.
(`--only rates` shows that choice alone, as the mean over the seeds; `--contenders` names some.)

Contenders are AdamW and Muon under a cosine and under warm-up–stable–decay. Each takes the rate, of `RATES` times the
default one, with the lowest loss on the first tenth after `SHORT` of the steps; then it trains over `LENGTHS` of the
steps, each a schedule of its own, with every seed. Reported by seed: the steps that a contender needs to the loss that AdamW
under a cosine ends with after all steps (straight line in the logarithms between its lengths; beyond them none), times the
seconds of a step, which are measured in turn on all threads (`--only speed`, on a machine that does nothing else), over the
seconds of the default; mean over seeds with Student's 95 % interval.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import math
import multiprocessing
import statistics
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from lowest_loss import Scene
from treino.evaluation.bootstrap import student_interval

CONTENDERS = {
    f"{optimiser} {schedule}": {"optimiser": optimiser, "schedule": schedule, "decay": decay, "final": final}
    for optimiser in ("adamw", "muon")
    for schedule, decay, final in (("cosine", 0.4, 0.05), ("wsd", 0.4, 0.05))
}
DEFAULT = "adamw cosine"
RATES = (0.5, 1.0, 2.0)
SHORT = 0.25
LENGTHS = (0.35, 0.5, 0.7, 1.0)
VOCABULARY = 4096


@cache
def texts(folder: Path) -> dict[str, list[int]]:
    """Ids to learn from ("learnt"), to choose rates by ("chosen") and to judge by ("judged")."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    parts: dict[str, list[str]] = {"learnt": [], "chosen": [], "judged": []}
    for path in sorted(folder.rglob("*.txt")):
        place = crc32(path.name.encode()) % 10
        part = {0: "chosen", 1: "judged"}.get(place, "learnt")
        parts[part].append(path.read_text(encoding="utf-8", errors="replace"))
    if not all(parts.values()):
        sys.exit(f"skipped: {folder} holds too few texts")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(parts["learnt"], trainer)
    return {
        name: [one for encoded in tokenizer.encode_batch(found) for one in encoded.ids] for name, found in parts.items()
    }


def final_loss(folder: Path, recipe: dict[str, Any], judged: str, seed: int) -> float:
    """Loss on `judged` after a whole training."""
    import torch

    ids = texts(folder)
    scene = Scene(ids["learnt"], ids[judged][: 2**15], VOCABULARY, recipe, seed)
    torch.set_num_threads(1)
    for step in range(recipe["steps"]):
        scene.take(step)
    return scene.look()


def seconds_a_step(folder: Path, shape: dict[str, Any], rounds: int = 7, turn: int = 20) -> dict[str, float]:
    """Median seconds of a step of each optimiser, in turns of some steps on all threads."""
    ids, scenes, taken = texts(folder), {}, {"adamw": [], "muon": []}
    for name in taken:
        recipe = {**shape, **CONTENDERS[f"{name} cosine"], "learning_rate": 1e-3, "steps": 10_000}
        scenes[name] = Scene(ids["learnt"], ids["judged"][: 2**13], VOCABULARY, recipe, seed=0)
    for again in range(rounds):
        for name, scene in scenes.items():
            begun = time.perf_counter()
            for step in range(turn):
                scene.take(turn * again + step)[0].item()
            taken[name].append((time.perf_counter() - begun) / turn)
    return {name: statistics.median(found[1:]) for name, found in taken.items()}


def processes(options: argparse.Namespace) -> concurrent.futures.Executor:
    """Processes that share the texts, which are tokenised before."""
    texts(options.folder)
    return concurrent.futures.ProcessPoolExecutor(options.processes, multiprocessing.get_context("fork"))


def chosen_rates(
    pool: concurrent.futures.Executor, options: argparse.Namespace, shape: dict[str, Any]
) -> dict[str, float]:
    """The best rate of each contender on the texts that choose."""
    default = 4e-3 * (128 / options.width) ** 0.5
    seeds = range(options.seeds) if options.only == "rates" else (0,)
    tries = {
        (name, share * default): [
            pool.submit(
                final_loss,
                options.folder,
                {**shape, **CONTENDERS[name], "learning_rate": share * default, "steps": round(SHORT * options.steps)},
                "chosen",
                seed,
            )
            for seed in seeds
        ]
        for name in options.contenders
        for share in RATES
    }
    losses = {}
    for (name, rate), jobs in tries.items():
        found = [job.result() for job in jobs]
        losses[name, rate] = statistics.fmean(found)
        say(f"{name} at {rate:.2g}: {losses[name, rate]:.4f}  {' '.join(f'{loss:.4f}' for loss in found)}")
    return {
        name: min((loss, rate) for (one, rate), loss in losses.items() if one == name)[1] for name in options.contenders
    }


def measure(options: argparse.Namespace, shape: dict[str, Any]) -> dict[str, Any]:
    with processes(options) as pool:
        rates = chosen_rates(pool, options, shape)
        jobs = {
            (name, share, seed): pool.submit(
                final_loss,
                options.folder,
                {**shape, **contender, "learning_rate": rates[name], "steps": round(share * options.steps)},
                "judged",
                seed,
            )
            for seed in range(1, options.seeds + 1)
            for name, contender in CONTENDERS.items()
            for share in LENGTHS
            if name != DEFAULT or share == 1.0
        }
        losses = {}
        for key, job in jobs.items():
            losses[key] = job.result()
            say(f"{key[0]}, {key[1]:g} of the steps, seed {key[2]}: {losses[key]:.4f}")
    return {
        "rates": rates,
        "losses": [
            {"contender": key[0], "share": key[1], "seed": key[2], "loss": loss} for key, loss in losses.items()
        ],
        "steps": {name: _needed(losses, name, options.seeds) for name in CONTENDERS},
    }


def _needed(losses: dict[tuple[str, float, int], float], name: str, seeds: int) -> list[float | None]:
    """By seed, the share of the steps after which a contender is where the default is after all of them."""
    if name == DEFAULT:
        return [1.0] * seeds
    return [
        _crossing([(share, losses[name, share, seed]) for share in LENGTHS], losses[DEFAULT, 1.0, seed])
        for seed in range(1, seeds + 1)
    ]


def _crossing(points: list[tuple[float, float]], target: float) -> float | None:
    """Where losses that fall with the length reach the target, by a line in the logarithms; `None` where they do not."""
    if points[0][1] <= target:
        return points[0][0]
    for (before, high), (after, low) in itertools.pairwise(points):
        if low <= target < high:
            share = (math.log(high) - math.log(target)) / (math.log(high) - math.log(low))
            return before * (after / before) ** share
    return None


def lines(found: dict[str, Any], seconds: dict[str, float]) -> list[str]:
    """A row for each contender: its rate, its loss at the end, steps and time over the default's to the default's loss."""
    told = []
    for name in CONTENDERS:
        last = [row["loss"] for row in found["losses"] if row["contender"] == name and row["share"] == 1.0]
        needed = found["steps"][name]
        row = f"{name:13} rate {found['rates'][name]:.2g}  last loss {statistics.fmean(last):.4f}"
        if None in needed:
            told.append(f"{row}  does not get there with every seed")
            continue
        price = seconds[name.split()[0]] / seconds["adamw"]
        time_over = student_interval([price * share for share in needed if share is not None])
        ends = "" if time_over.low is None else f" [{time_over.low:.3f}, {time_over.high:.3f}]"
        told.append(f"{row}  steps {time_over.mean / price:.3f}  time {time_over.mean:.3f}{ends}")
    return told


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, value in (("width", 128), ("layers", 4), ("heads", 4), ("context", 256), ("batch", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="trainings at a time, of one thread each")
    parser.add_argument("--only", choices=("speed", "losses", "rates"))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not options.folder.is_dir():
        sys.exit(f"skipped: {options.folder} is not there")
    shape = {name: getattr(options, name) for name in ("width", "layers", "heads", "context", "batch")}
    if options.only == "rates":
        with processes(options) as pool:
            print(chosen_rates(pool, options, shape))
        return
    if options.contenders != list(CONTENDERS):
        parser.error("--contenders goes with --only rates")
    found: dict[str, Any] = {} if options.only == "speed" else measure(options, shape)
    seconds = {"adamw": 1.0, "muon": 1.0} if options.only == "losses" else seconds_a_step(options.folder, shape)
    if options.json:
        options.json.write_text(json.dumps({**found, "seconds": seconds, "shape": shape}, indent=1))
    print("\n".join([*(lines(found, seconds) if found else []), f"seconds a step: {seconds}"]))


if __name__ == "__main__":
    main()

"""The forecast of a training's memory and time beside what it took, shape by shape, each in a process of its own.

    python benchmarks/forecast.py [S M LSTM long tiny]
    python benchmarks/forecast.py --saving [S M LSTM long tiny]
    python benchmarks/forecast.py --ranks 2 [S M long tiny]
    python benchmarks/forecast.py --time TEXTS [S M LSTM long tiny]
    python benchmarks/forecast.py --tuning [full lora "lora bfloat16" ...]

Measured is the greatest resident memory of eight steps less what the process held before the model was built, after a smaller
model of the same kind took steps (as the calibration does in a run). Linux only: the peak is read from /proc.

With `--saving` a checkpoint is written beside steps 5 to 8.

With `--ranks` so many processes take the steps together, by both ways of sharing the model; measured is the greatest of theirs,
memory that several see counted in parts (Linux's proportional set size without files).

With `--time` each shape is trained for about a minute by `treino run` on a folder of texts; the seconds forecast before the
first step are compared with those that the training took, looks at validation, samples and checkpoints among them.

With `--tuning` a classifier is fine-tuned on texts of about 170 tokens by `treino run`, on a body of shape S that took two
steps: memory and time of the stage beside its forecast, as every run prints them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, int]] = {
    "S": {"width": 256, "layers": 6, "heads": 4, "feed_forward": 688, "vocabulary": 8192, "batch": 16, "context": 256},
    "M": {"width": 512, "layers": 8, "heads": 8, "feed_forward": 1376, "vocabulary": 16384, "batch": 8, "context": 512},
    "LSTM": {"width": 128, "layers": 1, "embedding": 64, "vocabulary": 8192, "batch": 32, "context": 128},
    "long": {
        "width": 384,
        "layers": 4,
        "heads": 6,
        "feed_forward": 1024,
        "vocabulary": 2048,
        "batch": 4,
        "context": 1024,
    },
    "tiny": {
        "width": 128,
        "layers": 4,
        "heads": 4,
        "feed_forward": 344,
        "vocabulary": 2048,
        "batch": 4,
        "context": 256,
    },
}
TOKENS = {"S": "600k tokens", "M": "140k tokens", "LSTM": "2.5M tokens", "long": "500k tokens", "tiny": "2.5M tokens"}
OPTIMISERS = {name: "adamw" if name == "LSTM" else "muon" for name in SHAPES}  # what a fresh model starts with
STEPS = 8
RECIPE = """
name = "{name}"
[corpus]
sources = ["{texts}"]
[tokens]
vocabulary = {vocabulary}
[model]
architecture = "{architecture}"
width = {width}
layers = {layers}
{heads}
embedding = {embedding}
context = {context}
[pretrain]
budget = "{tokens}"
batch = {batch}
[evaluate]
ngrams = false
compressor = false
bootstrap = 100
"""


def stepper(name: str, precision: str, ranks: Any = None, shard: Any = "ddp", **changes: int) -> tuple[Any, Any]:
    """The real step over rows of three documents of random ids, and the model's settings."""
    import torch

    from treino.models.build import build_model
    from treino.recipe import ModelSettings
    from treino.tokens.packing import Batch
    from treino.training.objective import NextToken
    from treino.training.parallel import parallel
    from treino.training.plan import TrainingPlan
    from treino.training.schedule import Schedule
    from treino.training.step import Stepper
    from treino.training.task import Task

    sizes = {"heads": 1, "feed_forward": 1} | SHAPES[name] | changes
    batch, length, vocabulary = sizes["batch"], sizes["context"], sizes["vocabulary"]
    batch //= ranks.size if ranks else 1
    lstm = name == "LSTM"
    shape = ModelSettings(
        architecture="lstm" if lstm else "transformer",
        **{key: sizes[key] for key in ("width", "layers", "heads", "feed_forward", "context")},
        kv_heads=sizes["heads"],
        embedding=sizes.get("embedding", sizes["width"]),
        tied=not lstm,
    )

    class Random:
        def step(self, step: int) -> list[Batch]:
            ids = torch.randint(0, vocabulary, (batch, length + 1), generator=torch.Generator().manual_seed(step))
            places = torch.arange(length)
            segments = (places // (length // 3 + 1)).repeat(batch, 1)
            return [Batch(ids[:, :-1], ids[:, 1:], places.repeat(batch, 1), None if lstm else segments)]

    plan = TrainingPlan(
        steps=100,
        batch=batch,
        accumulation=1,
        schedule=Schedule(1e-3, 100),
        weight_decay=0.1,
        beta2=0.95,
        clip=1.0,
        precision=precision,  # type: ignore[arg-type]
        seed=1,
        log_every=1,
        validate_every=1,
        checkpoint_seconds=1e9,
        optimiser=OPTIMISERS[name],  # type: ignore[arg-type]
    )
    model = build_model(shape, vocabulary)
    together = parallel(model, NextToken(), ranks, shard) if ranks else None
    return Stepper(Task(model, NextToken(), Random()), plan, together), shape


def measure(name: str, precision: str, saving: bool = False) -> dict[str, Any]:
    """Forecast and peak, in bytes."""
    import torch

    from treino import environment
    from treino.measure import Meter, keep_memory, release_memory, resident_memory
    from treino.models.kernels import library
    from treino.planning.memory import training_memory
    from treino.training.checkpoint import CheckpointWriter, Progress, trained_tensors

    torch.set_num_threads(environment.processors())
    keep_memory()
    small = {"width": 64, "layers": 1, "heads": 1 if name == "LSTM" else 2, "embedding": 64, "batch": 2, "context": 32}
    warm, _ = stepper(name, precision, **small, vocabulary=100)
    for step in range(3):
        warm(step)
    del warm
    release_memory()
    before = resident_memory()
    assert before is not None, "needs Linux"
    meter = Meter()
    take, shape = stepper(name, precision)
    with tempfile.TemporaryDirectory() as folder, CheckpointWriter(Path(folder), keep=1) as writer:
        for step in range(STEPS):
            take(step)
            if saving and step == STEPS // 2 - 1:
                tensors = {"model": trained_tensors(take.task.model), "optimiser": take.optimiser.state()}
                writer.save(tensors, Progress(step=step))
    sizes = SHAPES[name]
    expected = training_memory(
        *(shape, sizes["vocabulary"], sizes["batch"], sizes["context"]),
        checkpoints=saving,
        optimiser=OPTIMISERS[name],
        precision=precision,
        packed=name != "LSTM",
        kernels=precision == "bfloat16" and library() is not None,
        base=0,
    )
    return {"forecast": expected["total"], "measured": (meter.peak_memory() or 0) - before, "parts": expected}


def measure_among(name: str, precision: str, shard: str) -> dict[str, Any]:
    """The same in one of several processes that torchrun started."""
    import torch

    from treino.measure import keep_memory, release_memory
    from treino.models.kernels import library
    from treino.planning.memory import training_memory
    from treino.training.ranks import join, leave
    from treino.training.together import can_share

    ranks = join(threads=1)
    torch.set_num_threads(1)
    keep_memory()
    small = {"width": 64, "layers": 1, "heads": 2, "embedding": 64, "batch": 4, "context": 32, "vocabulary": 100}
    warm, _ = stepper(name, precision, ranks, shard, **small)
    for step in range(3):
        warm(step)
    del warm
    release_memory()
    before, peak, going = own_memory(), [0], [True]

    def look() -> None:
        while going[0]:
            peak[0] = max(peak[0], own_memory())
            time.sleep(0.01)

    watcher = threading.Thread(target=look)
    watcher.start()
    take, shape = stepper(name, precision, ranks, shard)
    for step in range(STEPS):
        take(step)
    going[0] = False
    watcher.join()
    sizes = SHAPES[name]
    expected = training_memory(
        *(shape, sizes["vocabulary"], sizes["batch"] // ranks.size, sizes["context"]),
        optimiser=OPTIMISERS[name],
        precision=precision,
        kernels=precision == "bfloat16" and library() is not None,
        base=0,
        ranks=ranks.size,
        shard="weights" if shard == "fsdp" else "none",
        common=shard == "ddp" and can_share(ranks),
    )
    measured = ranks.highest(peak[0] - before)
    leave()
    return {"forecast": expected["total"], "measured": measured, "parts": expected, "first": ranks.first}


def own_memory() -> int:
    """Bytes of this process that lie in no file, those that others see, too, in parts."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    found = [line.split() for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))]
    return sum(1024 * int(fields[1]) for fields in found)


def rank_table(names: list[str], ranks: int) -> None:
    print("| shape | way | format | forecast, MB | measured, MB | measured / forecast |\n|---|---|---|---|---|---|")
    for name, shard, precision in itertools.product(names, ("ddp", "fsdp"), ("bfloat16", "float32")):
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = [*launch, str(Path(__file__)), "--among", name, precision, shard]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
        forecast, measured = found["forecast"], found["measured"]
        row = f"{forecast / 1e6:.0f} | {measured / 1e6:.0f} | {measured / forecast:.2f}"
        print(f"| {name} | {shard} | {precision} | {row} |", flush=True)


def measure_time(name: str, texts: Path) -> dict[str, float]:
    """Seconds of a training, forecast and taken, and its number format."""
    sizes = SHAPES[name]
    lstm = name == "LSTM"
    heads = "" if lstm else f"heads = {sizes['heads']}\nfeed_forward = {sizes['feed_forward']}"
    values = {
        "tokens": TOKENS[name],
        "embedding": sizes["width"],
        **sizes,
        "name": name,
        "heads": heads,
        "texts": texts.resolve().as_posix(),
    }
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.toml"
        recipe.write_text(RECIPE.format(**values, architecture="lstm" if lstm else "transformer"), encoding="utf-8")
        command = [sys.executable, "-m", "treino", "run", str(recipe), "--runs", folder, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
    forecast = next(line for line in lines if line["kind"] == "forecast" and line["stage"] == "pretrain")
    facts = lines[-1]["facts"]["pretrain"]
    return {"forecast": forecast["seconds"], "measured": facts["train_seconds"], "precision": facts["precision"]}


TUNINGS: dict[str, dict[str, Any]] = {
    "scratch": {},
    "full": {},
    "full bfloat16": {"precision": "bfloat16"},
    "full ewc": {"ewc": 1.0, "ewc_rows": 8},
    "full rehearsal": {"rehearsal": 0.2},
    "frozen": {},
    "lora": {},
    "lora bfloat16": {"precision": "bfloat16"},
    "qlora": {},
    "qlora bfloat16": {"precision": "bfloat16"},
}
TUNING_ROWS, TUNING_WORDS, TUNING_EPOCHS = 240, 90, 3


def tuning(name: str, folder: Path) -> dict[str, Any]:
    """What stands beside the forecast of a fine-tuning."""
    import random

    import treino

    draw = random.Random(1)
    syllables = [a + b for a in "bcdfglmnprstv" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(3000)]
    rows = [
        (" ".join(draw.choices(words, k=draw.randint(TUNING_WORDS // 3, TUNING_WORDS))), draw.choice(["sim", "não"]))
        for _ in range(TUNING_ROWS)
    ]
    sizes = SHAPES["S"]
    done = treino.run(
        {
            "name": f"tuning {name}",
            "corpus": {"sources": [{"lines": [text for text, _ in rows]}]},
            "tokens": {"vocabulary": sizes["vocabulary"]},
            "model": {key: sizes[key] for key in ("width", "layers", "heads", "feed_forward", "context")},
            "pretrain": {"budget": "2 steps", "batch": 4, "precision": "float32", "compile": "no"},
            "evaluate": {"ngrams": False, "compressor": False, "bootstrap": 100},
            "labels": {"rows": rows},
            "finetune": {"method": name.split()[0], "epochs": TUNING_EPOCHS, "long_texts": "cut"} | TUNINGS[name],
        },
        runs=folder,
    )
    return done.artefacts["finetune"].record["beside"]


def tuning_table(names: list[str]) -> None:
    print("| fine-tuning | memory forecast, MB | measured | ratio | time forecast, s | measured | ratio |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            command = [sys.executable, str(Path(__file__)), "--one-tuning", name, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            found = json.loads(done.stdout)
            memory, seconds = found["peak_memory"], found["seconds"]
            cells = [f"{memory[key] / 1e6:.0f}" for key in ("forecast", "measured")] + [f"{memory['ratio']:.2f}"]
            cells += [f"{seconds[key]:.1f}" for key in ("forecast", "measured")] + [f"{seconds['ratio']:.2f}"]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def time_table(names: list[str], texts: Path) -> None:
    print("| shape | format | forecast, s | measured, s | measured / forecast |\n|---|---|---|---|---|")
    for name in names:
        found = measure_time(name, texts)
        forecast, measured = found["forecast"], found["measured"]
        row = f"{forecast:.1f} | {measured:.1f} | {measured / forecast:.2f}"
        print(f"| {name} | {found['precision']} | {row} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help="some of " + ", ".join(SHAPES) + "; all by default")
    parser.add_argument("--one", nargs=2, metavar=("SHAPE", "PRECISION"), help="measure in this process")
    parser.add_argument("--time", type=Path, metavar="TEXTS", help="time instead of memory, on this folder of texts")
    parser.add_argument("--saving", action="store_true", help="with a checkpoint in flight")
    parser.add_argument("--tuning", action="store_true", help="fine-tunings instead; some of " + ", ".join(TUNINGS))
    parser.add_argument("--one-tuning", nargs=2, metavar=("NAME", "FOLDER"), help="fine-tune in this process")
    parser.add_argument("--ranks", type=int, help="so many processes together")
    parser.add_argument("--among", nargs=3, metavar=("SHAPE", "PRECISION", "WAY"), help="be one of them")
    asked = parser.parse_args()
    if asked.one_tuning:
        print(json.dumps(tuning(asked.one_tuning[0], Path(asked.one_tuning[1]))))
        return
    if asked.tuning:
        tuning_table(asked.shapes or list(TUNINGS))
        return
    if asked.among:
        found = measure_among(*asked.among)
        if found["first"]:
            print(json.dumps(found))
        return
    if asked.ranks:
        rank_table(asked.shapes or [name for name in SHAPES if name != "LSTM"], asked.ranks)
        return
    if asked.time:
        time_table(asked.shapes or list(SHAPES), asked.time)
        return
    if asked.one:
        print(json.dumps(measure(*asked.one, saving=asked.saving)))
        return
    print("| shape | format | forecast, MB | measured, MB | measured / forecast |\n|---|---|---|---|---|")
    for name in asked.shapes or SHAPES:
        for precision in ("bfloat16", "float32"):
            command = [sys.executable, str(Path(__file__)), "--one", name, precision]
            command += ["--saving"] if asked.saving else []
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            forecast, measured = found["forecast"], found["measured"]
            row = f"{forecast / 1e6:.0f} | {measured / 1e6:.0f} | {measured / forecast:.2f}"
            print(f"| {name} | {precision} | {row} |", flush=True)


if __name__ == "__main__":
    main()

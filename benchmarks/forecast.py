"""The forecast of a training's memory beside what it took, shape by shape, each in a process of its own.

    python benchmarks/forecast.py [S M LSTM long tiny]

Measured is the greatest resident memory of eight steps less what the process held before the model was built, after a smaller
model of the same kind took steps (as the calibration does in a run). Linux only: the peak is read from /proc.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
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
STEPS = 8


def stepper(name: str, precision: str, **changes: int) -> tuple[Any, Any]:
    """The real step over rows of three documents of random ids, and the model's settings."""
    import torch

    from treino.models.build import build_model
    from treino.recipe import ModelSettings
    from treino.tokens.packing import Batch
    from treino.training.objective import NextToken
    from treino.training.plan import TrainingPlan
    from treino.training.schedule import Schedule
    from treino.training.step import Stepper
    from treino.training.task import Task

    sizes = {"heads": 1, "feed_forward": 1} | SHAPES[name] | changes
    batch, length, vocabulary = sizes["batch"], sizes["context"], sizes["vocabulary"]
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
    )
    return Stepper(Task(build_model(shape, vocabulary), NextToken(), Random()), plan), shape


def measure(name: str, precision: str) -> dict[str, Any]:
    """Forecast and peak, in bytes."""
    import torch

    from treino import environment
    from treino.measure import Meter, keep_memory, release_memory, resident_memory
    from treino.models.kernels import library
    from treino.planning.memory import training_memory

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
    for step in range(STEPS):
        take(step)
    sizes = SHAPES[name]
    expected = training_memory(
        *(shape, sizes["vocabulary"], sizes["batch"], sizes["context"]),
        precision=precision,
        packed=name != "LSTM",
        kernels=precision == "bfloat16" and library() is not None,
        base=0,
    )
    return {"forecast": expected["total"], "measured": (meter.peak_memory() or 0) - before, "parts": expected}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help="some of " + ", ".join(SHAPES) + "; all by default")
    parser.add_argument("--one", nargs=2, metavar=("SHAPE", "PRECISION"), help="measure in this process")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(*asked.one)))
        return
    print("| shape | format | forecast, MB | measured, MB | measured / forecast |\n|---|---|---|---|---|")
    for name in asked.shapes or SHAPES:
        for precision in ("bfloat16", "float32"):
            command = [sys.executable, str(Path(__file__)), "--one", name, precision]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            forecast, measured = found["forecast"], found["measured"]
            row = f"{forecast / 1e6:.0f} | {measured / 1e6:.0f} | {measured / forecast:.2f}"
            print(f"| {name} | {precision} | {row} |", flush=True)


if __name__ == "__main__":
    main()

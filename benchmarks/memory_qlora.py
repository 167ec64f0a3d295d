"""Peak memory of QLoRA beside PEFT and bitsandbytes: resident at most, less what the process held before it built the model.

    python benchmarks/memory_qlora.py                  shape M: 8 layers of 512, rank 16 beside every linear layer
    python benchmarks/memory_qlora.py --steps 4 --peer-python PATH

Both train on the same rows of 8 x 512 tokens in bfloat16, with AdamW, gradients limited to length 1. Each runs in a process of
its own. `whole` counts the making of the model (the weights in float32, before they are narrowed), `steps` only what follows
it. Ours also with layers computed again and moments in 8 bits, and from a folder in NF4, streamed. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contenders.shapes import RANK, SHAPES, Shape
from treino.measure import Meter, keep_memory, release_memory, resident_memory

PEERS = ("PEFT, bitsandbytes NF4, bf16", "PEFT, bitsandbytes NF4, bf16, checkpointing")
OURS = (
    "Treino, QLoRA",
    "Treino, QLoRA, adamw8bit",
    "Treino, QLoRA, recomputed, adamw8bit",
    "Treino, QLoRA, streamed, adamw8bit",
)
BAR = 0.5


def rows(shape: Shape, count: int, folder: Path) -> None:
    """Random rows for all, in the files that the peers read."""
    ids = np.random.default_rng(1).integers(0, shape.vocabulary, (count * shape.rows, shape.context))
    np.save(folder / "ids.npy", ids)
    np.save(folder / "labels.npy", ids)


def peer(name: str, shape: Shape, data: Path, steps: int) -> dict[str, int]:
    """HF's Trainer on PEFT's adapters over NF4."""
    from transformers import TrainerCallback, TrainingArguments

    from contenders import huggingface

    meter, before = Meter(), resident_memory() or 0
    model = huggingface.adapted(huggingface.model(shape, data), "nf4")
    release_memory()
    again = name.endswith("checkpointing")
    built: list[tuple[Meter, int]] = []

    class Begin(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            built.append((Meter(), resident_memory() or 0))

    whole_before_steps = (meter.peak_memory() or 0) - before
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=shape.rows,
            max_steps=steps,
            use_cpu=True,
            bf16=True,
            gradient_checkpointing=again,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        data_set = huggingface.Examples(data)
        trainer = huggingface.Observed(model=model, args=settings, train_dataset=data_set, callbacks=[Begin()])
        trainer.train()
    steps_meter, _ = built[0]
    of_steps = (steps_meter.peak_memory() or 0) - before
    return {"whole": max(whole_before_steps, of_steps), "steps": of_steps}


def own(name: str, shape: Shape, data: Path, steps: int) -> dict[str, int]:
    """Treino's step, on the same rows."""
    from dataclasses import replace

    from contenders import own as contender
    from treino.models.folder import load_body
    from treino.models.lora import LoraShape, add_adapter, narrow_bases, targets_of
    from treino.tokens.packing import Batch
    from treino.training.objective import NextToken
    from treino.training.step import Stepper
    from treino.training.task import Task

    ids = torch.from_numpy(np.load(data / "ids.npy"))

    class Rows:
        def step(self, step: int) -> list[Batch]:
            part = ids[step * shape.rows : (step + 1) * shape.rows]
            targets = torch.cat((part[:, 1:], torch.full((len(part), 1), -100)), 1)
            return [Batch(part, targets, torch.arange(shape.context).expand(part.shape), None)]

    folder = data / "nf4"
    if "streamed" in name and not folder.exists():
        _write_nf4(shape, folder)
        release_memory()
    meter, before = Meter(), resident_memory() or 0
    if "streamed" in name:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = load_body(config, folder, None, stream=True)
    else:
        model = contender.model(shape)
    model.train()
    add_adapter(model, targets_of(model, model.matrices(), ("all",)), LoraShape(RANK, 2.0 * RANK), nf4=True)
    narrow_bases(model)
    model.recompute = model.recompute or "recomputed" in name
    plan = contender.plan(shape, "bfloat16")
    if "adamw8bit" in name:
        plan = replace(plan, optimiser="adamw8bit")
    step = Stepper(Task(model, NextToken(), Rows()), plan)
    built = (meter.peak_memory() or 0) - before
    release_memory()
    keep_memory()
    meter = Meter()
    for number in range(steps):
        step(number)
    of_steps = (meter.peak_memory() or 0) - before
    return {"whole": max(built, of_steps), "steps": of_steps}


def _write_nf4(shape: Shape, folder: Path) -> None:
    import streaming

    sizes = {name: getattr(shape, name) for name in ("width", "layers", "heads", "feed_forward", "vocabulary")}
    streaming.make(sizes, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument(
        "--peer-python", default=sys.executable, help="interpreter that has the peers; this one by default"
    )
    parser.add_argument("--one", nargs=2, metavar=("NAME", "DATA"), help="measure in this process")
    asked = parser.parse_args()
    shape = SHAPES["M"]
    if asked.one:
        name, data = asked.one[0], Path(asked.one[1])
        print(json.dumps((peer if name in PEERS else own)(name, shape, data, asked.steps)))
        return 0
    found: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows(shape, asked.steps, Path(folder))
        for name in (*PEERS, *OURS):
            python = asked.peer_python if name in PEERS else sys.executable
            command = [python, str(Path(__file__)), "--steps", str(asked.steps), "--one", name, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                continue
            found[name] = json.loads(done.stdout.strip().splitlines()[-1])
            print(f"{name} | {found[name]['whole'] / 1e6:.0f} MB | {found[name]['steps'] / 1e6:.0f} MB", flush=True)
    if PEERS[0] not in found or OURS[0] not in found:
        return 1
    share = found[OURS[0]]["whole"] / found[PEERS[0]]["whole"]
    print(f"share of the peer's peak: {share:.2f} (bar {BAR})")
    return int(share > BAR)


if __name__ == "__main__":
    sys.exit(main())

"""Seconds to a given loss on the characters of tinyshakespeare, from the start of the process to the look that shows it.

    python benchmarks/time_to_loss.py FILE [--seeds 5]

FILE is tinyshakespeare's `input.txt`. Both contenders read the same characters (the first 90 % to learn, the rest to judge),
and are judged by the mean cross-entropy over the full validation split, with the context that each was trained with:

- peer: nanoGPT's recipe for a CPU (4 layers, 4 heads, width 128, block 64, batch 12, 2,000 iterations, rate 1e-3 → 1e-4 by a
  cosine after 100 warm-up steps, beta2 .99, decay .1, no dropout), rebuilt with transformers' GPT2LMHeadModel in float32;
  its time is that of all 2,000 iterations and one look;
- Treino: `RECIPE` below through the training loop's own `Stepper`; it looks from `FIRST_LOOK` on every `LOOK_EVERY` steps, and
  its time ends with the first look at or below the target, looks included.

They run in turn, a seed each, every run a process of its own; nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from treino.tokens.shards import Shard
    from treino.training.plan import TrainingPlan

TARGET = 1.8857
"""Where the peer ended in the measurement that set the bar."""

RECIPE = {
    "width": 128,
    "layers": 4,
    "heads": 4,
    "context": 64,
    "batch": 12,
    "steps": 400,
    "learning_rate": 6e-3,
    "optimiser": "muon",
    "schedule": "wsd",
    "decay": 0.6,
}
FIRST_LOOK, LOOK_EVERY = 300, 25


def characters(path: Path) -> tuple[list[int], list[int], int]:
    """Ids of the characters to learn from and to judge by, and their number of kinds."""
    text = path.read_text(encoding="utf-8")
    numbers = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = [numbers[character] for character in text]
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:], len(numbers)


class Scene:
    """A training by a recipe: `take` takes a step, `look` gives the loss over the text that judges.

    `recipe`: width, layers, heads, context, batch, steps, learning_rate, optimiser, schedule, decay (share of the steps), and,
    where they are not those below, dropout, weight_decay, final.
    """

    def __init__(self, learnt: list[int], judged: list[int], kinds: int, recipe: dict[str, Any], seed: int) -> None:
        import torch

        from treino import environment
        from treino.models.build import build_model
        from treino.recipe import ModelSettings
        from treino.tokens.packing import PackedRows, make_batch
        from treino.training.objective import NextToken
        from treino.training.source import RowSource
        from treino.training.step import Stepper
        from treino.training.task import Task

        torch.set_num_threads(environment.processors())
        context, batch = recipe["context"], recipe["batch"]
        torch.manual_seed(seed)
        self.model = build_model(ModelSettings.model_validate(_shape(recipe)), kinds)
        rows, held_out = PackedRows(_shard(learnt), context, seed), PackedRows(_shard(judged), context, 0)
        count, group = held_out.rows_in_epoch(0), 16384 // context
        self.validation = [
            make_batch(held_out, [(0, row) for row in range(first, min(count, first + group))])
            for first in range(0, count, group)
        ]
        self.plan, self.objective = _plan(recipe, seed), NextToken()
        self.take = Stepper(Task(self.model.train(), self.objective, RowSource(rows, batch)), self.plan)

    def look(self) -> float:
        import torch

        from treino.training.parallel import evaluate_objective
        from treino.training.step import autocasting

        autocast = autocasting(torch.device("cpu"), self.plan.precision)
        return evaluate_objective(self.take.parallel, self.objective, self.validation, autocast)

    @property
    def parameters(self) -> int:
        return sum(value.numel() for value in self.model.parameters())


def _shape(recipe: dict[str, Any]) -> dict[str, Any]:
    width = recipe["width"]
    return {
        "architecture": "transformer",
        **{name: recipe[name] for name in ("width", "layers", "heads", "context")},
        "kv_heads": recipe["heads"],
        "feed_forward": -(-8 * width // 24) * 8,
        "embedding": width,
        "tied": True,
        "dropout": recipe.get("dropout", 0.0),
    }


def _shard(ids: list[int]) -> Shard:
    import numpy as np

    from treino.tokens.shards import Shard

    return Shard(np.array(ids, np.uint16), np.array([0, len(ids)], np.int64), 0)


def _plan(recipe: dict[str, Any], seed: int) -> TrainingPlan:
    import torch

    from treino.training.plan import TrainingPlan
    from treino.training.schedule import Schedule

    kind, decay = recipe["schedule"], recipe["decay"]
    return TrainingPlan(
        steps=recipe["steps"],
        batch=recipe["batch"],
        accumulation=1,
        schedule=Schedule(recipe["learning_rate"], recipe["steps"], 0.05, recipe.get("final", 0.0), kind, decay),
        weight_decay=recipe.get("weight_decay", 0.1),
        beta2=0.95,
        clip=1.0,
        precision="bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32",
        seed=seed,
        log_every=1,
        validate_every=1,
        checkpoint_seconds=math.inf,
        optimiser=recipe["optimiser"],
    )


def treino(path: Path, seed: int) -> dict[str, float]:
    """Treino's run: final loss and steps."""
    scene, loss, step = Scene(*characters(path), RECIPE, seed), math.inf, 0
    for step in range(1, RECIPE["steps"] + 1):
        scene.take(step - 1)
        if (step >= FIRST_LOOK and (step - FIRST_LOOK) % LOOK_EVERY == 0) or step == RECIPE["steps"]:
            loss = scene.look()
            if loss <= TARGET:
                break
    return {"loss": loss, "steps": step, "parameters": scene.parameters}


def peer(path: Path, seed: int) -> dict[str, float]:
    """nanoGPT's recipe for a CPU with transformers' GPT-2."""
    import numpy as np
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    block, batch, iterations = 64, 12, 2000
    learnt, judged, kinds = characters(path)
    data, held_out = torch.tensor(np.array(learnt)), torch.tensor(np.array(judged))
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=kinds,
            n_positions=block,
            n_embd=128,
            n_layer=4,
            n_head=4,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
        )
    )
    matrices = [value for value in model.parameters() if value.ndim >= 2]
    vectors = [value for value in model.parameters() if value.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    for step in range(iterations):
        share = max(0.0, (step - 100) / (iterations - 100))
        rate = 1e-3 * (step + 1) / 100 if step < 100 else 1e-4 + 0.5 * (1 + math.cos(math.pi * share)) * 9e-4
        for group in optimiser.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(data) - block, (batch,))
        ids = torch.stack([data[start : start + block] for start in starts])
        wanted = torch.stack([data[start + 1 : start + 1 + block] for start in starts])
        logits = model(ids).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return {"loss": _judged(model, held_out, block), "steps": iterations, "parameters": model.num_parameters()}


def _judged(model, held_out, block: int) -> float:  # type: ignore[no-untyped-def]
    """Mean loss over the validation split in windows side by side, as Treino's rows are."""
    import torch

    count = (len(held_out) - 1) // block
    ids, wanted = held_out[: count * block].view(count, block), held_out[1 : count * block + 1].view(count, block)
    total = 0.0
    with torch.no_grad():
        for first in range(0, count, 256):
            part = slice(first, first + 256)
            logits = model(ids[part]).logits
            total += float(
                torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted[part].flatten(), reduction="sum")
            )
    return total / (count * block)


CONTENDERS = {"treino": treino, "peer": peer}


def timed(contender: str, path: Path, seed: int) -> dict[str, float]:
    """One run as a process of its own, with its seconds from start to end."""
    started = time.monotonic()
    command = [sys.executable, __file__, str(path), "--contender", contender, "--seed", str(seed)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = time.monotonic() - started
    return json.loads(out.splitlines()[-1]) | {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if not asked.file.is_file():
        sys.exit(f"skipped: {asked.file} is not there (tinyshakespeare's input.txt)")
    if asked.contender:
        print(json.dumps(CONTENDERS[asked.contender](asked.file, asked.seed)))
        return
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for seed in range(1, asked.seeds + 1):
        for name in CONTENDERS:
            rows[name].append(timed(name, asked.file, seed))
            print(
                f"seed {seed} {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in rows[name][-1].items()),
                flush=True,
            )
    medians = {name: statistics.median(row["seconds"] for row in each) for name, each in rows.items()}
    print(f"median seconds: {medians}; ratio {medians['peer'] / medians['treino']:.2f}")
    missed = [row for row in rows["treino"] if row["loss"] > TARGET]
    print(f"target {TARGET}: reached by {len(rows['treino']) - len(missed)} of {asked.seeds}")


if __name__ == "__main__":
    main()

"""What two processes do in tests/training/test_ranks.py: started by torchrun, with a folder as the argument."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from treino import interruption
from treino.errors import Interrupted
from treino.models.build import build_model
from treino.recipe import ModelSettings
from treino.tokens.packing import IGNORED, Batch, PackedRows
from treino.tokens.shards import Shard
from treino.training.checkpoint import Progress, load_checkpoint, model_tensors
from treino.training.loop import train
from treino.training.objective import NextToken
from treino.training.optimiser import Kind
from treino.training.parallel import Shard as How
from treino.training.parallel import parallel, whole
from treino.training.plan import TrainingPlan
from treino.training.ranks import ALONE, Ranks, join, leave
from treino.training.schedule import Schedule
from treino.training.source import RowSource
from treino.training.step import Stepper
from treino.training.task import Task

STEPS, HALF, ROWS = 50, 25, 12
WAYS: dict[str, How] = {"together": "ddp", "ddp": "ddp", "fsdp": "fsdp"}
"""Whole in each process, with memory in common or gradients sent; cut into parts."""


def plan(how: How = "ddp", steps: int = STEPS, optimiser: Kind = "adamw") -> TrainingPlan:
    return TrainingPlan(
        steps=steps,
        batch=4,
        accumulation=3,
        schedule=Schedule(3e-3, STEPS, 0.1, 0.1),
        weight_decay=0.1,
        beta2=0.95,
        clip=0.5,
        precision="float32",
        seed=1,
        log_every=1,
        validate_every=10,
        checkpoint_seconds=1e9,
        shard=how,
        optimiser=optimiser,
    )


class Uneven(RowSource):
    """Rows of which the last third of a step counts whole and the others in one place of twelve: the ranks' counts, and those
    of the micro-batches, are far apart.
    """

    def step(self, step: int) -> list[Batch]:
        batches, rank = super().step(step), self.ranks
        row = rank.rank * ROWS // rank.size
        changed = []
        for batch in batches:
            targets = batch.targets.clone()
            for place in range(len(targets)):
                if row < ROWS * 2 // 3:
                    targets[place, torch.arange(targets.shape[1]) % 12 != row % 12] = IGNORED
                row += 1
            changed.append(replace(batch, targets=targets))
        return changed


def documents() -> Shard:
    draw = np.random.default_rng(5)
    tokens, offsets = [], [0]
    for _ in range(80):
        start, length = int(draw.integers(60)), int(draw.integers(3, 40))
        tokens += [2 + (start + 3 * place + int(draw.integers(3))) % 60 for place in range(length)] + [0]
        offsets.append(len(tokens))
    return Shard(np.array(tokens, np.uint16), np.array(offsets, np.int64), 0)


def task(ranks: Ranks) -> Task[Batch]:
    torch.manual_seed(3)
    shape = ModelSettings(width=32, layers=2, heads=4, kv_heads=2, feed_forward=89, context=32, embedding=32)
    model = build_model(shape, 64)
    rows = PackedRows(documents(), 32, seed=1)
    held_out = RowSource(PackedRows(documents(), 32, seed=9), 2, 3).step(
        0
    )  # three batches: two ranks cannot share them evenly

    def sample() -> dict[str, str]:
        with torch.no_grad():
            return {"prompt": "", "text": str(model(torch.arange(4)[None])[0, -1, :3].tolist())}

    return Task(model, NextToken(), Uneven(rows, 4, 3, ranks), validation=held_out, sample=sample)


def first_look(ranks: Ranks) -> float:
    """This process's sum of the loss of a first step, after a model in parts has talked and done nothing else."""
    work = replace(task(ranks), validation=[])
    assert work.sample
    whole = parallel(work.model, work.objective, ranks, "fsdp")
    with whole.talking():
        work.sample()
    whole.rest()
    return sum(float(loss.detach()) for batch in work.source.step(0) for loss in whole.sums(batch).values())


def result(progress: Progress, model: torch.nn.Module) -> dict:
    weights = {name: whole(value).flatten().tolist() for name, value in model_tensors(model).items()}
    losses = [row["loss"] for row in progress.history]
    return {
        "losses": losses,
        "tokens": progress.tokens,
        "validation": [row["loss"] for row in progress.validation],
        "samples": progress.samples,
        "weights": weights,
    }


def trained(folder: Path, how: How = "ddp", ranks: Ranks = ALONE, optimiser: Kind = "adamw") -> dict:
    """A whole training, from the newest checkpoint of the folder if there is one."""
    work = task(ranks)
    return result(train(work, plan(how, optimiser=optimiser), folder, ranks=ranks), work.model)


def stopped(folder: Path, how: How, ranks: Ranks, optimiser: Kind = "adamw") -> int:
    """A training that a signal to the last process stops after half of its steps; returns the exit code of this one."""
    work = task(ranks)
    steps = [0]
    original = interruption.requested

    def requested() -> int:
        steps[0] += 1
        return 15 if steps[0] == HALF and ranks.rank == ranks.size - 1 else 0

    interruption.requested = requested
    try:
        train(work, plan(how, optimiser=optimiser), folder, ranks=ranks)
    except Interrupted as error:
        return error.exit_code
    finally:
        interruption.requested = original
    return 0


def restored(folder: Path, how: How, ranks: Ranks, optimiser: Kind = "adamw") -> dict[str, torch.Tensor]:
    """Weights and optimiser as the newest checkpoint of the folder leaves them, whole."""
    work = task(ranks)
    stepper = Stepper(work, plan(how, optimiser=optimiser), parallel(work.model, work.objective, ranks, how))
    assert load_checkpoint(folder, work.model, stepper.optimiser, ranks) is not None
    return {name: whole(value) for name, value in (model_tensors(work.model) | stepper.optimiser.state()).items()}


def main(folder: Path) -> None:
    ranks = join(threads=1)
    torch.set_num_threads(1)
    found: dict[str, object] = {"first look": first_look(ranks)}
    for way, how in WAYS.items():
        apart = replace(ranks, local_size=1) if way == "ddp" else ranks  # as if on two machines
        found[way] = trained(folder / way, how, apart)
        found[f"{way} from one"] = trained(folder / f"{way} from one", how, apart)
        found[f"{way} stopped"] = stopped(folder / f"{way} stopped", how, apart)
        found[f"{way} muon"] = trained(folder / f"{way} muon", how, apart, "muon")
    stopped(folder / "fsdp stopped muon", "fsdp", ranks, "muon")
    kinds: dict[str, Kind] = {"fsdp from half": "adamw", "fsdp stopped": "adamw", "fsdp stopped muon": "muon"}
    for name, optimiser in kinds.items():
        tensors = restored(folder / name, "fsdp", ranks, optimiser)
        if ranks.first:
            save_file(tensors, folder / f"{name}.safetensors")
    leave()
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

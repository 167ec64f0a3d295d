"""Golden loss curves of ten steps: a change of the mathematics of model, rows, loss or optimiser is seen here.

Where one changes on purpose, raise the version of the stage `pretrain` in pipeline/stages.py, then the curve here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from treino.models.build import build_model
from treino.recipe import ModelSettings
from treino.tokens.packing import DocumentRows, PackedRows
from treino.tokens.shards import Shard
from treino.training.loop import train
from treino.training.objective import NextToken
from treino.training.plan import TrainingPlan
from treino.training.schedule import Schedule
from treino.training.source import RowSource
from treino.training.task import Task

SHAPE = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "feed_forward": 88, "context": 32, "embedding": 32}
GOLDEN: dict[str, list[float]] = {
    "transformer": [4.951366, 4.482965, 4.320953, 4.213171, 4.142421, 4.116109, 4.121168, 4.117702, 4.106267, 4.103479],
    "muon": [4.951366, 4.672463, 4.463631, 4.221635, 4.124697, 4.101509, 4.086247, 4.089188, 4.065671, 4.07048],
    "lstm": [4.143073, 4.173731, 4.147241, 4.158021, 4.13647, 4.131143, 4.129578, 4.130929, 4.195434, 4.185457],
}
TOLERANCE = 2e-4
"""Relative: ten steps carry the roundings of other processors and libraries further."""


def stream() -> Shard:
    """Documents of a small random grammar, made without any library's generator so that they are the same everywhere."""
    state, tokens, offsets = 12345, [], [0]
    for _ in range(60):
        token = 2
        for _ in range(5 + state % 40):
            state = (1103515245 * state + 12345) % 2**31
            token = (3 * token + (state >> 16) % 4) % 62 + 2
            tokens.append(token)
        tokens.append(0)
        offsets.append(len(tokens))
    return Shard(np.array(tokens, np.uint16), np.array(offsets, np.int64), 0)


def weights_of_our_own(model: torch.nn.Module) -> None:
    """A fixed start that does not hang on torch's random numbers."""
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            if parameter.ndim >= 2:
                places = torch.arange(parameter.numel(), dtype=torch.float64)
                parameter.copy_((0.08 * torch.sin(places * (1.7 + 0.31 * index))).view_as(parameter))


@pytest.mark.parametrize("curve", GOLDEN)
def test_ten_steps_follow_the_golden_curve(curve: str, tmp_path: Path) -> None:
    architecture = "lstm" if curve == "lstm" else "transformer"
    model = build_model(ModelSettings(**SHAPE, architecture=architecture, tied=architecture == "transformer"), 64)
    weights_of_our_own(model)
    rows = PackedRows(stream(), 32, 1) if architecture == "transformer" else DocumentRows(stream(), 32, 1)
    plan = TrainingPlan(
        steps=10,
        batch=4,
        accumulation=2,
        schedule=Schedule(0.01, 10, warmup=0.2, final=0.1),
        weight_decay=0.1,
        beta2=0.95,
        clip=1.0,
        precision="float32",
        seed=1,
        log_every=1,
        validate_every=100,
        checkpoint_seconds=1e9,
        optimiser="muon" if curve == "muon" else "adamw",
    )
    progress = train(Task(model, NextToken(), RowSource(rows, 4, 2)), plan, tmp_path)
    losses = [row["loss"] for row in progress.history]
    assert losses == pytest.approx(GOLDEN[curve], rel=TOLERANCE), "raise the version of the stage pretrain"

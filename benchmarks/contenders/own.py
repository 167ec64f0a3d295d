"""Treino as its loop trains: the stepper, packed rows, and the allocator set as `train` sets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from contenders.shapes import BETAS, CLIP, LEARNING_RATE, RANK, WARM_UP, WEIGHT_DECAY, Shape
from contenders.turns import Turns
from treino import environment
from treino.measure import keep_memory
from treino.models.base import LanguageModel
from treino.models.build import build_model
from treino.models.lora import LoraShape, add_adapter, narrow_bases, targets_of
from treino.recipe import ModelSettings
from treino.tokens.packing import DocumentRows, PackedRows
from treino.tokens.shards import Shard
from treino.training.objective import NextToken
from treino.training.optimiser import Kind
from treino.training.plan import Precision, TrainingPlan
from treino.training.schedule import Schedule
from treino.training.source import RowSource
from treino.training.step import Stepper
from treino.training.task import Task

SEED = 1


def settings(shape: Shape) -> ModelSettings:
    """The recipe's [model] of a shape."""
    return ModelSettings(
        architecture="transformer" if shape.heads else "lstm",
        width=shape.width,
        layers=shape.layers,
        heads=shape.heads or 1,
        kv_heads=shape.heads or 1,
        feed_forward=shape.feed_forward or 1,
        embedding=shape.embedding or shape.width,
        context=shape.context,
        tied=bool(shape.heads),
    )


def model(shape: Shape) -> LanguageModel:
    """The model with the weights that every run of a comparison starts from."""
    torch.manual_seed(SEED)
    return build_model(settings(shape), shape.vocabulary)


def source(shape: Shape, data: Path) -> RowSource:
    """The batches of a data folder in training's order."""
    shard = Shard(np.load(data / "tokens.npy"), np.load(data / "offsets.npy"), end_of_text=0)
    return RowSource((PackedRows if shape.heads else DocumentRows)(shard, shape.context, SEED), shape.rows)


def plan(
    shape: Shape,
    precision: Precision,
    rate: float = LEARNING_RATE,
    warm_up: int = WARM_UP,
    optimiser: Kind = "adamw",
) -> TrainingPlan:
    """A plan of constant rate after the warm-up; looks, samples and checkpoints belong to the loop: not measured here."""
    return TrainingPlan(
        steps=10**6,
        batch=shape.rows,
        accumulation=1,
        schedule=Schedule(rate, 10**6, warmup=warm_up / 10**6, kind="constant"),
        weight_decay=WEIGHT_DECAY,
        beta2=BETAS[1],
        clip=CLIP,
        precision=precision,
        seed=SEED,
        log_every=10**6,
        validate_every=10**6,
        checkpoint_seconds=1e9,
        optimiser=optimiser,
    )


def run(
    turns: Turns,
    shape: Shape,
    data: Path,
    precision: Precision,
    adapters: str = "",
    moved: float = 0.0,
    **schedule: Any,
) -> None:
    """Steps of Treino; under bfloat16 with its own kernels where the machine can have them. `adapters`: "lora" or "qlora"
    of rank 16 on every linear layer, all else frozen. `moved`: how far, relatively, the first weights are moved at random.
    """
    torch.set_num_threads(environment.processors())
    learner = model(shape).train()
    draw = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in learner.parameters() if moved else ():
            parameter.mul_(1 + moved * torch.randn(parameter.shape, generator=draw))
    if adapters:
        layers = targets_of(learner, learner.matrices(), ("all",))
        add_adapter(learner, layers, LoraShape(RANK, 2.0 * RANK), nf4=adapters == "qlora")
        narrow_bases(learner)
    step = Stepper(Task(learner, NextToken(), source(shape, data)), plan(shape, precision, **schedule))
    keep_memory()
    turns.ready()
    number = 0
    while turns.going:
        loss, _ = step(number)
        number += 1
        turns.done(loss)

"""Treino's chat tuning as its loop trains: conversations packed without seeing each other, the assistant's tokens learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from contenders import own
from contenders.shapes import Shape
from contenders.turns import Turns
from treino import environment
from treino.measure import keep_memory
from treino.tokens.packing import PADDING, Batch, PackedRows
from treino.tokens.shards import Shard
from treino.training.chat import Answers
from treino.training.source import RowSource
from treino.training.step import Stepper
from treino.training.task import Task


class Counted(RowSource):
    """Rows whose tokens are counted, padding left out."""

    def step(self, step: int) -> list[Batch]:
        batches = super().step(step)
        self.last_tokens = sum(
            int((batch.segments != PADDING).sum()) for batch in batches if batch.segments is not None
        )
        return batches


def run(turns: Turns, shape: Shape, data: Path) -> None:
    """Steps in bfloat16, as `treino run` takes them where conversations are given."""
    torch.set_num_threads(environment.processors())
    tokens, offsets, learnt = (np.load(data / f"{name}.npy") for name in ("tokens", "offsets", "supervised"))
    # A document here is a conversation without its first token, which stands before all of them (id 0).
    first = np.zeros(len(tokens), bool)
    first[offsets[:-1]] = True
    shard = Shard(tokens[~first], offsets - np.arange(len(offsets)), 0, supervised=learnt[~first])
    source = Counted(PackedRows(shard, shape.context, own.SEED), shape.rows)
    step = Stepper(Task(own.model(shape).train(), Answers(), source), own.plan(shape, "bfloat16"))
    keep_memory()
    turns.ready()
    number = 0
    while turns.going:
        loss, _ = step(number)
        number += 1
        turns.done(loss, source.last_tokens)

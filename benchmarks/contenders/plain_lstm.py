"""The course's network written by hand in torch: embedding → LSTM → linear, in float32."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contenders.shapes import BETAS, CLIP, LEARNING_RATE, WEIGHT_DECAY, Shape
from contenders.tensors import batches
from contenders.turns import Turns


class PlainLSTM(nn.Module):
    """Ids (rows, length) to logits (rows, length, vocabulary)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.embedding)
        self.lstm = nn.LSTM(shape.embedding, shape.width, shape.layers, batch_first=True)
        self.head = nn.Linear(shape.width, shape.vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(ids))[0])


def run(turns: Turns, shape: Shape, data: Path) -> None:
    """Steps of a plain loop."""
    torch.manual_seed(1)
    model = PlainLSTM(shape)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    rows = batches(data, shape.rows)
    turns.ready()
    while turns.going:
        ids, targets = next(rows)
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        turns.done(loss)

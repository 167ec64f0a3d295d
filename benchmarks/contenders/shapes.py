"""The shapes of the comparisons, and what every contender trains with."""

from __future__ import annotations

from dataclasses import dataclass

LEARNING_RATE, WEIGHT_DECAY, BETAS, CLIP = 3e-4, 0.1, (0.9, 0.95), 1.0
RANK = 16
"""Of adapters, on every linear layer of the body; α is twice as much."""

WARM_UP = 10
"""Steps over which the rate rises. Losses are compared where training is stable: at a constant .001 from the first step, two
float32 runs whose weights differ by a millionth are .09 apart after fifty steps, and nothing is said about number formats."""


@dataclass(frozen=True)
class Shape:
    """A model and the batch that it learns from in a step: `rows` × `context` tokens.

    `heads` 0 is the LSTM, whose word vectors are `embedding` wide. `steps` are those of one timed turn.
    """

    vocabulary: int
    width: int
    layers: int
    rows: int
    context: int
    steps: int
    heads: int = 0
    feed_forward: int = 0
    embedding: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.rows * self.context


SHAPES = {
    "S": Shape(8192, 256, 6, rows=16, context=256, steps=6, heads=4, feed_forward=688),
    "M": Shape(16384, 512, 8, rows=8, context=512, steps=2, heads=8, feed_forward=1376),
    "lstm": Shape(8192, 128, 1, rows=32, context=128, steps=12, embedding=64),
}

"""How many parameters a model has, by part."""

from __future__ import annotations

from typing import Protocol


class Shape(Protocol):
    """The numbers that make a model's shape; `treino.recipe.ModelSettings` has them."""

    @property
    def architecture(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def feed_forward(self) -> int: ...
    @property
    def embedding(self) -> int: ...
    @property
    def tied(self) -> bool: ...


def kv_width(shape: Shape) -> int:
    """Width of the keys (and of the values) of one token: kv heads × head size."""
    return shape.width // shape.heads * shape.kv_heads


def parameters(shape: Shape, vocabulary: int) -> dict[str, int]:
    """Parameters by part of the network; `total` is their sum.

    Transformer (Llama's architecture, no biases; h width, k keys' width, f feed-forward, L layers, V vocabulary):
    embedding V·h, attention L·(2h² + 2h·k), feed-forward 3·L·h·f, norms (2L + 1)·h, head V·h.

    LSTM (torch's, with two bias vectors a layer; e embedding): embedding V·e, recurrent 4h·(e + h + 2) for the first
    layer and 4h·(2h + 2) for each further one, head V·h + V (its bias).

    A head tied to the embedding counts no matrix: 0, and V for the LSTM's bias.
    """
    width, layers = shape.width, shape.layers
    head = 0 if shape.tied else vocabulary * width
    if shape.architecture == "lstm":
        first = 4 * width * (shape.embedding + width + 2)
        further = 4 * width * (2 * width + 2)
        parts = {
            "embedding": vocabulary * shape.embedding,
            "recurrent": first + (layers - 1) * further,
            "head": head + vocabulary,
        }
    else:
        parts = {
            "embedding": vocabulary * width,
            "attention": layers * (2 * width**2 + 2 * width * kv_width(shape)),
            "feed_forward": layers * 3 * width * shape.feed_forward,
            "norms": (2 * layers + 1) * width,
            "head": head,
        }
    return parts | {"total": sum(parts.values())}

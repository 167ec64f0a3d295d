"""How many floating-point operations a token costs; of matrix products alone, without norms and softmax."""

from __future__ import annotations

from treino.planning.parameters import Shape, parameters


def training_flops_per_token(shape: Shape, vocabulary: int, context: int) -> dict[str, float]:
    """FLOPs of one token's forward and backward pass, by part; `total` is their sum.

    body 6·N with N the parameters between embedding and head (2 forward, 4 backward: one multiplication and one
    addition each), head 6·h·V (a tied head is computed all the same), attention 12·L·s·h for scores and weighted sums
    over a context of s tokens, counted whole: a kernel that skips the causal half does half of it. An LSTM has none.

    Kaplan et al. 2020 (arXiv 2001.08361), appendix to PaLM (arXiv 2204.02311).
    """
    counts = parameters(shape, vocabulary)
    body = counts["total"] - counts["embedding"] - counts["head"]
    attention = 12 * shape.layers * context * shape.width if shape.architecture == "transformer" else 0
    parts = {
        "body": 6.0 * body,
        "head": 6.0 * shape.width * vocabulary,
        "attention": float(attention),
    }
    return parts | {"total": sum(parts.values())}


def forward_flops_per_token(shape: Shape, vocabulary: int, context: int) -> dict[str, float]:
    """FLOPs of one token's forward pass, by part: a third of training's, as a backward pass costs two."""
    return {part: flops / 3 for part, flops in training_flops_per_token(shape, vocabulary, context).items()}

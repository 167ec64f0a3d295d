"""How many floating-point operations a token costs; of matrix products alone, without norms and softmax."""

from __future__ import annotations

from treino.planning.parameters import Architecture, Shape, architecture_of, matrices

METHODS = ("scratch", "full", "frozen", "lora", "qlora")
"""Ways to train: everything from nothing, everything, a head on a body that stays, adapters, adapters on 4-bit weights."""


def forward_flops_per_token(shape: Shape | Architecture, vocabulary: int, context: int) -> dict[str, float]:
    """FLOPs of one token's forward pass, by part; `total` is their sum.

    body 2·N with N the numbers in the matrices between embedding and head that a token meets (one multiplication and one
    addition each), head 2·h·V (a tied head is computed all the same), attention 4·L·s·q for scores and weighted sums over a
    context of s tokens, q the queries' width, counted whole: a kernel that skips the causal half does half of it. An LSTM
    has none.

    Kaplan et al. 2020 (arXiv 2001.08361), appendix to PaLM (arXiv 2204.02311).
    """
    model = architecture_of(shape, vocabulary)
    transformer = model.architecture == "transformer"
    width = model.table if transformer else model.width
    parts = {
        "body": 2.0 * sum(matrices(model, active=True).values()),
        "head": 2.0 * width * model.vocabulary,
        "attention": 4.0 * model.layers * context * model.queries if transformer else 0.0,
    }
    return parts | {"total": sum(parts.values())}


def training_flops_per_token(
    shape: Shape | Architecture,
    vocabulary: int,
    context: int,
    *,
    method: str = "scratch",
    adapters: int = 0,
    recompute: bool = False,
) -> dict[str, float]:
    """FLOPs of one token's forward and backward pass, by part; `total` is their sum.

    scratch, full: three times the forward pass, for a backward pass costs two. lora, qlora: the same without the gradients
    of the frozen matrices (body and head: two times), and 6 for every number of the `adapters`. frozen: the body's forward
    pass alone (once for a text, however often its head is trained). `recompute` adds the body's forward pass once more.
    """
    forward = forward_flops_per_token(shape, vocabulary, context)
    if method == "frozen":
        return forward | {"head": 0.0, "total": forward["body"] + forward["attention"]}
    times = 2 if method in ("lora", "qlora") else 3
    again = 1 if recompute else 0
    parts = {
        "body": (times + again) * forward["body"],
        "head": times * forward["head"],
        "attention": (3 + again) * forward["attention"],
    }
    if adapters:
        parts["adapters"] = 6.0 * adapters
    return parts | {"total": sum(parts.values())}

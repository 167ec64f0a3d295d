"""How many parameters a model has, by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


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


@dataclass(frozen=True)
class Architecture:
    """A model's shape with its vocabulary and what its family adds; the defaults are Llama's.

    Attributes:
        head_size: numbers of an attention head; 0: width / heads.
        embedding: width of the token table, where it differs from the model's (LSTM, OPT-350M); 0: the same.
        context: the longest row that it was made for, 0 if it is not said.
        gated: the feed-forward part has a third matrix (SwiGLU, GeGLU).
        norm_bias, norm_scale: its norms shift and scale (LayerNorm; RMSNorm only scales); `norms` of them in a layer.
        query_key_norm: queries and keys have norms, of a head's size or of their whole width.
        positions: rows of a learned table of positions.
        experts, active: feed-forward parts of a layer, and how many of them a token goes through; 0: one, dense.
        dense_layers: layers whose feed-forward part is one, `dense_width` wide, in a model of experts.
        shared: inner width of the expert that every token goes through; `shared_gate`: it has a gate of its own.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    architecture: str = "transformer"
    head_size: int = 0
    embedding: int = 0
    tied: bool = False
    context: int = 0
    gated: bool = True
    qkv_bias: bool = False
    output_bias: bool = False
    feed_forward_bias: bool = False
    head_bias: bool = False
    norm_bias: bool = False
    norms: int = 2
    norm_scale: bool = True
    final_norm: bool = True
    embedding_norm: bool = False
    query_key_norm: Literal["", "head", "width"] = ""
    positions: int = 0
    experts: int = 0
    active: int = 0
    dense_layers: int = 0
    dense_width: int = 0
    shared: int = 0
    shared_gate: bool = False
    family: str = "llama"

    @property
    def queries(self) -> int:
        """Width of the queries of one token: heads × head size."""
        return self.heads * (self.head_size or self.width // self.heads)

    @property
    def keys(self) -> int:
        """Width of the keys (and of the values) of one token: kv heads × head size."""
        return self.kv_heads * (self.head_size or self.width // self.heads)

    @property
    def table(self) -> int:
        """Width of the token table."""
        return self.embedding or self.width


def architecture_of(shape: Shape | Architecture, vocabulary: int = 0) -> Architecture:
    """The full description of a shape that a recipe gives."""
    if isinstance(shape, Architecture):
        return shape
    return Architecture(
        *(vocabulary, shape.width, shape.layers, shape.heads, shape.kv_heads, shape.feed_forward),
        architecture=shape.architecture,
        embedding=shape.embedding if shape.architecture == "lstm" else 0,
        tied=shape.tied,
        context=getattr(shape, "context", 0),
    )


def matrices(model: Architecture, *, active: bool = False) -> dict[str, int]:
    """Numbers in the matrices between the token table and the head, by part; `active`: those that one token meets.

    Transformer (h width, q queries' width, k keys' width, f feed-forward, L layers): attention L·(2h·q + 2h·k),
    feed-forward 3·L·h·f (2 where it is not gated), once for each expert, router L·h·experts.
    LSTM (e embedding): 4h·(e + h) for the first layer and 8h² for each further one.
    """
    width, layers = model.width, model.layers
    if model.architecture == "lstm":
        return {"recurrent": 4 * width * (model.table + width) + (layers - 1) * 8 * width**2}
    each = (3 if model.gated else 2) * width
    sparse = layers - model.dense_layers if model.experts else 0
    inner = (layers - sparse) * (model.dense_width or model.feed_forward)
    inner += sparse * ((model.active if active else model.experts) * model.feed_forward + model.shared)
    parts = {"attention": layers * 2 * width * (model.queries + model.keys), "feed_forward": each * inner}
    if sparse:
        parts["router"] = sparse * width * (model.experts + (1 if model.shared_gate else 0))
    if model.table != width:
        parts["projections"] = 2 * width * model.table
    return parts


def count(model: Architecture) -> dict[str, int]:
    """Parameters by part of the network; `total` is their sum.

    To the matrices (see `matrices`) come embedding V·h, positions (a learned table), biases with the part that they belong
    to, norms (2L + 1)·h (twice that with a bias; as many as the family has), head V·h.

    LSTM: torch's two bias vectors of 4h a layer; head V·h + V (its bias).

    A head tied to the embedding counts no matrix: 0, and V for a bias.
    """
    width, layers = model.width, model.layers
    lstm = model.architecture == "lstm"
    head = 0 if model.tied else model.vocabulary * (width if lstm else model.table)
    parts = {"embedding": model.vocabulary * model.table}
    if model.positions:
        parts["positions"] = model.positions * width
    parts |= matrices(model)
    if lstm:
        parts["recurrent"] += 8 * width * layers
        parts["head"] = head + model.vocabulary
    else:
        parts["attention"] += layers * ((model.queries + 2 * model.keys) * model.qkv_bias + width * model.output_bias)
        each = width + (2 if model.gated else 1) * model.feed_forward
        parts["feed_forward"] += layers * each * model.feed_forward_bias
        parts["norms"] = _norms(model)
        parts["head"] = head + model.vocabulary * model.head_bias
    return parts | {"total": sum(parts.values())}


def _norms(model: Architecture) -> int:
    """Numbers of all norms."""
    each = model.width * (model.norm_scale + model.norm_bias)
    of_queries = {"": 0, "head": 2 * model.queries // model.heads, "width": model.queries + model.keys}
    return (model.norms * model.layers + model.final_norm + model.embedding_norm) * each + model.layers * of_queries[
        model.query_key_norm
    ]


def active(model: Architecture) -> int:
    """Parameters that one token meets: all of them in a dense model."""
    return count(model)["total"] - sum(matrices(model).values()) + sum(matrices(model, active=True).values())


def parameters(shape: Shape | Architecture, vocabulary: int = 0) -> dict[str, int]:
    """Parameters by part of a shape that a recipe gives, with its vocabulary; see `count`."""
    return count(architecture_of(shape, vocabulary))

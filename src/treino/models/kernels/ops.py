"""The kernels as differentiable functions on bfloat16 tensors of tokens: what a Transformer computes, fused.

Each function's formula stands in its docstring; the plain form stands in `models/transformer.py`, and a test compares them.
Tensors are (tokens, …) and contiguous unless something else is said; weights are float32, rounded to bfloat16 for products.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from treino.models.kernels.build import library

if TYPE_CHECKING:
    from treino.models.nf4 import Quantised

HEAD_SIZES = (32, 64, 96, 128)


@dataclass(frozen=True)
class Heads:
    """How the columns of a joint query-key-value tensor are shared out: `queries` + 2 · `keys` heads of `size` numbers."""

    queries: int
    keys: int
    size: int


class _Problem(ctypes.Structure):
    """The same as `Problem` in attention.cpp."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("rows", "length", "heads", "kv_heads", "size")),
        *((name, ctypes.c_long * 3) for name in ("q", "k", "v")),
        ("rotation", ctypes.c_long),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("first", "cosine", "sine")),
        ("threads", ctypes.c_int),
    )


def _call(name: str, *arguments: Any) -> int:
    kernels = library()
    assert kernels is not None
    return getattr(kernels, name)(*arguments)


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _long(value: int) -> ctypes.c_long:
    return ctypes.c_long(value)


class AddNorm(Function):
    """(x, delta, w) ↦ (s, y): s = x + delta, y = s / √(mean(s²) + ε) · w. x and s float32, delta and y bfloat16.

    Without `delta`, s is x and is not returned again: the result is y alone.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Any:
        x = x.contiguous()
        tokens, width = x.numel() // x.shape[-1], x.shape[-1]
        y = torch.empty_like(x, dtype=torch.bfloat16)
        total = x if delta is None else torch.empty_like(x)
        roots = torch.empty(tokens)
        _call(
            "treino_norm_forward",
            *(_long(tokens), _long(width), _at(x), _at(delta), _at(weight), ctypes.c_float(epsilon)),
            *(_at(None if delta is None else total), _at(y), _at(roots), torch.get_num_threads()),
        )
        ctx.save_for_backward(total, weight, roots)
        ctx.added = delta is not None
        return y if delta is None else (total, y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        total, weight, roots = ctx.saved_tensors
        above, dy = gradients if ctx.added else (None, gradients[0])
        dy = torch.zeros_like(total, dtype=torch.bfloat16) if dy is None else dy.contiguous()
        above = None if above is None else above.contiguous()
        ds = torch.empty_like(total)
        narrowed = torch.empty_like(dy) if ctx.added else None
        threads, width = torch.get_num_threads(), total.shape[-1]
        dweight = torch.empty(threads, width)
        _call(
            "treino_norm_backward",
            *(_long(len(roots)), _long(width), _at(dy), _at(above), _at(total), _at(weight), _at(roots)),
            *(_at(ds), _at(narrowed), _at(dweight), threads),
        )
        return ds, narrowed, dweight.sum(0), None


def linear(x: Tensor, *layers: nn.Linear) -> Tensor:
    """[x W₁ᵀ + b₁ | … | x Wₙᵀ + bₙ] as one product."""
    return Linear.apply(x, *(layer.weight for layer in layers), *(layer.bias for layer in layers))


class Linear(Function):
    """(x, W₁, …, Wₙ, b₁, …, bₙ) ↦ [x W₁ᵀ + b₁ | … | x Wₙᵀ + bₙ]; all biases are there, or all are None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        half = len(parameters) // 2
        weights, biases = parameters[:half], parameters[half:]
        narrow = narrowed(weights)
        ctx.save_for_backward(x, narrow)
        ctx.sizes = [len(weight) for weight in weights]
        y = x @ narrow.t()
        return y if biases[0] is None else y.add_(torch.cat(biases))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, narrow = ctx.saved_tensors
        dx = dy @ narrow if ctx.needs_input_grad[0] else None
        dy, x, wanted, count = dy.flatten(0, -2), x.flatten(0, -2), ctx.needs_input_grad[1:], len(ctx.sizes)
        found: list[Tensor | None] = [None] * len(wanted)
        if any(wanted[:count]):
            found[:count] = [part.float() for part in (dy.t() @ x).split(ctx.sizes)]
        if any(wanted[count:]):
            found[count:] = (dy.new_ones(1, len(dy)) @ dy)[0].float().split(ctx.sizes)
        return (dx, *(part if needed else None for part, needed in zip(found, wanted, strict=True)))


def narrowed(weights: Sequence[Tensor]) -> Tensor:
    """Matrices of one width, below each other, in bfloat16."""
    if len(weights) == 1:
        return weights[0].bfloat16()
    joint = weights[0].new_empty(sum(map(len, weights)), weights[0].shape[1], dtype=torch.bfloat16)
    for part, weight in zip(joint.split([len(weight) for weight in weights]), weights, strict=True):
        part.copy_(weight)
    return joint


class SwiGLU(Function):
    """[g | u] ↦ g · σ(g) · u."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        width = gate_up.shape[-1] // 2
        y = gate_up.new_empty(*gate_up.shape[:-1], width)
        tokens = y.numel() // width
        _call("treino_swiglu_forward", *(_long(tokens), _long(width), _at(gate_up), _at(y), torch.get_num_threads()))
        ctx.save_for_backward(gate_up)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        dy, gradient = dy.contiguous(), torch.empty_like(gate_up)
        width = dy.shape[-1]
        _call(
            "treino_swiglu_backward",
            *(_long(dy.numel() // width), _long(width), _at(gate_up), _at(dy), _at(gradient), torch.get_num_threads()),
        )
        return gradient


class RotaryAttention(Function):
    """softmax(R(q) R(k)ᵀ / √d, over first[i] ≤ j ≤ i) v for each head.

    qkv: (rows, length, (queries + 2 · keys) · size); cosine, sine: (rows or 1, length, size / 2) float32, or None for no
    rotation; first: (rows, length) int32, the first place that each place sees. Returns (rows, length, queries · size).
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cosine: Tensor | None, sine: Tensor | None, first: Tensor, heads: Heads
    ) -> Tensor:
        numbers = [heads.queries, heads.keys, heads.size]
        out, sums = torch.ops.treino.attention(qkv, cosine, sine, first, numbers)
        ctx.save_for_backward(qkv, cosine, sine, first, out, sums)
        ctx.heads = numbers
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        qkv, cosine, sine, first, out, sums = ctx.saved_tensors
        result = torch.ops.treino.attention_backward(gradient, qkv, cosine, sine, first, out, sums, ctx.heads)
        return result, None, None, None, None


LIBRARY = torch.library.Library("treino", "DEF")
"""Where torch knows attention by name, with the shapes of what comes out, so that its tracers see through it. The derivative
is `RotaryAttention`'s: forward and backward take 8 µs more than bare calls so, 30 where torch.library registers it."""

LIBRARY.define("attention(Tensor qkv, Tensor? cosine, Tensor? sine, Tensor first, int[] heads) -> (Tensor, Tensor)")
LIBRARY.define(
    "attention_backward(Tensor gradient, Tensor qkv, Tensor? cosine, Tensor? sine, Tensor first, Tensor out, Tensor sums, "
    "int[] heads) -> Tensor"
)
LIBRARY.impl(
    "attention",
    lambda qkv, cosine, sine, first, heads: attention_forward(qkv, cosine, sine, first, Heads(*heads)),
    "CPU",
)
LIBRARY.impl(
    "attention_backward",
    lambda gradient, qkv, cosine, sine, first, out, sums, heads: attention_backward(
        gradient, qkv, cosine, sine, first, out, sums, Heads(*heads)
    ),
    "CPU",
)


@torch.library.register_fake("treino::attention", lib=LIBRARY)
def _attention_shapes(
    qkv: Tensor, cosine: Tensor | None, sine: Tensor | None, first: Tensor, heads: list[int]
) -> tuple[Tensor, Tensor]:
    (queries, _, size), (rows, length, _) = heads, qkv.shape
    return qkv.new_empty(rows, length, queries * size), qkv.new_empty(rows, queries, length, dtype=torch.float32)


@torch.library.register_fake("treino::attention_backward", lib=LIBRARY)
def _gradient_shape(gradient: Tensor, qkv: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(qkv)


def attention_forward(
    qkv: Tensor, cosine: Tensor | None, sine: Tensor | None, first: Tensor, heads: Heads
) -> tuple[Tensor, Tensor]:
    """Attention's output, and log Σ exp of each row of scores, (rows, queries, length)."""
    out = qkv.new_empty(*qkv.shape[:2], heads.queries * heads.size)
    sums = qkv.new_empty(qkv.shape[0], heads.queries, qkv.shape[1], dtype=torch.float32)
    problem = _problem(qkv, cosine, sine, first, heads)
    failed = _call("treino_attention_forward", ctypes.byref(problem), *_views(qkv, heads), _at(out), _at(sums))
    assert not failed, f"no kernel for heads of {heads.size}"
    return out, sums


def attention_backward(
    gradient: Tensor,
    qkv: Tensor,
    cosine: Tensor | None,
    sine: Tensor | None,
    first: Tensor,
    out: Tensor,
    sums: Tensor,
    heads: Heads,
) -> Tensor:
    """The gradient of qkv, in its layout."""
    result, gradient = torch.empty_like(qkv), gradient.contiguous()
    _call(
        "treino_attention_backward",
        *(ctypes.byref(_problem(qkv, cosine, sine, first, heads)), _at(gradient), *_views(qkv, heads)),
        *(_at(out), _at(sums), *_views(result, heads)),
    )
    return result


def _views(qkv: Tensor, heads: Heads) -> tuple[ctypes.c_void_p, ...]:
    """Where queries, keys and values begin."""
    begins = (0, heads.queries, heads.queries + heads.keys)
    return tuple(ctypes.c_void_p(qkv.data_ptr() + qkv.element_size() * heads.size * begin) for begin in begins)


def _problem(qkv: Tensor, cosine: Tensor | None, sine: Tensor | None, first: Tensor, heads: Heads) -> _Problem:
    assert qkv.is_contiguous() and first.is_contiguous() and first.dtype == torch.int32
    strides = (ctypes.c_long * 3)(qkv.stride(0), qkv.stride(1), heads.size)
    rotation = 0 if cosine is None or len(cosine) == 1 else cosine.stride(0)
    return _Problem(
        *(qkv.shape[0], qkv.shape[1], heads.queries, heads.keys, heads.size, strides, strides, strides),
        *(rotation, heads.size**-0.5, first.data_ptr()),
        *(None if table is None else table.data_ptr() for table in (cosine, sine)),
        torch.get_num_threads(),
    )


def cross_entropy_(logits: Tensor, targets: Tensor, *, gradients: bool) -> Tensor:
    """Losses (tokens,) float32 of logits (tokens, vocabulary) bfloat16, which become softmax(z) − onehot(target) in place
    where `gradients` are wanted. A target outside the vocabulary gives 0 and no gradient.
    """
    losses = torch.empty(len(logits))
    _call(
        "treino_cross_entropy",
        *(_long(len(logits)), _long(logits.shape[1]), _at(logits), _at(targets), _at(losses)),
        *(int(gradients), torch.get_num_threads()),
    )
    return losses


def nf4_values(quantised: Quantised, out: Tensor) -> Tensor:
    """Values of NF4 weights in bfloat16, written to `out`; their number is a multiple of 64."""
    codes, table = _nf4_tables()
    _call(
        "treino_nf4_widen",
        *(_long(len(quantised.scales)), _at(quantised.nibbles), _at(quantised.scales), _at(quantised.coarse)),
        *(ctypes.c_float(float(quantised.offset)), _at(codes), _at(table), _at(out), torch.get_num_threads()),
    )
    return out


@functools.cache
def _nf4_tables() -> tuple[Tensor, Tensor]:
    from treino.models.blockwise import dynamic_codes
    from treino.models.nf4 import CODES

    return torch.tensor(CODES), dynamic_codes()


class _Moment(ctypes.Structure):
    """The same as `Moment` in optimiser.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("bytes", "scales", "codes", "middles")),
        *((name, ctypes.c_float) for name in ("beta", "rest")),
    )


def adamw8_step(
    parameter: Tensor,
    gradient: Tensor,
    moments: Sequence[tuple[Tensor, Tensor, Tensor, float]],
    *,
    rate: float,
    root: float,
    epsilon: float,
    shrink: float,
) -> None:
    """A step of AdamW on moments in 8 bits: (bytes, scales, codes, β) of the first and of the second.

    p ← (1 − shrink)·p − rate · m / (√v / root + ε), with m and v as they are after the gradient.
    """
    middles = [(codes[:-1] + codes[1:]) / 2 for _, _, codes, _ in moments]
    first, second = (
        _Moment(*(value.data_ptr() for value in (narrow, scales, codes, between)), beta, 1 - beta)
        for (narrow, scales, codes, beta), between in zip(moments, middles, strict=True)
    )
    _call(
        "treino_adamw8_step",
        *(_long(parameter.numel()), _at(parameter), _at(gradient), ctypes.byref(first), ctypes.byref(second)),
        *(ctypes.c_float(value) for value in (rate, root, epsilon, shrink)),
        torch.get_num_threads(),
    )

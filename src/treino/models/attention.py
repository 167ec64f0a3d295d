"""Who computes attention, and in which form it is told what each place sees: decided here, for every model.

Three compute the same numbers, up to rounding:

- our kernel (`kernels/attention.cpp`), under bfloat16 on a CPU where nothing is remembered: it skips what a place does not see;
- torch's flex attention (2412.05496), for rows of several documents on CUDA: it skips blocks of 128 × 128 pairs of which none
  may see each other, where a mask would take length² numbers a row and the fast kernels, which read none;
- torch's scaled dot-product attention for all else: rows of one document need no mask there (flash, on CUDA).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from treino import events
from treino.models.kernels import ops, usable

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from treino.models.transformer import KeyValueCache

FLEX_DEVICES = {"cuda"}
"""On a CPU and on mps flex attention has no backward pass."""

SMALLEST_FLEX_HEAD = 16
"""Numbers of a head that flex attention multiplies at least."""


@dataclass(frozen=True)
class Sight:
    """What each place of a batch sees, once for all layers; where nothing is set, itself and every place before it.

    Attributes:
        first: for our kernel, the first place that each place sees, (rows, length), int32.
        blocks: for flex attention, which blocks of pairs it computes, and which pairs in them.
        mask: for torch's, 0 where a pair may see each other and −∞ elsewhere, (rows or 1, 1, length, places).
    """

    first: Tensor | None = None
    blocks: BlockMask | None = None
    mask: Tensor | None = None


def sight(x: Tensor, size: int, segments: Tensor | None, cache: KeyValueCache | None, *, kernels: bool = True) -> Sight:
    """What places x (rows, length, width) see with heads of `size` numbers, in the form of whoever computes it.

    `segments` as in `LanguageModel.hidden`; `cache`: what was read before them; `kernels`: whether the model is one that our
    kernels know.
    """
    if cache is None and kernels and size in ops.HEAD_SIZES and usable(x):
        return Sight(first=first_places(segments, x))
    if cache is None and segments is not None and flex_serves(x, size):
        return Sight(blocks=document_blocks(segments))
    return Sight(mask=attention_mask(segments, cache, x))


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Sight) -> Tensor:
    """softmax(q·kᵀ / √d) · v over what is seen: q (rows, heads, length, d); k and v (rows, kv heads, places, d), the heads of
    the queries being a multiple of theirs. By torch: one place alone sees everything that it is given.
    """
    grouped = q.shape[1] != k.shape[1]
    if seen.blocks is not None:
        return _flex(q.device.type)(q, k, v, block_mask=seen.blocks, enable_gqa=grouped)
    causal = seen.mask is None and q.shape[2] > 1
    # Only flash shares keys among heads without a copy of them, and it takes half precision and no mask.
    shares = q.is_cuda and q.dtype != torch.float32 and seen.mask is None
    if grouped and not shares:
        times = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    return F.scaled_dot_product_attention(q, k, v, seen.mask, is_causal=causal, enable_gqa=grouped and shares)


def flex_serves(x: Tensor, size: int) -> bool:
    """Whether flex attention can compute what follows from x; dropout does not matter, for none is within attention."""
    if x.device.type not in FLEX_DEVICES or size < SMALLEST_FLEX_HEAD:
        return False
    return torch.compiler.is_compiling() or flex_works(x.device.type)


@functools.cache
def flex_works(device: str) -> bool:
    """Whether flex attention can be compiled here, both ways; told once where it cannot (no triton, a GPU too old)."""
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
            x = torch.ones(1, 1, 128, 32, device=device, requires_grad=True)
            segments = torch.zeros(1, 128, dtype=torch.int64, device=device)
            _flex(device)(x, x, x, block_mask=document_blocks(segments), enable_gqa=False).sum().backward()
    except Exception as error:  # the compiler's failures have no common kind
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        events.emit("warning.flex_failed", reason=reason)
        return False
    return True


def _flex(device: str) -> Callable[..., Any]:
    """Flex attention; compiled on a GPU, unless all around it is, for as it is it would write down all scores."""
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention if device == "cpu" or torch.compiler.is_compiling() else _compiled(flex_attention)


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)


def document_blocks(segments: Tensor) -> BlockMask:
    """Blocks of pairs of places of one document, the later of which sees the earlier; segments: (rows, length).

    Padding is a segment of its own (−1), so every place sees at least itself.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (segments[row, query] == segments[row, key])

    rows, length = segments.shape
    device = segments.device.type
    make = create_block_mask if device == "cpu" or torch.compiler.is_compiling() else _compiled(create_block_mask)
    return make(sees, rows, None, length, length, device=str(segments.device))


def attention_mask(segments: Tensor | None, cache: KeyValueCache | None, x: Tensor) -> Tensor | None:
    """What is added to the scores of places x (rows, length, width) behind those of a memory; None: every earlier place is
    seen.
    """
    length = x.shape[1]
    before = cache.filled if cache else 0
    if cache and isinstance(before, Tensor):
        own = before + torch.arange(length, device=x.device)
        there = torch.arange(cache.reach(length), device=x.device)
        return additive((there <= own[:, :, None])[:, None], x)
    assert isinstance(before, int)
    if segments is not None:
        # Padding is a segment of its own (−1), so every place sees at least itself and no row of the softmax is empty.
        mask = (segments[:, :, None] == segments[:, None, :]) & causal_mask(length, 0, x.device)
        return additive(mask[:, None], x)
    return additive(causal_mask(length, before, x.device), x) if before and length > 1 else None


def causal_mask(length: int, before: int, device: torch.device) -> Tensor:
    """(length, before + length): place i may see the `before` earlier ones and its own row up to itself."""
    return torch.ones(length, before + length, dtype=torch.bool, device=device).tril(before)


def additive(allowed: Tensor, x: Tensor) -> Tensor:
    """0 where a pair may see each other, −∞ elsewhere, in the number format that attention computes in: made once here, or
    every layer would make (and keep) its own.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return torch.zeros(allowed.shape, dtype=dtype, device=x.device).masked_fill_(~allowed, -torch.inf)


def first_places(segments: Tensor | None, x: Tensor) -> Tensor:
    """The first place of the segment that each place belongs to, (rows, length), int32; segments are runs of one number."""
    if segments is None:
        return torch.zeros(x.shape[:2], dtype=torch.int32, device=x.device)
    places = torch.arange(segments.shape[1], dtype=torch.int32, device=segments.device).expand(segments.shape)
    begins = F.pad(segments[:, 1:] != segments[:, :-1], (1, 0))
    return torch.where(begins, places, 0).cummax(1).values.to(torch.int32)

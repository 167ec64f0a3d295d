"""A decoder-only Transformer of the Llama architecture (Touvron et al. 2023), with `LlamaForCausalLM`'s parameter names.

Pre-norm blocks x ← x + Attention(RMSNorm(x)), x ← x + SwiGLU(RMSNorm(x)); rotary positions; keys and values shared by
groups of heads; no biases; input and output tables tied or not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treino.models.base import LanguageModel
from treino.models.head import head_loss
from treino.models.kernels import ops, usable

if TYPE_CHECKING:
    from treino.recipe import ModelSettings

INITIAL_DEVIATION = 0.02


@dataclass
class KeyValueCache:
    """Keys and values of every layer, (layers, rows, kv heads, length, head size), and how many places are filled."""

    keys: Tensor
    values: Tensor
    filled: int = 0


@dataclass(frozen=True)
class Places:
    """What the layers need to know of places.

    Attributes:
        cosine, sine: rotations, (rows or 1, length, head size / 2), float32.
        mask: 0 where a pair may see each other, −∞ elsewhere, (rows, 1, length, length); None: every earlier place.
        first: instead of a mask, for our own kernels: the first place that each place sees, (rows, length), int32.
    """

    cosine: Tensor
    sine: Tensor
    mask: Tensor | None = None
    first: Tensor | None = None

    @property
    def fused(self) -> bool:
        """Whether the layers compute with our own kernels."""
        return self.first is not None


class RMSNorm(nn.Module):
    """(x, delta) ↦ (s, s / √(mean(s²) + ε) · weight) with s = x + delta, the root in float32 (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor, delta: Tensor | None = None, *, fused: bool = False) -> tuple[Tensor, Tensor]:
        if fused:
            result = ops.AddNorm.apply(x, delta, self.weight, self.epsilon)
            return result if delta is not None else (x, result)
        x = x if delta is None else x + delta
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return x, self.weight * wide.to(x.dtype)


class Attention(nn.Module):
    """softmax(q·kᵀ / √d) · v over earlier places of the same document; `kv_heads` keys and values serve `heads` queries."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.heads, self.kv_heads = settings.heads, settings.kv_heads
        self.size = settings.width // settings.heads
        self.q_proj = nn.Linear(settings.width, self.heads * self.size, bias=False)
        self.k_proj = nn.Linear(settings.width, self.kv_heads * self.size, bias=False)
        self.v_proj = nn.Linear(settings.width, self.kv_heads * self.size, bias=False)
        self.o_proj = nn.Linear(self.heads * self.size, settings.width, bias=False)

    def forward(self, x: Tensor, places: Places, cache: KeyValueCache | None, layer: int) -> Tensor:
        if places.fused:
            return self._fused(x, places)
        rows, length, _ = x.shape
        q = self.q_proj(x).view(rows, length, self.heads, self.size).transpose(1, 2)
        k = self.k_proj(x).view(rows, length, self.kv_heads, self.size).transpose(1, 2)
        v = self.v_proj(x).view(rows, length, self.kv_heads, self.size).transpose(1, 2)
        q, k = rotate(q, places), rotate(k, places)
        causal = places.mask is None
        if cache is not None:
            span = slice(cache.filled, cache.filled + length)
            cache.keys[layer, :, :, span], cache.values[layer, :, :, span] = k, v
            k, v = cache.keys[layer, :, :, : span.stop], cache.values[layer, :, :, : span.stop]
        if self.kv_heads != self.heads:
            k = k.repeat_interleave(self.heads // self.kv_heads, 1)
            v = v.repeat_interleave(self.heads // self.kv_heads, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=places.mask, is_causal=causal and length > 1)
        return self.o_proj(mixed.transpose(1, 2).reshape(rows, length, -1))

    def _fused(self, x: Tensor, places: Places) -> Tensor:
        qkv = ops.Linear.apply(x, self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        heads = ops.Heads(self.heads, self.kv_heads, self.size)
        mixed = ops.RotaryAttention.apply(qkv, places.cosine, places.sine, places.first, heads)
        return ops.Linear.apply(mixed, self.o_proj.weight)


class FeedForward(nn.Module):
    """SwiGLU: W_down (silu(W_gate x) ⊙ W_up x) (Shazeer 2020)."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(settings.width, settings.feed_forward, bias=False)
        self.up_proj = nn.Linear(settings.width, settings.feed_forward, bias=False)
        self.down_proj = nn.Linear(settings.feed_forward, settings.width, bias=False)

    def forward(self, x: Tensor, *, fused: bool = False) -> Tensor:
        if fused:
            gate_up = ops.Linear.apply(x, self.gate_proj.weight, self.up_proj.weight)
            return ops.Linear.apply(ops.SwiGLU.apply(gate_up), self.down_proj.weight)
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and beside the residual path x ← x + delta.

    The last delta is handed on, so that each norm adds the one before it in the same pass over memory.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.self_attn = Attention(settings)
        self.mlp = FeedForward(settings)
        self.input_layernorm = RMSNorm(settings.width, settings.norm_epsilon)
        self.post_attention_layernorm = RMSNorm(settings.width, settings.norm_epsilon)
        self.dropout = settings.dropout

    def forward(
        self, x: Tensor, delta: Tensor | None, places: Places, cache: KeyValueCache | None, layer: int
    ) -> tuple[Tensor, Tensor]:
        x, normed = self.input_layernorm(x, delta, fused=places.fused)
        delta = self._drop(self.self_attn(normed, places, cache, layer))
        x, normed = self.post_attention_layernorm(x, delta, fused=places.fused)
        return x, self._drop(self.mlp(normed, fused=places.fused))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class Body(nn.Module):
    """The tables and blocks under the head."""

    def __init__(self, settings: ModelSettings, vocabulary: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, settings.width)
        self.layers = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = RMSNorm(settings.width, settings.norm_epsilon)


class Transformer(LanguageModel):
    """A Llama-architecture language model; see the module for the formulas.

    Weights start normal with deviation 0.02; those that write into the residual path are divided by √(2 · layers), so that
    its variance does not grow with depth (Radford et al. 2019).
    """

    def __init__(self, settings: ModelSettings, vocabulary: int) -> None:
        super().__init__(settings, vocabulary)
        self.model = Body(settings, vocabulary)
        self.lm_head = nn.Linear(settings.width, vocabulary, bias=False)
        if settings.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                into_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = 1 / math.sqrt(2 * self.settings.layers) if into_residual else 1.0
                nn.init.normal_(parameter, std=INITIAL_DEVIATION * scale)

    def hidden(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        before = cache.filled if cache else 0
        if positions is None:
            positions = torch.arange(before, before + ids.shape[1], device=ids.device)[None]
        x = F.dropout(self.model.embed_tokens(ids), self.settings.dropout, self.training)
        places = self._places(positions, segments, cache, x)
        delta = None
        for layer, block in enumerate(self.model.layers):
            x, delta = block(x, delta, places, cache, layer)
        if cache:
            cache.filled += ids.shape[1]
        return self.model.norm(x, delta, fused=places.fused)[1]

    def _places(self, positions: Tensor, segments: Tensor | None, cache: KeyValueCache | None, x: Tensor) -> Places:
        size, length = self.settings.width // self.settings.heads, x.shape[1]
        cosine, sine = rotations(positions, size, self.settings.rope_theta)
        if cache is None and size in ops.HEAD_SIZES and usable(x):
            return Places(cosine, sine, first=first_places(segments, x))
        mask, before = None, cache.filled if cache else 0
        if segments is not None:
            # Padding is a segment of its own (−1), so every place sees at least itself and no row of the softmax is empty.
            mask = (segments[:, :, None] == segments[:, None, :]) & causal_mask(length, 0, x.device)
            mask = additive(mask[:, None], x)
        elif before and length > 1:
            mask = additive(causal_mask(length, before, x.device), x)
        return Places(cosine, sine, mask)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return head_loss(hidden, self.lm_head.weight, None, targets)

    def parts(self) -> list[list[nn.Parameter]]:
        layers = [list(block.parameters()) for block in self.model.layers]
        layers[-1] += list(self.model.norm.parameters())
        return [list(self.model.embed_tokens.parameters()), *layers]

    def matrices(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.layers.parameters() if parameter.ndim == 2]

    def new_cache(self, rows: int, length: int) -> KeyValueCache:
        table = self.model.embed_tokens.weight
        size = self.settings.width // self.settings.heads
        shape = (self.settings.layers, rows, self.settings.kv_heads, length, size)
        return KeyValueCache(table.new_zeros(shape), table.new_zeros(shape))


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


def rotations(positions: Tensor, size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position · θ^(−2i/d), i < d/2: (rows, length, d/2) (Su et al. 2021)."""
    rates = theta ** -(torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size)
    angles = positions.float()[:, :, None] * rates
    return angles.cos(), angles.sin()


def rotate(x: Tensor, places: Places) -> Tensor:
    """Rotate each pair (x_i, x_{i+d/2}), in the order of Llama, by its angle; x: (rows, heads, length, d)."""
    cosine, sine = places.cosine[:, None].to(x.dtype), places.sine[:, None].to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)

"""A decoder-only Transformer of the Llama architecture (Touvron et al. 2023), with `LlamaForCausalLM`'s parameter names.

Pre-norm blocks x ← x + Attention(RMSNorm(x)), x ← x + SwiGLU(RMSNorm(x)); rotary positions; keys and values shared by
groups of heads; input and output tables tied or not. A loaded family may add biases, norms of queries and keys, a head
size of its own and stretched rotary rates (`treino.models.families`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treino.models.attention import Sight, attend, sight
from treino.models.base import Cache, LanguageModel
from treino.models.families import OWN, Family, RopeScaling
from treino.models.head import head_loss
from treino.models.kernels import ops
from treino.models.lora import linear

if TYPE_CHECKING:
    from treino.recipe import ModelSettings

INITIAL_DEVIATION = 0.02


class KeyValueCache(Cache):
    """Keys and values of every layer, (layers, rows, kv heads, length, head size), laid out once; each row is filled up to a
    place of its own.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.counts = [0] * keys.shape[1]
        self._of(range(keys.shape[1]))

    def of(self, rows: Sequence[int]) -> KeyValueCache:
        part = copy.copy(self)  # of the same tensors and counts
        part._of(rows)
        return part

    def _of(self, rows: Sequence[int]) -> None:
        self._rows, device = list(rows), self.keys.device
        self._whole = self._rows == list(range(self.keys.shape[1]))
        self._index = torch.tensor(self._rows, device=device)

    def forget(self, row: int) -> None:
        self.counts[row] = 0

    @property
    def filled(self) -> int | Tensor:
        """Places that are filled in the rows of this part; where they differ, of each row: (rows, 1)."""
        counts = [self.counts[row] for row in self._rows]
        if len(set(counts)) <= 1:
            return counts[0] if counts else 0
        return torch.tensor(counts, device=self.keys.device)[:, None]

    def store(self, layer: int, k: Tensor, v: Tensor, filled: int | Tensor) -> tuple[Tensor, Tensor]:
        """Put keys and values of new places, (rows, kv heads, new, head size), behind the `filled` ones; returns all up to
        the longest row's last, what stands there of shorter rows being of no meaning.
        """
        new = k.shape[2]
        for whole, part in ((self.keys[layer], k), (self.values[layer], v)):
            if isinstance(filled, int) and self._whole:
                whole[:, :, filled : filled + new] = part
            else:
                places = filled + torch.arange(new, device=part.device)
                whole[self._index[:, None], :, places] = part.transpose(1, 2).to(whole.dtype)
        reach = self.reach(new)
        span = self.keys[layer, :, :, :reach], self.values[layer, :, :, :reach]
        return span if self._whole else (span[0][self._index], span[1][self._index])

    def reach(self, new: int) -> int:
        """Places up to the last of the longest row, when so many new ones are stored."""
        return max(self.counts[row] for row in self._rows) + new

    def advance(self, new: int) -> None:
        """All layers have stored so many more places."""
        for row in self._rows:
            self.counts[row] += new


class StepCache(KeyValueCache):
    """The memory of another one for a step of one token in every row, told on the device alone where each stands: every step
    is the same work on the same tensors, which a CUDA graph can repeat.

    places: of each row's token, (rows, 1), int64; a place behind the last that a text can have is for rows that rest.
    """

    def __init__(self, whole: KeyValueCache, places: Tensor) -> None:
        super().__init__(whole.keys, whole.values)
        self.places = places

    @property
    def filled(self) -> Tensor:
        return self.places

    def store(self, layer: int, k: Tensor, v: Tensor, filled: int | Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.keys[layer], self.values[layer]
        for whole, part in ((keys, k), (values, v)):
            whole[self._index[:, None], :, self.places] = part.transpose(1, 2).to(whole.dtype)
        return keys, values

    def reach(self, new: int) -> int:
        return self.keys.shape[3]

    def advance(self, new: int) -> None:
        """Who fills the places counts them."""


@dataclass(frozen=True)
class Places:
    """What the layers need to know of places.

    Attributes:
        cosine, sine: rotations, (rows or 1, length, head size / 2), float32.
        seen: what each place sees.
        filled: places of a memory that stand before these, as `KeyValueCache.filled` has them.
    """

    cosine: Tensor
    sine: Tensor
    seen: Sight
    filled: int | Tensor = 0

    @property
    def fused(self) -> bool:
        """Whether the layers compute with our own kernels."""
        return self.seen.first is not None


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

    def __init__(self, settings: ModelSettings, family: Family = OWN) -> None:
        super().__init__()
        self.heads, self.kv_heads = settings.heads, settings.kv_heads
        self.size = head_size(settings, family)
        self.q_proj = nn.Linear(settings.width, self.heads * self.size, bias=family.qkv_bias)
        self.k_proj = nn.Linear(settings.width, self.kv_heads * self.size, bias=family.qkv_bias)
        self.v_proj = nn.Linear(settings.width, self.kv_heads * self.size, bias=family.qkv_bias)
        self.o_proj = nn.Linear(self.heads * self.size, settings.width, bias=family.output_bias)
        self.q_norm = nn.RMSNorm(self.size, settings.norm_epsilon) if family.query_key_norm else None
        self.k_norm = nn.RMSNorm(self.size, settings.norm_epsilon) if family.query_key_norm else None

    def project(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values as attention takes them, each (rows, its heads, length, head size)."""
        rows, length, _ = x.shape
        q = self.q_proj(x).view(rows, length, self.heads, self.size)
        k = self.k_proj(x).view(rows, length, self.kv_heads, self.size)
        v = self.v_proj(x).view(rows, length, self.kv_heads, self.size)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q.float()).to(q.dtype), self.k_norm(k.float()).to(k.dtype)
        return rotate(q.transpose(1, 2), places), rotate(k.transpose(1, 2), places), v.transpose(1, 2)

    def output(self, mixed: Tensor) -> Tensor:
        """(rows, length, heads · head size) to (rows, length, width)."""
        return self.o_proj(mixed)

    def forward(self, x: Tensor, places: Places, cache: KeyValueCache | None, layer: int) -> Tensor:
        if places.fused:
            return self._fused(x, places)
        rows, length, _ = x.shape
        q, k, v = self.project(x, places)
        if cache is not None:
            k, v = cache.store(layer, k, v, places.filled)
        mixed = attend(q, k, v, places.seen)
        return self.output(mixed.transpose(1, 2).reshape(rows, length, -1))

    def _fused(self, x: Tensor, places: Places) -> Tensor:
        qkv = linear(x, self.q_proj, self.k_proj, self.v_proj)
        if self.q_norm is not None and self.k_norm is not None:
            q, k, v = qkv.split([self.heads * self.size, *2 * (self.kv_heads * self.size,)], -1)
            q, k = (
                norm(part.unflatten(-1, (-1, self.size)).float()) for norm, part in ((self.q_norm, q), (self.k_norm, k))
            )
            qkv = torch.cat((q.flatten(-2).to(v.dtype), k.flatten(-2).to(v.dtype), v), -1)
        heads = ops.Heads(self.heads, self.kv_heads, self.size)
        mixed = ops.RotaryAttention.apply(qkv, places.cosine, places.sine, places.seen.first, heads)
        return linear(mixed, self.o_proj)


class FeedForward(nn.Module):
    """SwiGLU: W_down (silu(W_gate x) ⊙ W_up x) (Shazeer 2020)."""

    def __init__(self, settings: ModelSettings, family: Family = OWN) -> None:
        super().__init__()
        bias = family.feed_forward_bias
        self.gate_proj = nn.Linear(settings.width, settings.feed_forward, bias=bias)
        self.up_proj = nn.Linear(settings.width, settings.feed_forward, bias=bias)
        self.down_proj = nn.Linear(settings.feed_forward, settings.width, bias=bias)

    def forward(self, x: Tensor, *, fused: bool = False) -> Tensor:
        if fused:
            gate_up = linear(x, self.gate_proj, self.up_proj)
            return linear(ops.SwiGLU.apply(gate_up), self.down_proj)
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and beside the residual path x ← x + delta.

    The last delta is handed on, so that each norm adds the one before it in the same pass over memory.
    """

    def __init__(self, settings: ModelSettings, family: Family = OWN) -> None:
        super().__init__()
        self.self_attn = Attention(settings, family)
        self.mlp = FeedForward(settings, family)
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

    def __init__(self, settings: ModelSettings, vocabulary: int, family: Family = OWN) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, settings.width)
        self.layers = nn.ModuleList(Block(settings, family) for _ in range(settings.layers))
        self.norm = RMSNorm(settings.width, settings.norm_epsilon)


class Transformer(LanguageModel):
    """A Llama-architecture language model; see the module for the formulas.

    Weights start normal with deviation 0.02; those that write into the residual path are divided by √(2 · layers), so that
    its variance does not grow with depth (Radford et al. 2019).
    """

    def __init__(self, settings: ModelSettings, vocabulary: int, family: Family = OWN) -> None:
        super().__init__(settings, vocabulary, family)
        self.model = Body(settings, vocabulary, family)
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
            elif name.endswith(".bias"):
                nn.init.zeros_(parameter)

    def hidden(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        before = cache.filled if cache else 0
        if positions is None:
            positions = before + torch.arange(ids.shape[1], device=ids.device)[None]
        x = F.dropout(self.model.embed_tokens(ids), self.settings.dropout, self.training)
        size = head_size(self.settings, self.family)
        turns = rotations(positions, size, self.settings.rope_theta, self.family.scaling)
        places = Places(*turns, sight(x, size, segments, cache), before)
        delta = None
        for layer, block in enumerate(self.model.layers):
            x, delta = self.through(block, x, delta, places, cache, layer)
        if cache:
            cache.advance(ids.shape[1])
        return self.model.norm(x, delta, fused=places.fused)[1]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return head_loss(hidden, self.lm_head.weight, None, targets)

    def parts(self) -> list[list[nn.Parameter]]:
        layers = [list(block.parameters()) for block in self.model.layers]
        layers[-1] += list(self.model.norm.parameters())
        return [list(self.model.embed_tokens.parameters()), *layers]

    def layers_to_gather(self) -> list[nn.Module]:
        return list(self.model.layers)

    def matrices(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.layers.parameters() if parameter.ndim == 2]

    def new_cache(self, rows: int, length: int) -> KeyValueCache:
        like = self.model.norm.weight  # a token table may be stored in 16 bits, and its vectors come out in 32
        size = head_size(self.settings, self.family)
        shape = (self.settings.layers, rows, self.settings.kv_heads, length, size)
        return KeyValueCache(like.new_zeros(shape), like.new_zeros(shape))


def head_size(settings: ModelSettings, family: Family) -> int:
    """Numbers of one attention head."""
    return family.head_size or settings.width // settings.heads


def rotations(positions: Tensor, size: int, theta: float, scaling: RopeScaling | None = None) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position · rate_i, i < d/2: (rows, length, d/2) (Su et al. 2021)."""
    angles = positions.float()[:, :, None] * rope_rates(size, theta, scaling, positions.device)
    return angles.cos(), angles.sin()


def rope_rates(size: int, theta: float, scaling: RopeScaling | None, device: torch.device) -> Tensor:
    """Rates (d/2,) of the rotations in radians per place: θ^(−2i/d), stretched where the family does so by a factor f.

    `linear`: all are divided by f. `llama3` (Dubey et al. 2024): with the turns n = original context · rate / 2π, those
    below `low` are divided by f, those above `high` stay, and between them the two are mixed in proportion to n.
    """
    rates = theta ** -(torch.arange(0, size, 2, device=device, dtype=torch.float32) / size)
    if scaling is None:
        return rates
    if scaling.kind == "linear":
        return rates / scaling.factor
    turns = scaling.original * rates / (2 * math.pi)
    kept = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return kept * rates + (1 - kept) * rates / scaling.factor


def rotate(x: Tensor, places: Places) -> Tensor:
    """Rotate each pair (x_i, x_{i+d/2}), in the order of Llama, by its angle; x: (rows, heads, length, d)."""
    cosine, sine = places.cosine[:, None].to(x.dtype), places.sine[:, None].to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)

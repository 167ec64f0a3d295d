"""GPT-2 (Radford et al. 2019), with `GPT2LMHeadModel`'s parameter names.

Learned positions; pre-norm blocks x ← x + Attention(LayerNorm(x)), x ← x + W_out gelu(W_in LayerNorm(x)), gelu in its tanh
form; biases everywhere; matrices laid out (in, out), as on disk. Attention itself is the Transformer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treino.models.transformer import Attention, KeyValueCache, Places, Transformer

if TYPE_CHECKING:
    from treino.recipe import ModelSettings


class Affine(nn.Module):
    """x W + b with W (in, out): the transpose of `nn.Linear`'s, as GPT-2's folders have it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class FusedAttention(Attention):
    """The Transformer's attention behind one matrix for queries, keys and values, which are not rotated."""

    def __init__(self, settings: ModelSettings) -> None:
        nn.Module.__init__(self)
        self.heads = self.kv_heads = settings.heads
        self.size = settings.width // settings.heads
        self.c_attn = Affine(settings.width, 3 * settings.width)
        self.c_proj = Affine(settings.width, settings.width)

    def project(self, x: Tensor, places: Places) -> tuple[Tensor, Tensor, Tensor]:
        rows, length, _ = x.shape
        q, k, v = self.c_attn(x).view(rows, length, 3, self.heads, self.size).permute(2, 0, 3, 1, 4)
        return q, k, v

    def output(self, mixed: Tensor) -> Tensor:
        return self.c_proj(mixed)


class FeedForward(nn.Module):
    """W_out gelu(W_in x), gelu(u) ≈ u/2 · (1 + tanh(√(2/π) (u + 0.044715 u³))) (Hendrycks & Gimpel 2016)."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.c_fc = Affine(settings.width, settings.feed_forward)
        self.c_proj = Affine(settings.feed_forward, settings.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual path."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(settings.width, settings.norm_epsilon)
        self.attn = FusedAttention(settings)
        self.ln_2 = nn.LayerNorm(settings.width, settings.norm_epsilon)
        self.mlp = FeedForward(settings)
        self.dropout = settings.dropout

    def forward(self, x: Tensor, places: Places, cache: KeyValueCache | None, layer: int) -> Tensor:
        x = x + F.dropout(self.attn(self.ln_1(x), places, cache, layer), self.dropout, self.training)
        return x + F.dropout(self.mlp(self.ln_2(x)), self.dropout, self.training)


class Body(nn.Module):
    """Tables of tokens and positions, blocks, and the last norm."""

    def __init__(self, settings: ModelSettings, vocabulary: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, settings.width)
        self.wpe = nn.Embedding(settings.context, settings.width)
        self.h = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.ln_f = nn.LayerNorm(settings.width, settings.norm_epsilon)


class GPT2(Transformer):
    """A GPT-2 language model; see the module for the formulas. Its weights start as the Transformer's do."""

    def build(self) -> None:
        self.transformer = Body(self.settings, self.vocabulary)

    @property
    def tables(self) -> list[nn.Embedding]:
        return [self.transformer.wte, self.transformer.wpe]

    @property
    def blocks(self) -> nn.ModuleList:
        return self.transformer.h

    @property
    def final_norm(self) -> nn.Module:
        return self.transformer.ln_f

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self.transformer.wte(ids) + self.transformer.wpe(positions)

    def rotate_by(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing is rotated: positions are in the vectors."""
        nothing = torch.empty(0, device=positions.device)
        return nothing, nothing

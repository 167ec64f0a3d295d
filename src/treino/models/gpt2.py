"""GPT-2 (Radford et al. 2019), with `GPT2LMHeadModel`'s parameter names.

Learned positions; pre-norm blocks x ← x + Attention(LayerNorm(x)), x ← x + W_out gelu(W_in LayerNorm(x)), gelu in its tanh
form; biases everywhere; matrices laid out (in, out), as on disk. Attention itself is the Transformer's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treino.models.attention import sight
from treino.models.base import LanguageModel
from treino.models.families import Family
from treino.models.head import head_loss
from treino.models.transformer import INITIAL_DEVIATION, Attention, KeyValueCache, Places

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


class GPT2(LanguageModel):
    """A GPT-2 language model; see the module for the formulas. Weights start as the Transformer's do."""

    def __init__(self, settings: ModelSettings, vocabulary: int, family: Family) -> None:
        super().__init__(settings, vocabulary, family)
        self.transformer = Body(settings, vocabulary)
        self.lm_head = nn.Linear(settings.width, vocabulary, bias=False)
        if settings.tied:
            self.lm_head.weight = self.transformer.wte.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                scale = 1 / math.sqrt(2 * settings.layers) if name.endswith("c_proj.weight") else 1.0
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
            positions = before + torch.arange(ids.shape[1], device=ids.device)[None]
        x = self.transformer.wte(ids) + self.transformer.wpe(positions)
        x = F.dropout(x, self.settings.dropout, self.training)
        unrotated = torch.empty(0, device=x.device)
        size = self.settings.width // self.settings.heads
        places = Places(unrotated, unrotated, sight(x, size, segments, cache, kernels=False), before)
        for layer, block in enumerate(self.transformer.h):
            x = self.through(block, x, places, cache, layer)
        if cache:
            cache.advance(ids.shape[1])
        return self.transformer.ln_f(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return head_loss(hidden, self.lm_head.weight, None, targets)

    def parts(self) -> list[list[nn.Parameter]]:
        layers = [list(block.parameters()) for block in self.transformer.h]
        layers[-1] += list(self.transformer.ln_f.parameters())
        return [[*self.transformer.wte.parameters(), *self.transformer.wpe.parameters()], *layers]

    def layers_to_gather(self) -> list[nn.Module]:
        return list(self.transformer.h)

    def matrices(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.transformer.h.parameters() if parameter.ndim == 2]

    def new_cache(self, rows: int, length: int) -> KeyValueCache:
        settings, table = self.settings, self.transformer.wte.weight
        shape = (settings.layers, rows, settings.heads, length, settings.width // settings.heads)
        return KeyValueCache(table.new_zeros(shape), table.new_zeros(shape))

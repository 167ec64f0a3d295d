"""LitGPT's model as its pretraining trains it: compiled, autocast to bfloat16, its own cross-entropy, fused AdamW."""

from __future__ import annotations

from pathlib import Path

import torch
from litgpt.config import Config
from litgpt.model import GPT
from litgpt.utils import chunked_cross_entropy

from contenders.shapes import BETAS, CLIP, LEARNING_RATE, WEIGHT_DECAY, Shape
from contenders.tensors import batches
from contenders.turns import Turns


def model(shape: Shape) -> GPT:
    """The shape in LitGPT's terms; its tie of the two tables is the one that `litgpt pretrain` makes."""
    config = Config(
        block_size=shape.context,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.width,
        intermediate_size=shape.feed_forward,
        vocab_size=shape.vocabulary,
        padded_vocab_size=shape.vocabulary,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        parallel_residual=False,
        rotary_percentage=1.0,
        bias=False,
    )
    gpt = GPT(config)
    gpt.transformer.wte.weight = gpt.lm_head.weight
    return gpt


def run(turns: Turns, shape: Shape, data: Path) -> None:
    """Steps of a plain loop."""
    torch.manual_seed(1)
    gpt = model(shape)
    gpt.apply(gpt._init_weights)
    optimiser = torch.optim.AdamW(
        gpt.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    compiled = torch.compile(gpt)
    rows = batches(data, shape.rows)
    turns.ready()
    while turns.going:
        ids, targets = next(rows)
        with torch.autocast("cpu", torch.bfloat16):
            loss = chunked_cross_entropy(compiled(ids), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), CLIP)
        optimiser.step()
        optimiser.zero_grad()
        turns.done(loss)

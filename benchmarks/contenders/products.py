"""The fastest bfloat16 matrix product of this machine, as the measure of what training could reach."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from contenders.shapes import Shape
from contenders.turns import Turns

PRODUCTS = ((2048, 2048, 2048, 12), (4096, 4096, 4096, 2), (4096, 512, 2752, 20))
"""(rows, inner width, columns, repetitions)."""


def run(turns: Turns, _shape: Shape, _data: Path) -> None:
    """A turn's rate is the best single product of all, in FLOP/s: 2 · rows · inner · columns a product."""
    tables = [(torch.randn(m, k).bfloat16(), torch.randn(n, k).bfloat16(), count) for m, k, n, count in PRODUCTS]
    steps = turns.ready()
    while turns.going:
        started = time.perf_counter()
        rates = [_best(x, weight, count) for _ in range(steps) for x, weight, count in tables]
        turns.answer(seconds=time.perf_counter() - started, rate=max(rates), losses=[])
        steps = turns.wait()


def _best(x: torch.Tensor, weight: torch.Tensor, count: int) -> float:
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        x @ weight.t()
        seconds.append(time.perf_counter() - started)
    return 2 * x.shape[0] * x.shape[1] * weight.shape[0] / min(seconds)

"""Numbers in blocks: each block over its largest absolute value, rounded to the nearest of a few codes."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-38
"""A block of zeros is divided by this."""

GRID = 65535


@functools.cache
def dynamic_codes(signed: bool = True) -> Tensor:
    """The 256 numbers, rising, of the dynamic 8-bit format (Dettmers et al. 2022, 2110.02861): 0, 1, and for each exponent e
    of −6 … 0 the middles of 2^(e+6) equal parts of [.1, 1], times ±10^e; unsigned, of twice as many parts, times 10^e.
    """
    numbers = [0.0, 1.0]
    for exponent in range(-6, 1):
        edges = torch.linspace(0.1, 1, 2 ** (exponent + (6 if signed else 7)) + 1)
        middles = (edges[:-1] + edges[1:]) / 2
        for sign in (1, -1) if signed else (1,):
            numbers += (sign * 10**exponent * middles).tolist()
    return torch.tensor(sorted(numbers))


def largest(numbers: Tensor, block: int) -> Tensor:
    """The largest absolute value of each block, the last one perhaps shorter."""
    return F.pad(numbers, (0, -len(numbers) % block)).view(-1, block).abs().amax(1)


def nearest(numbers: Tensor, scales: Tensor, codes: Tensor, block: int, *, grid: bool = False) -> Tensor:
    """Index of the code nearest to each number over the scale of its block (the lower of two that are as near).

    `grid`: the number is first rounded to one of 65,536 steps from −1 to 1, as bitsandbytes does on a CPU for 8 bits.
    """
    unit = times(numbers, 1.0 / scales.clamp(min=SMALLEST), block).clamp(-1, 1)
    if grid:
        unit = ((unit + 1) * 0.5 * GRID + 0.5).floor() * (2 / GRID) - 1
    return torch.bucketize(unit, (codes[:-1] + codes[1:]) / 2, out_int32=True).to(torch.uint8)


def times(numbers: Tensor, factors: Tensor, block: int) -> Tensor:
    """Each number times the factor of its block."""
    padded = F.pad(numbers, (0, -len(numbers) % block)).view(-1, block)
    return (padded * factors[:, None]).flatten()[: len(numbers)]

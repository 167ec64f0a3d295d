"""4-bit NormalFloat weights with doubly quantised scales (QLoRA: Dettmers et al. 2023, 2305.14314).

A matrix is read as one line of numbers. Blocks of 64 are divided by their largest absolute value and rounded to the nearest
of sixteen codes, quantiles of a normal distribution. The scales, less their mean, are in blocks of 256 rounded to 8 bits of
a dynamic format (Dettmers et al. 2022, 2110.02861). Together 4.127 bits a weight. Codes, scales and values are those of
bitsandbytes, bit by bit; a test compares them.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treino.models.blockwise import dynamic_codes, largest, nearest, times
from treino.models.kernels import library, ops

BLOCK, SCALES_BLOCK = 64, 256
CODES = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""NF4's sixteen numbers, from the paper's appendix E."""


NAMES = ("nibbles", "scales", "coarse", "offset")
"""The parts of a matrix in NF4."""


@dataclass(frozen=True)
class Quantised:
    """A matrix in NF4.

    Attributes:
        nibbles: two codes a byte, the earlier one in the upper half, (⌈numbers / 2⌉,) uint8.
        scales: of each block, as a byte of the dynamic format, (⌈numbers / 64⌉,) uint8.
        coarse: of each 256 scales, float32.
        offset: the mean of the scales, a float32 scalar.
        shape: of the matrix.
    """

    nibbles: Tensor
    scales: Tensor
    coarse: Tensor
    offset: Tensor
    shape: torch.Size

    def fine(self) -> Tensor:
        """The scale of each block in float32: dynamic[byte] · coarse + offset."""
        return (
            times(dynamic_codes().to(self.scales.device)[self.scales.long()], self.coarse, SCALES_BLOCK) + self.offset
        )

    def values(self, dtype: torch.dtype) -> Tensor:
        """code · scale in float32, rounded to `dtype`: the matrix that a product reads."""
        numbers = self.shape.numel()
        assert len(self.nibbles) == -(-numbers // 2), "the layer is not in memory"
        if self.nibbles.device.type == "cuda" and _bitsandbytes():
            return values_by_bitsandbytes(self, dtype)
        if dtype == torch.bfloat16 and self.nibbles.device.type == "cpu" and numbers % BLOCK == 0 and library():
            return self.write(torch.empty(self.shape, dtype=dtype))
        halves = torch.stack((self.nibbles >> 4, self.nibbles & 15), -1).flatten()[:numbers]
        codes = torch.tensor(CODES, device=halves.device)[halves.long()]
        return times(codes, self.fine(), BLOCK).to(dtype).view(self.shape)

    def write(self, out: Tensor) -> Tensor:
        """The values, written to a contiguous matrix in bfloat16."""
        assert len(self.nibbles) == -(-self.shape.numel() // 2), "the layer is not in memory"
        if self.shape.numel() % BLOCK == 0 and library():
            return ops.nf4_values(self, out)
        return out.copy_(self.values(out.dtype))

    def tensors(self) -> dict[str, Tensor]:
        """What there is to store."""
        return {name: getattr(self, name) for name in NAMES}


def values_by_bitsandbytes(quantised: Quantised, dtype: torch.dtype) -> Tensor:
    """The same values by bitsandbytes' kernels."""
    from bitsandbytes.functional import QuantState, dequantize_4bit

    device = quantised.nibbles.device
    scales = QuantState(quantised.coarse, code=dynamic_codes().to(device), blocksize=SCALES_BLOCK, dtype=torch.float32)
    state = QuantState(
        quantised.scales,
        shape=quantised.shape,
        code=torch.tensor(CODES, device=device),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=dtype,
        offset=quantised.offset,
        state2=scales,
    )
    return dequantize_4bit(quantised.nibbles.view(-1, 1), state)


@functools.cache
def _bitsandbytes() -> bool:
    return importlib.util.find_spec("bitsandbytes") is not None


def quantise(weight: Tensor) -> Quantised:
    """The nearest NF4 numbers to a matrix; scales are float32 whatever its format."""
    numbers = weight.detach().flatten().float()
    scales = largest(numbers, BLOCK)
    codes = nearest(numbers, scales, torch.tensor(CODES, device=numbers.device), BLOCK)
    codes = F.pad(codes, (0, len(codes) % 2))
    offset = scales.mean()
    scales = scales - offset
    coarse = largest(scales, SCALES_BLOCK)
    narrow = nearest(scales, coarse, dynamic_codes().to(numbers.device), SCALES_BLOCK, grid=True)
    return Quantised((codes[::2] << 4) | codes[1::2], narrow, coarse, offset, weight.shape)


class NF4Linear(nn.Module):
    """x Wᵀ + b with a frozen W in NF4, made wide anew wherever it is read, in the backward pass, too."""

    nibbles: Tensor
    scales: Tensor
    coarse: Tensor
    offset: Tensor

    def __init__(self, quantised: Quantised | torch.Size, bias: Tensor | None = None) -> None:
        """`quantised`: the matrix, or its shape alone where it is yet to come."""
        super().__init__()
        self.shape = quantised if isinstance(quantised, torch.Size) else quantised.shape
        for name in NAMES:
            self.register_buffer(name, None)
        self.hold(None if isinstance(quantised, torch.Size) else quantised)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def hold(self, quantised: Quantised | None) -> None:
        """Take these numbers for the matrix; None: none, until others come."""
        for name in NAMES:
            setattr(self, name, torch.empty(0, device="cpu") if quantised is None else getattr(quantised, name))

    @property
    def quantised(self) -> Quantised:
        return Quantised(self.nibbles, self.scales, self.coarse, self.offset, self.shape)

    @property
    def in_features(self) -> int:
        return self.shape[1]

    @property
    def out_features(self) -> int:
        return self.shape[0]

    def wide(self, dtype: torch.dtype) -> Tensor:
        """W (out, in)."""
        return self.quantised.values(dtype)

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        y = _Product.apply(x.to(dtype), self)
        return y if self.bias is None else y + self.bias.to(dtype)


def in_four_bits(model: nn.Module) -> dict[str, NF4Linear]:
    """Its layers in NF4 by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, NF4Linear)}


class _Product(torch.autograd.Function):
    """x ↦ x Wᵀ; between the passes W stays narrow."""

    @staticmethod
    def forward(ctx, x, layer):
        ctx.layer = layer
        return x @ layer.wide(x.dtype).t()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[override]
        return gradient @ ctx.layer.wide(gradient.dtype), None

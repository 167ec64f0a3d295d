"""In which number format a training computes: a table by device and by what it can do, so that no run has to measure it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from treino import environment
from treino.messages import N_, Message
from treino.training.plan import Precision

Ability = Literal["narrow model", "limited", "kernels", "products", "none"]

NARROW = 64
"""Widths below it: products so small that rounding their inputs costs more than it gains (two thirds of the speed of float32 at
32 on a CPU, 2.5 times at 64)."""

TABLE: dict[tuple[str, Ability], tuple[Precision, str]] = {
    ("cpu", "narrow model"): ("float32", N_("a model so narrow gains nothing from bfloat16")),
    ("cpu", "limited"): ("float32", N_("the instruction set is limited by {limits}")),
    ("cpu", "kernels"): ("bfloat16", N_("the processor has AVX-512 BF16, and our kernels use it")),
    ("cpu", "products"): ("bfloat16", N_("the processor multiplies matrices in bfloat16; our kernels are missing")),
    ("cpu", "none"): ("float32", N_("the processor has no bfloat16 and would only imitate it")),
    ("cuda", "products"): ("bfloat16", N_("the GPU multiplies matrices in bfloat16")),
    ("cuda", "none"): ("float32", N_("the GPU is older than compute capability 8.0, which brought bfloat16")),
    ("mps", "none"): ("float32", N_("on this kind of GPU nothing else was tried")),
}
"""Weights, sums and the optimiser are in float32 everywhere; bfloat16 is that of the matrix products."""


@dataclass(frozen=True)
class Format:
    """A number format, and why it is the one."""

    precision: Precision
    reason: Message


def format_for(device: torch.device, *, kernels: bool, width: int = NARROW) -> Format:
    """The table's format for a model of this width; `kernels`: whether our own are there for this device."""
    precision, reason = TABLE[device.type, _ability(device, kernels, width)]
    limits = ", ".join(f"{name}={value}" for name, value in environment.instruction_set_limits().items())
    return Format(precision, Message(reason, {"limits": limits} if "{limits}" in reason else {}))


def settle(device: torch.device, precision: Precision) -> None:
    """Have float32 products on CUDA be what their name says where float32 was chosen; beside bfloat16, which rounds more, those
    that are left may use TF32 (10 bits behind the point). torch's own default is TF32 in cuDNN's LSTM and nowhere else.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "float32"


def asked_for(precision: Precision) -> Format:
    """A format that the recipe names."""
    return Format(precision, Message(N_("asked for")))


def _ability(device: torch.device, kernels: bool, width: int) -> Ability:
    if device.type == "cuda":
        return "products" if torch.cuda.is_bf16_supported(including_emulation=False) else "none"
    if device.type != "cpu":
        return "none"
    if width < NARROW:
        return "narrow model"
    if environment.instruction_set_limits():
        return "limited"
    return "kernels" if kernels else "products" if processor_multiplies_bfloat16() else "none"


def processor_multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for it (AVX-512 BF16, AMX), where oneDNN would otherwise imitate them."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

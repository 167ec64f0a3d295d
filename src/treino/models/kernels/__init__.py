"""Own kernels for the CPU, in C++, compiled on first use; what they compute stands in plain torch beside each use."""

from __future__ import annotations

import torch
from torch import Tensor

from treino.models.kernels.build import identity, library

__all__ = ["identity", "library", "usable"]


def usable(x: Tensor) -> bool:
    """Whether the kernels may compute what follows from this tensor: on a CPU, under bfloat16 autocast, outside a compiled
    graph (which has its own fusion), and where this machine can have them.
    """
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and not torch.compiler.is_compiling()
        and library() is not None
    )

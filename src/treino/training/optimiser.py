"""AdamW over two groups of parameters, and its state as plain tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def build_optimiser(model: nn.Module, *, learning_rate: float, weight_decay: float, beta2: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019). Matrices decay; vectors (norms, biases) do not; frozen parameters have no state."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, beta2), eps=1e-8, fused=True)


def optimiser_state(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors by parameter name: `<parameter>|<state>`."""
    return {
        f"{name}|{key}": value.detach()
        for name, parameter in model.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def load_optimiser_state(model: nn.Module, optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put tensors of `optimiser_state` back; names that the model lacks are a bug and raise `KeyError`."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, field = key.rpartition("|")
        optimiser.state[parameters[name]][field] = value.clone()

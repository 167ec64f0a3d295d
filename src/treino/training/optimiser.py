"""The optimiser: AdamW for all (its state in 32 or in 8 bits), or Muon for the matrices of the layers and AdamW for the rest;
its state as plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from treino.models.base import LanguageModel
from treino.training.eager import AdamW
from treino.training.eight_bits import BETA1, EPSILON, SMALLEST_PARAMETER, AdamW8bit
from treino.training.muon import Muon

if TYPE_CHECKING:
    from treino.training.plan import Precision

Kind = Literal["adamw", "adamw8bit", "muon"]


class Optimiser:
    """One or two optimisers of torch behind one rate; each steps over the parameters that it was given.

    Args:
        kind: "adamw" (Loshchilov & Hutter 2019) for everything, "adamw8bit" for all but small parameters
            (`treino.training.eight_bits`), or "muon" (`treino.training.muon`) for the matrices that the model names, all
            with the same rate and decay.
        weight_decay: pull of the matrices towards zero; vectors (norms, biases) do not decay.
        beta2: AdamW's memory for squared gradients.
        lora_plus: rate of the adapters' B over that of all else (LoRA+: Hayou et al. 2024, 2402.12354).
        precision: number format of the training's products, and so of Muon's.

    Frozen parameters have no state.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        kind: Kind = "adamw",
        weight_decay: float,
        beta2: float,
        lora_plus: float = 1.0,
        precision: Precision = "bfloat16",
    ) -> None:
        self.model = model
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        chosen = model.matrices() if kind == "muon" and isinstance(model, LanguageModel) else []
        by_muon = {id(parameter) for parameter in chosen if parameter.requires_grad}
        second = {
            id(parameter) for name, parameter in model.named_parameters() if ".lora_B." in name and lora_plus != 1
        }
        rest = [parameter for parameter in trained if id(parameter) not in by_muon | second]
        groups: list[dict[str, Any]] = [
            {"params": [parameter for parameter in rest if parameter.ndim >= 2], "weight_decay": weight_decay},
            {"params": [parameter for parameter in rest if parameter.ndim < 2], "weight_decay": 0.0},
            {"params": [p for p in trained if id(p) in second], "weight_decay": weight_decay, "faster": lora_plus},
        ]
        large = {id(p) for p in trained if kind == "adamw8bit" and p.numel() >= SMALLEST_PARAMETER}
        self.parts: list[torch.optim.Optimizer] = []
        if plain := _parts_of(groups, lambda parameter: id(parameter) not in large):
            self.parts.append(AdamW(plain, lr=0.0, betas=(BETA1, beta2), eps=EPSILON, fused=True))
        if narrow := _parts_of(groups, lambda parameter: id(parameter) in large):
            self.parts.append(AdamW8bit(narrow, beta2=beta2))
        if by_muon:
            matrices = [parameter for parameter in trained if id(parameter) in by_muon]
            products = torch.bfloat16 if precision == "bfloat16" else torch.float32
            self.parts.append(Muon(matrices, weight_decay=weight_decay, products=products))

    def prepare(self, zeros: Callable[[Sequence[torch.Size]], list[Tensor]]) -> None:
        """Lay out the state of all parameters before the first step, in tensors that `zeros` makes for the shapes."""
        wanted: list[tuple[dict[str, Tensor], str, torch.Size]] = []
        for part in self.parts:
            names = (
                {"momentum": True} if isinstance(part, Muon) else {"step": False, "exp_avg": True, "exp_avg_sq": True}
            )
            for parameter in (parameter for group in part.param_groups for parameter in group["params"]):
                part.state[parameter] = {}
                for name, full in names.items():
                    wanted.append((part.state[parameter], name, parameter.shape if full else torch.Size()))
        for (state, name, _), place in zip(wanted, zeros([shape for *_, shape in wanted]), strict=True):
            state[name] = place

    def step(self, rate: float, skip: Tensor) -> None:
        """Update by this learning rate, then forget the gradients. Where `skip` (a scalar) is 1, nothing changes; it is read on
        the device, so that no step waits for it, but on mps, whose fused steps did not heed it (torch's pull request 186360).
        """
        if skip.device.type == "mps" and bool(skip):
            self.model.zero_grad(set_to_none=True)
            return
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate * group.get("faster", 1.0)
            part.found_inf = skip  # type: ignore[attr-defined]  # torch's name for it, and Muon's
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """The tensors by parameter name: `<parameter>|<state>`."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        return {
            f"{names[id(parameter)]}|{key}": value.detach()
            for part in self.parts
            for parameter, values in part.state.items()
            for key, value in values.items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Put tensors of `state` back, cut as the parameters are; a name that the model lacks raises `KeyError`."""
        parameters = dict(self.model.named_parameters())
        owner: dict[int, Any] = {
            id(parameter): part.state
            for part in self.parts
            for group in part.param_groups
            for parameter in group["params"]
        }
        for key, value in tensors.items():
            name, _, field = key.rpartition("|")
            parameter = parameters[name]
            state = owner[id(parameter)][parameter]
            if field in state:
                state[field].copy_(value)
            else:
                state[field] = value.to(parameter.device, copy=True)


def _parts_of(groups: list[dict[str, Any]], chosen: Callable[[nn.Parameter], bool]) -> list[dict[str, Any]]:
    """The groups with those of their parameters that are chosen; none that is empty."""
    parts = [group | {"params": [one for one in group["params"] if chosen(one)]} for group in groups]
    return [part for part in parts if part["params"]]

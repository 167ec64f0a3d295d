"""AdamW whose two moments are kept in 8 bits (Dettmers et al. 2022, 2110.02861)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from treino.models.blockwise import dynamic_codes, largest, nearest, times
from treino.models.kernels import library, ops
from treino.training.eager import Eager

BLOCK = 256
SMALLEST_PARAMETER = 4096
"""Numbers of a parameter below which its moments stay in 32 bits, as the paper's authors have it: there is nothing to gain."""

BETA1, EPSILON = 0.9, 1e-8


class AdamW8bit(Eager):
    """For each parameter p with gradient g, at its t-th step:

    m ← β₁·m + (1 − β₁)·g;  v ← β₂·v + (1 − β₂)·g²
    p ← (1 − η·λ)·p − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)

    in float32, with the moments as they are before they are rounded again. Between steps m and v are bytes of the dynamic
    format (v of the unsigned one), over the largest absolute value of each block of 256: 2.03 bytes a number for 8.

    Rounding is to the nearest code, but never to v = 0, over which an m that is not 0 would be a step without bounds. Both
    differ from bitsandbytes: on a CPU it rounds to steps of 2 / 65535 first, which leaves nothing of second moments below
    1.5e-5 of their block's largest, and on GPUs nothing of those below 1.6e-7.
    """

    found_inf: Tensor | None = None

    def __init__(self, parameters: Iterable[Any], *, beta2: float) -> None:
        super().__init__(parameters, {"lr": 0.0, "weight_decay": 0.0})
        self.beta2 = beta2

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], group["weight_decay"])

    def _update(self, parameter: nn.Parameter, rate: float, decay: float) -> None:
        state = self._state(parameter)
        gradient = parameter.grad
        assert gradient is not None
        skipped = self.found_inf
        if parameter.device.type == "cpu":  # where looking costs no waiting
            if skipped is not None and skipped:
                return
            skipped = None
        state["step"] += 1 if skipped is None else 1 - skipped
        first, second = (1 - beta ** state["step"].double() for beta in (BETA1, self.beta2))
        if parameter.device.type == "cpu" and parameter.is_contiguous() and library():
            moments = [
                (state[name], state[f"{name}_scale"], self._codes(name, parameter), beta)
                for name, beta in (("exp_avg", BETA1), ("exp_avg_sq", self.beta2))
            ]
            sizes = {"rate": rate / float(first), "root": float(second.sqrt()), "shrink": rate * decay}
            ops.adamw8_step(parameter, gradient.float().contiguous(), moments, epsilon=EPSILON, **sizes)
            return
        gradient = gradient.flatten().float()
        m = self._moment(state, "exp_avg").mul_(BETA1).add_(gradient, alpha=1 - BETA1)
        v = self._moment(state, "exp_avg_sq").mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
        for name, moment in (("exp_avg", m), ("exp_avg_sq", v)):
            self._keep(state, name, moment, skipped)
        update = m.div_(v.sqrt_().div_(second.sqrt().float()).add_(EPSILON)).mul_((rate / first).float())
        update = update.view(parameter.shape).add_(parameter, alpha=rate * decay)
        parameter.sub_(update if skipped is None else torch.where(skipped > 0, 0.0, update))

    def _state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            count, device = parameter.numel(), parameter.device
            state["step"] = torch.zeros((), device=device)
            for name in ("exp_avg", "exp_avg_sq"):
                # The byte that stands for 0 is another one in each format; over a scale of 0 any of them does.
                state[name] = torch.zeros(count, dtype=torch.uint8, device=device)
                state[f"{name}_scale"] = torch.zeros(-(-count // BLOCK), device=device)
        return state

    @staticmethod
    def _codes(name: str, like: Tensor) -> Tensor:
        return dynamic_codes(signed=name == "exp_avg").to(like.device)

    def _moment(self, state: dict[str, Tensor], name: str) -> Tensor:
        codes = self._codes(name, state[name])
        return times(codes[state[name].int()], state[f"{name}_scale"], BLOCK)

    def _keep(self, state: dict[str, Tensor], name: str, moment: Tensor, skipped: Tensor | None) -> None:
        scales = largest(moment, BLOCK)
        found = nearest(moment, scales, self._codes(name, moment), BLOCK)
        if name == "exp_avg_sq":
            found.clamp_(min=1)
        for place, new in ((f"{name}_scale", scales), (name, found)):
            state[place].copy_(new if skipped is None else torch.where(skipped > 0, state[place], new))

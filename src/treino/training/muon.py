"""Muon: momentum whose matrices are made orthogonal before each update (Jordan et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from treino.training.eager import Eager

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""x ↦ a·x + b·x³ + c·x⁵ sends singular values in (0, 1] to about 1 within five rounds; from Jordan's search (2024)."""

ROUNDS = 5
MOMENTUM = 0.95
RMS = 0.2
"""Root mean square that an update is scaled to: that of AdamW's, so that both take one rate (Liu et al. 2025, 2502.16982)."""


class Muon(Eager):
    """For each matrix W (rows, columns) with gradient G:

    M ← μ·M + (1 − μ)·G;  U = orthogonal(μ·M + (1 − μ)·G);  W ← (1 − η·λ)·W − η·0.2·√max(rows, columns)·U

    with the learning rate η, the decay λ and μ = 0.95 (Nesterov's form). Matrices of one shape are taken together.
    """

    found_inf: Tensor | None = None

    def __init__(self, matrices: Iterable[nn.Parameter], *, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(tuple(matrix.shape), []).append(matrix)
            for matrices in alike.values():
                self._update(matrices, group["lr"], group["weight_decay"])

    def _update(self, matrices: list[Tensor], rate: float, decay: float) -> None:
        # Where the step is to be skipped, `kept` is 0 and every line below leaves things as they were.
        kept = 1.0 if self.found_inf is None else 1 - self.found_inf
        ahead = []
        for matrix in matrices:
            gradient = matrix.grad
            assert gradient is not None
            if self.found_inf is not None:
                gradient = torch.where(self.found_inf > 0, 0.0, gradient)
            momentum = self._momentum(matrix)
            momentum.add_((gradient - momentum) * ((1 - MOMENTUM) * kept))
            ahead.append(torch.lerp(gradient, momentum, MOMENTUM))
        rows, columns = matrices[0].shape
        scale = rate * RMS * max(rows, columns) ** 0.5
        for matrix, update in zip(matrices, orthogonalised(torch.stack(ahead)), strict=True):
            matrix.sub_((scale * update + rate * decay * matrix) * kept)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        return state["momentum"]


def orthogonalised(x: Tensor) -> Tensor:
    """The nearest matrix with equal singular values to each of a stack (count, rows, columns), roughly: their spread is
    about .7 to 1.2 after five Newton–Schulz rounds in bfloat16.
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x

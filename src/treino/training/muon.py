"""Muon: momentum whose matrices are made orthogonal before each update (Jordan et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from treino.planning.work import MUON_TOGETHER
from treino.training.eager import Eager

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""x ↦ a·x + b·x³ + c·x⁵ sends singular values in (0, 1] to about 1 within some rounds; from Jordan's search (2024)."""

ROUNDS = 4
"""One less than Jordan's: as low a loss on Machado, and a fifth less to multiply (LOG.md)."""

MOMENTUM = 0.95
RMS = 0.2
"""Root mean square that an update is scaled to: that of AdamW's, so that its decay suits both (Liu et al. 2025, 2502.16982)."""


class Muon(Eager):
    """For each matrix W (rows, columns) with gradient G:

    M ← μ·M + (1 − μ)·G;  U = orthogonal(μ·M + (1 − μ)·G);  W ← (1 − η·λ)·W − η·0.2·√max(rows, columns)·U

    with the learning rate η, the decay λ and μ = 0.95 (Nesterov's form). Matrices of one shape are taken together. Of matrices
    that are cut into parts by rows (FSDP2) each process keeps its part of M, and gathers what it makes orthogonal.

    Args:
        products: number format of the orthogonalisation.
    """

    found_inf: Tensor | None = None

    def __init__(
        self, matrices: Iterable[nn.Parameter], *, weight_decay: float, products: torch.dtype = torch.bfloat16
    ) -> None:
        super().__init__(matrices, {"lr": 0.0, "weight_decay": weight_decay})
        self.products = products

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for matrices in alike.values():
                for some in _together(matrices):
                    self._update(some, group["lr"], group["weight_decay"])

    def _update(self, matrices: list[Tensor], rate: float, decay: float) -> None:
        # Where the step is to be skipped, `kept` is 0 and every line below leaves things as they were.
        kept = 1.0 if self.found_inf is None else 1 - self.found_inf
        gradients = torch.stack([_own(matrix.grad) for matrix in matrices if matrix.grad is not None])
        if self.found_inf is not None:
            gradients = torch.where(self.found_inf > 0, 0.0, gradients)
        stored = [_own(self._momentum(matrix)) for matrix in matrices]
        momenta = torch.stack(stored).lerp_(gradients, (1 - MOMENTUM) * kept)
        for place, value in zip(stored, momenta, strict=True):
            place.copy_(value)
        ahead = gradients.lerp_(momenta, MOMENTUM)
        del momenta
        updates = _cut(orthogonalised(_gathered(ahead, matrices[0]), self.products), matrices[0])
        rows, columns = matrices[0].shape
        scale = -rate * RMS * max(rows, columns) ** 0.5
        for matrix, update in zip(matrices, updates.to(gradients.dtype).mul_(scale * kept), strict=True):
            _own(matrix).mul_(1 - rate * decay * kept).add_(update)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        return state["momentum"]


def orthogonalised(x: Tensor, products: torch.dtype = torch.bfloat16) -> Tensor:
    """The nearest matrix with equal singular values to each of a stack (count, rows, columns), roughly: their spread is
    about .66 to 1.2 after four Newton–Schulz rounds (what began below .005 of the norm is smaller), in the format of
    `products`.
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(products)
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _together(matrices: list[Tensor]) -> Iterator[list[Tensor]]:
    """Matrices of one shape in groups of at most `MUON_TOGETHER` numbers."""
    count = max(1, MUON_TOGETHER // matrices[0].numel())
    for first in range(0, len(matrices), count):
        yield matrices[first : first + count]


def _own(value: Tensor) -> Tensor:
    """This process's part of a tensor, in the same memory."""
    return cast(Any, value).to_local() if hasattr(value, "to_local") else value


def _gathered(own: Tensor, like: Tensor) -> Tensor:
    """A stack of whole matrices from each process's parts of them, which are cut as `like` is."""
    if not hasattr(like, "to_local"):
        return own
    from torch.distributed.tensor import DTensor

    cut = cast(DTensor, like)
    shape = torch.Size((len(own), *like.shape))
    stride = (like.shape[0] * like.shape[1], like.shape[1], 1)
    return DTensor.from_local(own, cut.device_mesh, _stacked(cut), shape=shape, stride=stride).full_tensor()


def _cut(whole: Tensor, like: Tensor) -> Tensor:
    """This process's parts of a stack of whole matrices."""
    if not hasattr(like, "to_local"):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    cut = cast(DTensor, like)
    return distribute_tensor(whole.contiguous(), cut.device_mesh, _stacked(cut), src_data_rank=None).to_local()


def _stacked(cut: Any) -> list[Any]:
    """How a stack of matrices is cut that are cut by rows each."""
    from torch.distributed.tensor import Shard

    assert cut.placements == (Shard(0),), "fully_shard cuts by rows, on one mesh"
    return [Shard(1)]

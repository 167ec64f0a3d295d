"""Processes of one machine that train on its processors together: one copy of the weights, in memory that all of them see.

Each process owns some parameters: it adds up their gradients over all processes, updates them, and holds what the optimiser
keeps for them (the idea of ZeRO's first stage, Rajbhandari et al. 2020, 1910.02054, without sending).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from treino.training.objective import B, Objective
from treino.training.parallel import Parallel
from treino.training.ranks import Ranks

if TYPE_CHECKING:
    from treino.training.optimiser import Optimiser

ALIGNED = 16
"""Numbers from one beginning of a tensor in shared memory to the next, at least: a line of the processor's cache."""


def can_share(ranks: Ranks) -> bool:
    """Whether these processes can have memory in common: all on one machine, without GPUs, under Linux."""
    return sys.platform == "linux" and ranks.local_size == ranks.size and ranks.device.type == "cpu"


class Together(Parallel[B]):
    """The model's parameters lie in shared memory, and so do gradients on their way and the optimiser's state.

    A step: each process writes its gradients of what others own; when all have, the owner adds them up, the norm is
    summed over the owners, and each updates what it owns; when all have, the next step begins.
    """

    def __init__(self, model: nn.Module, objective: Objective[B], ranks: Ranks) -> None:
        super().__init__(model, objective, ranks)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.owner = owners([parameter.numel() for parameter in self.trained], ranks.size)
        shapes = [parameter.shape for parameter in self.trained]
        for parameter, place in zip(self.trained, self._zeros(shapes), strict=True):
            if ranks.first:
                place.copy_(parameter.data)
            parameter.data = place
        self.sent = [self._zeros(shapes) for _ in range(ranks.size)]
        self._wait()

    def add_up(self) -> None:
        own = self.ranks.rank
        learnt = [(place, it.grad) for place, it in enumerate(self.trained) if it.grad is not None]
        for place, gradient in learnt:
            if self.owner[place] != own:
                self.sent[own][place].copy_(gradient)
        self._wait()
        for place, gradient in learnt:
            if self.owner[place] == own:
                for rank in range(self.ranks.size):
                    if rank != own:
                        gradient.add_(self.sent[rank][place])

    def to_update(self, trained: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        for place, parameter in enumerate(self.trained):
            if self.owner[place] != self.ranks.rank:
                parameter.grad = None
        return [parameter for parameter in trained if parameter.grad is not None]

    def length(self, gradients: list[Tensor]) -> Tensor:
        squares = nn.utils.get_total_norm(gradients, foreach=True).square() if gradients else torch.zeros(())
        return self.ranks.add_up(squares).sqrt()

    def updated(self) -> None:
        self._wait()

    def keep(self, optimiser: Optimiser) -> None:
        optimiser.prepare(self._zeros)

    def _zeros(self, shapes: Sequence[torch.Size]) -> list[Tensor]:
        """Tensors of zeros that all processes see, of these shapes, which all must ask for alike.

        The memory belongs to a file without a name (`memfd_create`), which lives as long as a process has it mapped.
        """
        import torch.distributed as dist

        sizes = [-(-shape.numel() // ALIGNED) * ALIGNED for shape in shapes]
        path: list[str] = [""]
        handle = -1
        if self.ranks.first:
            handle = os.memfd_create("treino")
            os.truncate(handle, 4 * sum(sizes))
            path = [f"/proc/{os.getpid()}/fd/{handle}"]
        dist.broadcast_object_list(path, src=0)
        shared = torch.from_file(path[0], shared=True, size=sum(sizes), dtype=torch.float32)
        self._wait()
        if handle >= 0:
            os.close(handle)
        parts = shared.split(sizes)
        return [part[: shape.numel()].view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _wait(self) -> None:
        """Until all processes have come here."""
        self.ranks.totals([0.0])


def owners(sizes: Sequence[int], ranks: int) -> list[int]:
    """Which process owns each of the parameters of these sizes: the middle of each, by its place in the line of all numbers."""
    whole = sum(sizes)
    return [
        min(ranks - 1, (2 * end - size) * ranks // (2 * whole))
        for size, end in zip(sizes, accumulate(sizes), strict=True)
    ]

"""How a model is trained by several processes: whole in each (DDP; on one machine's processors in memory that all see,
`together.py`), or cut into parts (FSDP2).

Each process takes its rows of a step and divides its sums by the counts of all rows of all processes; gradients are then
*added up*, not averaged, so a step is the same as one process would take, up to the order of its additions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, cast

import torch
from torch import Tensor, nn

from treino.errors import UsageError
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.training.objective import B, Objective
from treino.training.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from treino.training.optimiser import Optimiser

Shard = Literal["ddp", "fsdp"]


class Sums(nn.Module, Generic[B]):
    """An objective and its model as one module, batch ↦ sums by term: the wrappers of torch hook into `forward`."""

    def __init__(self, model: nn.Module, objective: Objective[B]) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: B) -> dict[str, Tensor]:
        return self.objective.sums(self.model, batch)


class Parallel(Generic[B]):
    """One process alone: what the others add to."""

    def __init__(self, model: nn.Module, objective: Objective[B], ranks: Ranks = ALONE) -> None:
        self.model, self.ranks = model, ranks
        self.sums: nn.Module = Sums(model, objective)

    def passing(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Around each forward and backward pass of a step; in the `last` one gradients are added up over the processes."""
        return contextlib.nullcontext()

    def rest(self) -> None:
        """After a forward pass that no backward pass follows."""

    def add_up(self) -> None:
        """After the backward passes of a step: add the gradients up over the processes, where that is not done yet."""

    def to_update(self, trained: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        """The parameters with a gradient that this process updates; it forgets the other gradients."""
        return [parameter for parameter in trained if parameter.grad is not None]

    def length(self, gradients: list[Tensor]) -> Tensor:
        """√Σ g² over all gradients of all processes, as a scalar."""
        return whole(nn.utils.get_total_norm(gradients, foreach=True))

    def updated(self) -> None:
        """After the update of a step."""

    def keep(self, optimiser: Optimiser) -> None:
        """Before the first step: where the optimiser keeps its state."""

    @property
    def samples(self) -> bool:
        """Whether this process takes part when the model is asked for a sample."""
        return self.ranks.first

    def talking(self) -> contextlib.AbstractContextManager[Any]:
        """Around calls of the model that do not come from the objective."""
        return contextlib.nullcontext()


class Replicated(Parallel[B]):
    """Each process has the whole model (Li et al. 2020, 2006.15704)."""

    def __init__(self, model: nn.Module, objective: Objective[B], ranks: Ranks) -> None:
        super().__init__(model, objective, ranks)
        from torch.nn.parallel import DistributedDataParallel

        on_gpu = ranks.device.type == "cuda"
        self.sums = DistributedDataParallel(
            self.sums,
            device_ids=[ranks.device.index] if on_gpu else None,
            gradient_as_bucket_view=True,
        )
        self.sums.register_comm_hook(None, _added_up)

    def passing(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if last else cast(Any, self.sums).no_sync()


def _added_up(state, bucket):  # torch wants its own annotations here, or none
    """The sum of a bucket of gradients, on its way while the backward pass goes on."""
    import torch.distributed as dist

    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: done.value()[0])


class Sharded(Parallel[B]):
    """Each process has a part of every weight, gradient and momentum; a layer's weights are gathered when it works (Zhao et
    al. 2023, 2304.11277; torch's `fully_shard`).

    Raises:
        UsageError: for a model that names no layers to gather one by one.
    """

    def __init__(self, model: nn.Module, objective: Objective[B], ranks: Ranks) -> None:
        super().__init__(model, objective, ranks)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        layers = model.layers_to_gather() if isinstance(model, LanguageModel) else []
        if not layers:
            raise UsageError(
                N_("this model cannot be cut into parts: it has no layers that work one after the other"),
                fix=N_('set pretrain.shard = "ddp"'),
            )
        mesh = init_device_mesh(ranks.device.type, (ranks.size,))
        for module in (*layers, self.sums):
            # Divided by nothing: the sums are divided by the counts of all processes already.
            fully_shard(module, mesh=mesh).set_gradient_divide_factor(1.0)
            cast(Any, module).set_force_sum_reduction_for_comms(True)

    @contextlib.contextmanager
    def passing(self, *, last: bool) -> Iterator[None]:
        root = cast(Any, self.sums)
        root.set_requires_gradient_sync(last)
        root.set_is_last_backward(last)
        yield

    def rest(self) -> None:
        cast(Any, self.sums).reshard()

    @property
    def samples(self) -> bool:
        return True

    @contextlib.contextmanager
    def talking(self) -> Iterator[None]:
        from torch.distributed.fsdp import fully_shard

        root = cast(Any, self.sums)
        # Else the first layer that works takes itself for the root, where no look came before.
        cast(Any, fully_shard).state(root)._lazy_init()
        root.unshard()
        yield
        root.reshard()


def parallel(model: nn.Module, objective: Objective[B], ranks: Ranks, shard: Shard) -> Parallel[B]:
    """The way in which these processes train a model together."""
    from treino.training.together import Together, can_share

    if ranks.size == 1:
        return Parallel(model, objective)
    if shard == "ddp" and can_share(ranks):
        return Together(model, objective, ranks)
    return (Sharded if shard == "fsdp" else Replicated)(model, objective, ranks)


def whole(value: Tensor) -> Tensor:
    """A tensor of which each process may have a part, in one piece; all processes must ask for it."""
    return cast(Any, value).full_tensor() if hasattr(value, "full_tensor") else value


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, cut as `like` is; the tensor itself where that is whole or of another shape.
    Either is a copy.
    """
    room = room_like(like, value.shape, value.dtype)
    if not hasattr(room, "full_tensor"):
        return room.copy_(value)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(room, DTensor)
    return room.copy_(distribute_tensor(value.to(like.device), room.device_mesh, room.placements, src_data_rank=None))


def room_like(like: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """An unfilled tensor of this shape where `like` is: cut as that is, if both have one shape, else whole."""
    if shape == like.shape:
        return torch.empty_like(like, dtype=dtype)
    return torch.empty(shape, dtype=dtype, device=like.device)


def evaluate_objective(
    parallel: Parallel[B], objective: Objective[B], batches: Sequence[B], autocast: torch.autocast
) -> float:
    """The objective over held-out batches, without gradients and without dropout; the processes deal the batches out.

    One that has none left in the last round takes the first again and leaves it out of the sums, for layers may have to be
    gathered by all.
    """
    rank, size = parallel.ranks.rank, parallel.ranks.size
    names = list(objective.weights)
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    was_training = parallel.model.training
    parallel.sums.eval()
    with torch.no_grad(), autocast:
        for first in range(0, len(batches), size):
            own = first + rank
            batch = batches[own if own < len(batches) else 0]
            found = parallel.sums(batch)
            if own >= len(batches):
                continue
            for name, value in found.items():
                sums[name] += float(value)
            for name, value in objective.counts(batch).items():
                counts[name] += value
    parallel.sums.train(was_training)
    parallel.rest()
    totals = parallel.ranks.totals([*sums.values(), *counts.values()])
    return sum(
        objective.weights[name] * total / count
        for name, total, count in zip(names, totals[: len(names)], totals[len(names) :], strict=True)
        if count
    )

"""The processes that train one model together: which one this is, and what they tell each other.

Numbers (counts, losses, wishes to stop) travel between the processors by gloo; gradients and weights by nccl where each process
has a GPU, else by gloo, too.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from treino import environment
from treino.errors import MachineError, UsageError
from treino.messages import N_
from treino.models.device import choose

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

PATIENCE = timedelta(minutes=10)
"""How long a process waits for another one within a step before it counts as lost."""


class LostRank(MachineError):
    """One of the processes of a training is gone."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training; by default it is alone, and all that follows returns what it was given.

    Attributes:
        rank, size: number of this process, and how many there are.
        local_rank, local_size: the same among those of this machine.
        threads: processors for each.
        joined: whether they have met, so that they can tell each other something.
        line: what they talk over, where that is a line of their own; else the one that the training uses.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    threads: int = 0
    joined: bool = False
    line: Any = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, tells and decides."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The quickest device that each process of this machine can have one of (`treino.models.device`)."""
        return choose(self.local_rank, self.local_size).device

    def totals(self, values: list[float]) -> list[float]:
        """Sums of numbers over all processes, in float64."""
        return self._reduced(values, "SUM")

    def highest(self, value: float) -> float:
        """The largest of the processes' numbers."""
        return self._reduced([value], "MAX")[0]

    def _reduced(self, values: list[float], how: str) -> list[float]:
        if self.size == 1:
            return values
        import torch.distributed as dist

        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers, getattr(dist.ReduceOp, how), group=self.line)
        return numbers.tolist()

    def told(self, words: dict[str, str]) -> dict[str, str]:
        """What all processes tell, together."""
        if self.size == 1:
            return words
        import torch.distributed as dist

        text = json.dumps(words).encode()
        length = int(self.highest(len(text)))
        own = torch.tensor(list(text.ljust(length)), dtype=torch.uint8)
        everyone = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(everyone, own, group=self.line)
        return {name: word for one in everyone for name, word in json.loads(bytes(one.tolist())).items()}

    @contextlib.contextmanager
    def agreeing(self) -> Iterator[None]:
        """Around work that each process must get done: where one fails, all raise.

        Raises:
            MachineError: where only others failed.
        """
        failed: Exception | None = None
        try:
            yield
        except Exception as error:  # whatever it is, the others wait for word of it
            failed = error
        if self.highest(float(failed is not None)):
            raise failed or MachineError(
                N_("another process of this training could not write its part of a checkpoint")
            )

    def apart(self) -> Ranks:
        """The same processes on a line of their own, for a thread beside the training; all must ask for it."""
        if self.size == 1:
            return self
        import torch.distributed as dist

        return replace(self, line=dist.new_group(backend="gloo", timeout=PATIENCE))

    def add_up(self, value: Tensor) -> Tensor:
        """Sum of a tensor over all processes, in place, on its device."""
        if self.size > 1:
            import torch.distributed as dist

            dist.all_reduce(value)
        return value


ALONE = Ranks()


def join(threads: int | None = None, meeting: str = "training") -> Ranks:
    """Meet the other processes that torchrun started; each has `threads`, by default its share of the processors. Those that
    meet twice need another name for the second `meeting`.

    Raises:
        LostRank: when they do not come together.
    """
    where = environment.distributed()
    ranks = Ranks(where.rank, where.size, where.local_rank, where.local_size, threads or environment.processors())
    if ranks.size > 1:
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        if ranks.device.type == "cuda":
            torch.cuda.set_device(ranks.device)
        backend = "cpu:gloo,cuda:nccl" if ranks.device.type == "cuda" else "gloo"
        store = PrefixStore(meeting, meeting_place())
        dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.size, timeout=PATIENCE)
        ranks = replace(ranks, joined=True)
    return ranks


def leave() -> None:
    """Part from the other processes after the last step."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@functools.cache
def meeting_place() -> Store:
    """The store of keys and values that torchrun keeps for its processes; one that started them anew gives a fresh one."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _rank, _size = next(iter(rendezvous("env://", timeout=PATIENCE)))
    return PrefixStore(f"treino/{environment.distributed().attempt}", store)


def is_loss_of_a_rank(error: Exception) -> bool:
    """Whether an error of torch's tells that another process did not answer."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in ("gloo", "nccl"))


def lost(folder: Path) -> LostRank:
    """The error for a lost process; `folder` holds the checkpoints."""
    from treino.training.checkpoint import checkpoints, step_of

    saved = checkpoints(folder)
    fix = N_("run the same command again: it goes on from the checkpoint at step {step:raw}")
    values: dict[str, Any] = {"step": step_of(saved[0])} if saved else {}
    return LostRank(
        N_("a process of the training was lost"),
        fix=fix if saved else N_("run the same command again: it begins at the first step"),
        **values,
    )


def check_share(rows: int, size: int) -> None:
    """Refuse more processes than a step has rows."""
    if size > rows:
        raise UsageError(
            N_("{size} processes cannot share the {rows} rows of a step"),
            fix=N_("ask for fewer processes, or for more rows: pretrain.batch, pretrain.accumulation"),
            size=size,
            rows=rows,
        )


def share(rows: int, batch: int, rank: int, size: int) -> list[range]:
    """The rows 0 … `rows` − 1 of a step that fall to a process, one range a pass of at most `batch` rows (or one more, where
    they do not divide). All processes take equally many passes; together they have each row once.
    """
    passes = min(rows // size, -(-rows // (size * batch)))
    first, last = rank * rows // size, (rank + 1) * rows // size
    count = last - first
    return [range(first + part * count // passes, first + (part + 1) * count // passes) for part in range(passes)]

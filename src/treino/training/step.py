"""One optimiser step: gradients over the micro-batches, their length limited, the update."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from treino.measure import watching_helpers
from treino.training.compiling import compiled_sums
from treino.training.formats import settle
from treino.training.objective import B
from treino.training.optimiser import Optimiser
from treino.training.parallel import Parallel
from treino.training.plan import TrainingPlan
from treino.training.task import Task


class Stepper:
    """Takes steps of a plan; what it holds beside the model is the optimiser."""

    def __init__(self, task: Task, plan: TrainingPlan, parallel: Parallel | None = None) -> None:
        self.task, self.plan = task, plan
        self.parallel = parallel or Parallel(task.model, task.objective)
        habits = {"weight_decay": plan.weight_decay, "beta2": plan.beta2, "lora_plus": plan.lora_plus}
        self.optimiser = Optimiser(task.model, kind=plan.optimiser, precision=plan.precision, **habits)
        self.parallel.keep(self.optimiser)
        alone = self.parallel.ranks.size == 1
        self.sums = compiled_sums(task.objective) if plan.compile and alone else None
        self.warm = False
        self.trained = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
        self.device = self.trained[0].device
        settle(self.device, plan.precision)

    def __call__(self, step: int) -> tuple[Tensor, float]:
        """Take the step of this number; returns its loss, a scalar on the device, and the count of what it learnt from.

        A step whose loss or gradient is not finite changes nothing, and its loss tells.
        """
        # Dropout of a step depends on (seed, step, rank) alone, so an interrupted run draws what an uninterrupted one would.
        _seed(self.plan.seed * 1_000_003 + step + (self.parallel.ranks.rank << 40), self.device)
        batches = self.task.source.step(step)
        passes = (batches, self.plan.precision, self.device, self.parallel, self.sums)
        compiling = self.sums is not None and not self.warm
        with watching_helpers() if compiling else contextlib.nullcontext():
            loss, counts = accumulate_gradients(self.task, *passes)
        self.warm = True
        own = self.parallel.to_update(self.trained)
        norm = self.parallel.length([parameter.grad for parameter in own if parameter.grad is not None])
        if self.plan.clip:
            nn.utils.clip_grads_with_norm_(own, self.plan.clip, norm, foreach=True)
        finite = torch.isfinite(norm) & torch.isfinite(loss)
        self.optimiser.step(self.plan.schedule(step), (~finite).float())
        self.parallel.updated()
        return torch.where(finite, loss, torch.nan), max(counts.values())


def _seed(seed: int, device: torch.device) -> None:
    """Seed the generators that a step draws from. `torch.manual_seed` would, where no GPU was touched yet, keep a stack trace
    of every call for the day when one is: a third of a millisecond a step, and memory that grows.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def accumulate_gradients(
    task: Task[B],
    batches: Sequence[B],
    precision: str,
    device: torch.device,
    parallel: Parallel[B] | None = None,
    sums_of: Callable[[nn.Module, B], dict[str, Tensor]] | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Gradients of one step: Σ_term weight · (Σ sums) / (Σ counts), both Σ over all micro-batches of all processes, plus the
    penalties, undivided.

    `sums_of`: the objective's sums in a compiled form, for one process. Returns the loss (a detached scalar, penalties left
    out) and the counts by term, the same in each process.
    """
    objective, parallel = task.objective, parallel or Parallel(task.model, task.objective)
    counts: dict[str, float] = {}
    for batch in batches:
        for name, value in objective.counts(batch).items():
            counts[name] = counts.get(name, 0.0) + value
    counts = dict(zip(counts, parallel.ranks.totals(list(counts.values())), strict=True))
    total = torch.zeros((), device=device)
    for number, batch in enumerate(batches, 1):
        with parallel.passing(last=number == len(batches)):
            with autocasting(device, precision):
                moved = batch.to(device)
                sums = sums_of(task.model, moved) if sums_of else parallel.sums(moved)
                terms = [objective.weights[name] * value / counts[name] for name, value in sums.items() if counts[name]]
            loss = torch.stack(terms).sum()
            loss.backward()
        total += loss.detach()
    parallel.add_up()
    for penalty in task.penalties:
        penalty(task.model).backward()
    return parallel.ranks.add_up(total), counts


def autocasting(device: torch.device, precision: str) -> torch.autocast:
    """The number format of the matrix products; weights, sums and the optimiser stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")

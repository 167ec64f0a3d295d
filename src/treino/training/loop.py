"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor, nn

from treino import events, interruption
from treino.errors import DataError
from treino.measure import keep_memory
from treino.messages import N_
from treino.training.checkpoint import Progress, load_checkpoint, model_tensors, save_checkpoint
from treino.training.objective import B, Objective, Penalty, evaluate_objective
from treino.training.optimiser import build_optimiser, optimiser_state
from treino.training.plan import TrainingPlan
from treino.training.source import BatchSource


class NotFinite(DataError):
    """A training whose loss ran away."""


@dataclass(frozen=True)
class Task(Generic[B]):
    """What is trained on what: the parts that differ between pretraining, classification, chat tuning and the rest.

    `sample` gives a text, `measure` figures beside the validation loss, at each look.
    """

    model: nn.Module
    objective: Objective[B]
    source: BatchSource[B]
    penalties: Sequence[Penalty] = ()
    validation: Sequence[B] = ()
    sample: Callable[[], dict[str, str]] | None = None
    measure: Callable[[], dict[str, float]] | None = None


def train(task: Task, plan: TrainingPlan, checkpoint_folder: Path) -> Progress:
    """Train to the end of the plan, going on from the newest checkpoint in the folder if there is one.

    With `plan.patience` it ends after so many looks without a lower validation loss, and the model has the weights of the
    best look. On Ctrl-C and SIGTERM the step is finished and saved, then `Interrupted` is raised.
    """
    return _Loop(task, plan, checkpoint_folder).run()


class _Loop:
    def __init__(self, task: Task, plan: TrainingPlan, folder: Path) -> None:
        self.task, self.plan, self.folder = task, plan, folder
        self.optimiser = build_optimiser(
            task.model, learning_rate=plan.schedule.peak, weight_decay=plan.weight_decay, beta2=plan.beta2
        )
        self.device = next(task.model.parameters()).device
        self.progress = Progress()
        self.untold: list[Tensor] = []
        """Losses of the steps since the last line of progress: tensors, so that no step waits for the device."""
        self.best: dict[str, Tensor] = {}
        """Weights of the look with the lowest validation loss, where the plan has patience."""
        self.saved_at = time.monotonic()

    def run(self) -> Progress:
        restored = load_checkpoint(self.folder, self.task.model, self.optimiser)
        if restored:
            self.progress, self.best = restored
            restored = self.progress
            self.untold = [torch.tensor(loss, device=self.device) for loss in restored.untold]
            events.emit("train.resumed", step=restored.step)
        started = time.monotonic() - self.progress.seconds
        keep_memory()
        self.task.model.train()
        with interruption.deferring():
            if not self.progress.step:
                self._look()
            while not self._is_over():
                self._step(self.progress.step)
                self.progress.step += 1
                self.progress.seconds = time.monotonic() - started
                self._tell()
                self._save_if_due()
        if self.best:
            self.task.model.load_state_dict(self.best, strict=False)
        return self.progress

    def _is_over(self) -> bool:
        """All steps are done, or the validation loss has not fallen for as many looks as the plan has patience for."""
        waited = self.plan.patience and self.progress.looks_without_gain >= self.plan.patience
        return bool(waited) or self.progress.step >= self.plan.steps

    def _step(self, step: int) -> None:
        # Dropout of a step depends on (seed, step) alone, so an interrupted run draws what an uninterrupted one would.
        torch.manual_seed(self.plan.seed * 1_000_003 + step)
        rate = self.plan.schedule(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss, counts = accumulate_gradients(self.task, self.task.source.step(step), self.plan.precision, self.device)
        parameters = [parameter for parameter in self.task.model.parameters() if parameter.grad is not None]
        if self.plan.clip:
            nn.utils.clip_grad_norm_(parameters, self.plan.clip, foreach=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.untold.append(loss)
        self.progress.tokens += int(max(counts.values()))

    def _tell(self) -> None:
        """A line of progress, and a look at validation and a sample, where they are due."""
        step, plan = self.progress.step, self.plan
        last = step == plan.steps
        if step == 1 or step % plan.log_every == 0 or last:
            loss = float(torch.stack(self.untold).mean())
            if not math.isfinite(loss):
                raise NotFinite(
                    N_("the loss is no longer a number at step {step:raw}"),
                    fix=N_("lower the learning rate (now {rate:6})"),
                    step=step,
                    rate=plan.schedule.peak,
                )
            row = {
                "step": step,
                "loss": loss,
                "tokens": self.progress.tokens,
                "seconds": round(self.progress.seconds, 3),
                "learning_rate": plan.schedule(step - 1),
            }
            self.progress.history.append(row)
            self.untold = []
            events.emit("train.step", steps=plan.steps, **row)
        if step % plan.validate_every == 0 or last:
            self._look()

    def _look(self) -> None:
        """The objective on the validation batches, and a sample of what the model says by now."""
        step = self.progress.step
        if self.task.validation:
            autocast = autocasting(self.device, self.plan.precision)
            loss = evaluate_objective(self.task.model, self.task.objective, list(self.task.validation), autocast)
            figures = self.task.measure() if self.task.measure else {}
            self.progress.validation.append({"step": step, "loss": loss, **figures})
            self._keep_best(loss)
            events.emit("train.validation", step=step, steps=self.plan.steps, loss=loss, **figures)
        if self.task.sample:
            was_training = self.task.model.training
            self.task.model.eval()
            sample: dict[str, Any] = {"step": step, **self.task.sample()}
            self.task.model.train(was_training)
            self.progress.samples.append(sample)
            events.emit("train.sample", **sample)

    def _keep_best(self, loss: float) -> None:
        """Note a validation loss below all before it, and the weights that had it."""
        if not self.plan.patience:
            return
        if self.progress.best_loss is None or loss < self.progress.best_loss:
            self.progress.best_loss, self.progress.best_step = loss, self.progress.step
            self.progress.looks_without_gain = 0
            self.best = {name: value.clone() for name, value in model_tensors(self.task.model).items()}
        else:
            self.progress.looks_without_gain += 1

    def _save_if_due(self) -> None:
        """Save when the interval is over, when a signal waits, and at the end."""
        due = time.monotonic() - self.saved_at >= self.plan.checkpoint_seconds
        if not (due or interruption.requested() or self._is_over()):
            return
        self.progress.untold = [float(loss) for loss in self.untold]
        tensors = {
            "model": model_tensors(self.task.model),
            "optimiser": optimiser_state(self.task.model, self.optimiser),
        }
        tensors |= {"best": self.best} if self.best else {}
        save_checkpoint(self.folder, tensors, self.progress, keep=self.plan.checkpoints_kept)
        self.saved_at = time.monotonic()
        interruption.raise_if_requested()


def accumulate_gradients(
    task: Task[B], batches: Sequence[B], precision: str, device: torch.device
) -> tuple[Tensor, dict[str, float]]:
    """Gradients of one step: Σ_term weight · (Σ_micro sums) / (Σ_micro counts), plus the penalties, undivided.

    Returns the loss (a detached scalar, penalties left out) and the counts by term.
    """
    objective = task.objective
    batches = [batch.to(device) for batch in batches]
    counts: dict[str, float] = {}
    for batch in batches:
        for name, value in objective.counts(batch).items():
            counts[name] = counts.get(name, 0.0) + value
    total = torch.zeros((), device=device)
    for batch in batches:
        with autocasting(device, precision):
            sums = objective.sums(task.model, batch)
            terms = [objective.weights[name] * value / counts[name] for name, value in sums.items() if counts[name]]
        loss = torch.stack(terms).sum()
        loss.backward()
        total += loss.detach()
    for penalty in task.penalties:
        penalty(task.model).backward()
    return total, counts


def autocasting(device: torch.device, precision: str) -> torch.autocast:
    """The number format of the matrix products; weights, sums and the optimiser stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")

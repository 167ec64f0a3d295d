"""The one training loop."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from treino import events, interruption
from treino.measure import keep_memory
from treino.training.checkpoint import CheckpointWriter, Progress, load_checkpoint, trained_tensors
from treino.training.parallel import Sharded, evaluate_objective, parallel
from treino.training.plan import TrainingPlan
from treino.training.ranks import ALONE, Ranks, is_loss_of_a_rank, lost
from treino.training.step import Stepper, autocasting
from treino.training.task import Task
from treino.training.trouble import Watch

DUE = 0.5
"""The wish to save and go on, below every number of a signal."""


def train(
    task: Task, plan: TrainingPlan, checkpoint_folder: Path, records: Path | None = None, ranks: Ranks = ALONE
) -> Progress:
    """Train to the end of the plan, going on from the newest checkpoint in the folder if there is one.

    With `plan.patience` it ends after so many looks without a lower validation loss, and the model has the weights of the
    best look. On Ctrl-C and SIGTERM the step is finished and saved, then `Interrupted` is raised. Batches that gave trouble
    (`treino.training.trouble`) are kept in `records`.

    Several processes (`ranks`) call it alike, each with its own rows as `task.source`; all have the same losses and take the
    same turns, and the first one writes.

    Raises:
        NotFinite: when the loss ran away.
        LostRank: when another process does not answer.
    """
    try:
        return _Loop(task, plan, checkpoint_folder, records, ranks).run()
    except RuntimeError as error:
        if ranks.size > 1 and is_loss_of_a_rank(error):
            raise lost(checkpoint_folder) from error
        raise


class _Loop:
    def __init__(self, task: Task, plan: TrainingPlan, folder: Path, records: Path | None, ranks: Ranks) -> None:
        self.task, self.plan, self.folder, self.ranks = task, plan, folder, ranks
        self.parallel = parallel(task.model, task.objective, ranks, plan.shard)
        self.stepper = Stepper(task, plan, self.parallel)
        self.watch = Watch(task.source, plan.schedule.peak, records, ranks)
        parts = isinstance(self.parallel, Sharded)
        self.writer = CheckpointWriter(folder, keep=plan.checkpoints_kept, ranks=ranks, parts=parts)
        self.progress = Progress()
        self.untold: list[Tensor] = []
        """Losses of the steps since the last line of progress: tensors, so that no step waits for the device."""
        self.best: dict[str, Tensor] = {}
        """Weights of the look with the lowest validation loss, where the plan has patience."""
        self.saved_at = time.monotonic()

    def run(self) -> Progress:
        restored = load_checkpoint(self.folder, self.task.model, self.stepper.optimiser, self.ranks)
        if restored:
            self.progress, self.best = restored
            losses = [math.nan if loss is None else loss for loss in self.progress.untold]
            self.untold = [torch.tensor(loss, device=self.stepper.device) for loss in losses]
            events.emit("train.resumed", step=self.progress.step)
        started = time.monotonic() - self.progress.seconds
        keep_memory()
        self.task.model.train()
        with interruption.deferring(), self.writer:
            if not self.progress.step:
                self._look()
            while not self._is_over():
                loss, learnt = self.stepper(self.progress.step)
                self.untold.append(loss)
                self.progress.tokens += int(learnt)
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

    def _tell(self) -> None:
        """A line of progress, and a look at validation and a sample, where they are due."""
        step, plan = self.progress.step, self.plan
        last = step == plan.steps
        if step == 1 or step % plan.log_every == 0 or last:
            self._line(step)
        if step % plan.validate_every == 0 or last:
            self._look()

    def _line(self, step: int) -> None:
        before = self.progress.history[-1]["loss"] if self.progress.history else None
        loss = self.watch.mean(torch.stack(self.untold).tolist(), step, before)
        self.untold = []
        if loss is None:
            return
        row = {
            "step": step,
            "loss": loss,
            "tokens": self.progress.tokens,
            "seconds": round(self.progress.seconds, 3),
            "learning_rate": self.plan.schedule(step - 1),
        }
        self.progress.history.append(row)
        events.emit("train.step", steps=self.plan.steps, **row)

    def _look(self) -> None:
        """The objective on the validation batches, and a sample of what the model says by now."""
        step = self.progress.step
        if self.task.validation:
            autocast = autocasting(self.stepper.device, self.plan.precision)
            loss = evaluate_objective(self.parallel, self.task.objective, list(self.task.validation), autocast)
            if not math.isfinite(loss):
                raise self.watch.lost(step)
            figures = self.task.measure() if self.task.measure else {}
            self.progress.validation.append({"step": step, "loss": loss, **figures})
            self._keep_best(loss)
            events.emit("train.validation", step=step, steps=self.plan.steps, loss=loss, **figures)
        if self.task.sample and self.parallel.samples:
            was_training = self.task.model.training
            self.task.model.eval()
            with self.parallel.talking():
                sample: dict[str, Any] = {"step": step, **self.task.sample()}
            self.task.model.train(was_training)
            self.progress.samples.append(sample)
            events.emit("train.sample", **sample)

    def _keep_best(self, loss: float) -> None:
        """Note a validation loss below all before it, and the weights that had it."""
        if not self.plan.patience:
            return
        if self.progress.best_loss is None or loss < self.progress.best_loss:
            self.progress.best_loss = loss
            self.progress.looks_without_gain = 0
            self.best = {name: value.clone() for name, value in trained_tensors(self.task.model).items()}
        else:
            self.progress.looks_without_gain += 1

    def _save_if_due(self) -> None:
        """Save when the interval is over (by the first process's clock), when a signal waits in any process, and at the end."""
        due = self.ranks.first and time.monotonic() - self.saved_at >= self.plan.checkpoint_seconds
        wish = self.ranks.highest(interruption.requested() or (DUE if due else 0.0))
        if not (wish or self._is_over()):
            return
        losses = [float(loss) for loss in self.untold]
        self.progress.untold = [loss if math.isfinite(loss) else None for loss in losses]
        tensors = {"model": trained_tensors(self.task.model), "optimiser": self.stepper.optimiser.state()}
        tensors |= {"best": self.best} if self.best else {}
        self.writer.save(tensors, self.progress)
        self.saved_at = time.monotonic()
        interruption.raise_if_requested(int(wish))  # on the way out the writer finishes what it began

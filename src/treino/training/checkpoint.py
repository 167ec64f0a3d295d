"""Saved states of a training run: whole or absent, checked when read, the newest few kept."""

from __future__ import annotations

import copy
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor, nn

from treino import events, files
from treino.errors import DataError, reason_of
from treino.messages import N_
from treino.training.optimiser import Optimiser
from treino.training.parallel import part_of, whole
from treino.training.ranks import ALONE, Ranks

SCHEMA = 3
_CHANGED = N_("{name} is not what was written")
STATE = "state.json"


@dataclass
class Progress:
    """What a resumed run must know beside the tensors: steps and tokens done, seconds spent, the history so far, and the
    losses of steps that no line of the history tells yet; the lowest validation loss where the plan has patience.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    untold: list[float] = field(default_factory=list)
    best_loss: float | None = None
    best_step: int = 0
    looks_without_gain: int = 0


class CheckpointWriter:
    """Saves in the background: a copy of the state is taken at once, and written while training goes on.

    Use it as a context manager: at its end all is written. What goes wrong while writing is raised by the next `save`, by
    `finish`, or at the end. Where several processes train, each calls `save`, and gives its parts of the tensors to the one
    that `writes`.
    """

    def __init__(self, folder: Path, *, keep: int, writes: bool = True) -> None:
        self.folder, self.keep, self.writes = folder, keep, writes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._step = 0

    def save(self, tensors: dict[str, dict[str, Tensor]], progress: Progress) -> None:
        """Begin to save; waits for the save before it."""
        self.finish()
        kept: dict[str, dict[str, Tensor]] = {kind: {} for kind in tensors}
        for kind, group in tensors.items():
            for name, value in sorted(group.items()):
                complete = whole(value)  # all processes ask for it, in one order
                if self.writes:
                    kept[kind][name] = complete.to("cpu", copy=True)
        if not self.writes:
            return
        self._step = progress.step
        self._writing = self._thread.submit(save_checkpoint, self.folder, kept, copy.deepcopy(progress), keep=self.keep)

    def finish(self) -> None:
        """Wait until what was begun is written."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
            events.emit("train.checkpoint", step=self._step)

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            self.finish()
        finally:
            self._thread.shutdown()


def save_checkpoint(folder: Path, tensors: dict[str, dict[str, Tensor]], progress: Progress, *, keep: int) -> None:
    """Write `folder/step-…` (a file for each of `tensors`: "model", "optimiser", and "best" if there is one) beside its
    final name, sync, rename; then remove all but the `keep` newest.
    """
    final = folder / name_of(progress.step)
    if final.exists():
        return
    partial = folder / f".{final.name}.partial"
    files.remove_folder(partial)
    files.make_private(partial)
    names = {f"{kind}.safetensors": values for kind, values in tensors.items()}
    for name, values in names.items():
        files.write_bytes(partial / name, save({key: value.contiguous() for key, value in values.items()}))
    state = vars(progress) | {"schema": SCHEMA, "sha256": {name: files.sha256_file(partial / name) for name in names}}
    state["digest"] = files.digest(state)
    files.write_json(partial / STATE, state)
    files.publish_folder(partial, final)
    for old in checkpoints(folder)[keep:]:
        files.remove_folder(old)


def load_checkpoint(
    folder: Path, model: nn.Module, optimiser: Optimiser, ranks: Ranks = ALONE
) -> tuple[Progress, dict[str, Tensor]] | None:
    """Restore the newest whole checkpoint, and return its progress and best weights (empty: none were kept); a damaged one
    is named, set aside, and the one before it is taken. The first process chooses, the others follow; each takes its part.

    Raises:
        DataError: where a process cannot read what the first one chose.
    """
    read = _newest(folder) if ranks.first else None
    step = int(ranks.highest(read.progress.step if read else -1))
    if step < 0:
        return None
    read = read or _follow(folder, step)
    own = trained_tensors(model)
    model.load_state_dict({name: part_of(value, own[name]) for name, value in read.model.items()}, strict=False)
    optimiser.load_state(read.optimiser)
    return read.progress, {name: part_of(value, own[name]) for name, value in read.best.items()}


@dataclass
class _Read:
    progress: Progress
    model: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    best: dict[str, Tensor]


def _newest(folder: Path) -> _Read | None:
    for path in checkpoints(folder):
        try:
            return _read(path)
        except (DataError, OSError, KeyError, ValueError) as error:
            events.emit("warning.checkpoint_damaged", checkpoint=path.name, reason=reason_of(error))
            path.rename(path.with_name(f"damaged-{path.name}"))
    return None


def _follow(folder: Path, step: int) -> _Read:
    """The checkpoint that the first process chose."""
    path = folder / name_of(step)
    try:
        return _read(path)
    except (DataError, OSError, KeyError, ValueError) as error:
        raise DataError(
            N_("a process of the training cannot read {path}, which the first one has read: {reason}"),
            fix=N_("put the folder of runs (--runs) where all machines see it"),
            path=str(path),
            reason=reason_of(error),
        ) from error


def _read(path: Path) -> _Read:
    state = _check(path)
    tensors = {name: load((path / name).read_bytes()) for name in state["sha256"]}
    progress = Progress(**{item.name: state[item.name] for item in fields(Progress)})
    best = tensors.get("best.safetensors", {})
    return _Read(progress, tensors["model.safetensors"], tensors["optimiser.safetensors"], best)


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, newest first."""
    return sorted(folder.glob("step-*"), reverse=True) if folder.exists() else []


def name_of(step: int) -> str:
    """Name of the checkpoint at a step."""
    return f"step-{step:09d}"


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once: a tied table is stored under its first name."""
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: value.detach() for name, value in named.items()}


def trained_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training changes, by name: what is frozen is in the base model."""
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


def _check(path: Path) -> dict[str, Any]:
    state = files.read_json(path / STATE)
    stored = state.pop("digest", "")
    if not isinstance(state, dict) or files.digest(state) != stored or state["schema"] != SCHEMA:
        raise DataError(_CHANGED, name=STATE)
    for name, expected in state["sha256"].items():
        if files.sha256_file(path / name) != expected:
            raise DataError(_CHANGED, name=name)
    return state

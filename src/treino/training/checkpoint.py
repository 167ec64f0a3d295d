"""Saved states of a training run: whole or absent, checked when read, the newest few kept."""

from __future__ import annotations

import copy
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from treino import events, files
from treino.errors import DataError, reason_of
from treino.measure import available_memory
from treino.messages import N_
from treino.training.optimiser import Optimiser
from treino.training.parallel import part_of, room_like
from treino.training.parts import read_parts, write_part
from treino.training.ranks import ALONE, Ranks

SCHEMA = 3
_CHANGED = N_("{name} is not what was written")
STATE = "state.json"
ROOM_FOR_COPY = 1.5
"""Free memory from which on the state is copied and written beside the training, in sizes of the state."""


@dataclass
class Progress:
    """What a resumed run must know beside the tensors: steps and tokens done, seconds spent, the history so far, and the
    losses of steps that no line of the history tells yet (None: the step was skipped); the lowest validation loss where the
    plan has patience.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    validation: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    untold: list[float | None] = field(default_factory=list)
    best_loss: float | None = None
    looks_without_gain: int = 0


class CheckpointWriter:
    """Saves in the background: a copy of the state is taken at once, and written while training goes on, if it has room.

    Use it as a context manager: at its end all is written. What goes wrong while writing is raised by the next `save`, by
    `finish`, or at the end. Where several processes train, each calls `save`: the first one writes for all where each has the
    whole state, and each its own part where the state is cut into `parts`.
    """

    def __init__(self, folder: Path, *, keep: int, ranks: Ranks = ALONE, parts: bool = False) -> None:
        self.folder, self.keep = folder, keep
        self.ranks = ranks.apart() if parts else ALONE
        self.writes = parts or ranks.first
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._step = 0

    def save(self, tensors: dict[str, dict[str, Tensor]], progress: Progress) -> None:
        """Begin to save; waits for the save before it, and where memory has no room for a copy, for this one, too."""
        self.finish()
        if not self.writes:
            return
        size = sum(value.nbytes for group in tensors.values() for value in group.values())
        free = available_memory()
        beside = free is None or free > ROOM_FOR_COPY * size
        kept = {
            kind: {name: value.to("cpu", copy=beside) for name, value in sorted(group.items())}
            for kind, group in tensors.items()
        }
        self._step = progress.step
        asked = (self.folder, kept, copy.deepcopy(progress))
        self._writing = self._thread.submit(save_checkpoint, *asked, keep=self.keep, ranks=self.ranks)
        if not beside:
            self.finish()

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


def save_checkpoint(
    folder: Path, tensors: dict[str, dict[str, Tensor]], progress: Progress, *, keep: int, ranks: Ranks = ALONE
) -> None:
    """Write `folder/step-…` beside its final name, sync, rename; then remove all but the `keep` newest.

    Each kind of `tensors` ("model", "optimiser", and "best" if there is one) is a file, or of several processes a folder with
    a file from each (`treino.training.parts`). All of them call it; the first one makes the folder and gives it its name.
    """
    final = folder / name_of(progress.step)
    partial = folder / f".{final.name}.partial"
    with ranks.agreeing():
        if ranks.first and not final.exists():
            for left in folder.glob(".step-*.partial"):  # of saves that were cut off: one at a time is under way
                files.remove_folder(left)
            files.make_private(partial)
    if ranks.highest(float(ranks.first and final.exists())):
        return
    sums: dict[str, str] = {}
    with ranks.agreeing():
        for kind, values in tensors.items():
            path = _write(partial, kind, values, ranks)
            sums[path.relative_to(partial).as_posix()] = files.sha256_file(path)
    sums = ranks.told(sums)
    with ranks.agreeing():
        if ranks.first:
            state = vars(progress) | {"schema": SCHEMA, "sha256": sums}
            files.write_json(partial / STATE, state | {"digest": files.digest(state)})
            files.publish_folder(partial, final)
            for old in checkpoints(folder)[keep:]:
                files.remove_folder(old)


def _write(partial: Path, kind: str, tensors: dict[str, Tensor], ranks: Ranks) -> Path:
    """Write what this process has of a kind of tensors."""
    if ranks.size > 1:
        return write_part(partial / kind, tensors, ranks.rank)
    path = partial / f"{kind}.safetensors"
    whole = {name: value.contiguous() for name, value in tensors.items()}
    files.write_with(path, lambda temporary: save_file(whole, temporary))
    return path


def load_checkpoint(
    folder: Path, model: nn.Module, optimiser: Optimiser, ranks: Ranks = ALONE
) -> tuple[Progress, dict[str, Tensor]] | None:
    """Restore the newest whole checkpoint, and return its progress and best weights (empty: none were kept); a damaged one
    is named, set aside, and the one before it is taken. The first process chooses, the others follow; each takes its part.

    Raises:
        DataError: where a process cannot read what the first one chose.
    """
    chosen = _newest(folder) if ranks.first else None
    step = int(ranks.highest(step_of(chosen) if chosen else -1))
    if step < 0:
        return None
    path, own = folder / name_of(step), trained_tensors(model)
    try:
        state = _state(path)
        kinds = {Path(name).parts[0].removesuffix(".safetensors") for name in state["sha256"]}
        tensors = {kind: _read(path, kind, own) for kind in sorted(kinds)}
    except (DataError, OSError, KeyError, ValueError) as error:
        if ranks.first:
            raise
        raise DataError(
            N_("a process of the training cannot read {path}, which the first one has read: {reason}"),
            fix=N_("put the folder of runs (--runs) where all machines see it"),
            path=str(path),
            reason=reason_of(error),
        ) from error
    model.load_state_dict(tensors["model"], strict=False)
    optimiser.load_state(tensors["optimiser"])
    return Progress(**{item.name: state[item.name] for item in fields(Progress)}), tensors.get("best", {})


def _newest(folder: Path) -> Path | None:
    """The newest checkpoint whose files are what was written."""
    for path in checkpoints(folder):
        try:
            for name, expected in _state(path)["sha256"].items():
                if files.sha256_file(path / name) != expected:
                    raise DataError(_CHANGED, name=name)
            return path
        except (DataError, OSError, KeyError, ValueError) as error:
            events.emit("warning.checkpoint_damaged", checkpoint=path.name, reason=reason_of(error))
            aside = path.with_name(f"damaged-{path.name}")
            files.remove_folder(aside)  # of the same step before it was written anew
            path.rename(aside)
    return None


def _state(path: Path) -> dict[str, Any]:
    """What stands beside the tensors of a checkpoint, all of which must be there."""
    state = files.read_json(path / STATE)
    stored = state.pop("digest", "")
    if not isinstance(state, dict) or files.digest(state) != stored or state["schema"] != SCHEMA:
        raise DataError(_CHANGED, name=STATE)
    for name in state["sha256"]:
        if not (path / name).is_file():
            raise DataError(_CHANGED, name=name)
    return state


def _read(path: Path, kind: str, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """This process's part of a kind of tensors: as its parameters are cut."""

    def like(name: str) -> Tensor:
        return own[name.rpartition("|")[0] or name]  # the optimiser's are called <parameter>|<state>

    if (path / kind).is_dir():
        return read_parts(path / kind, lambda name, size, dtype: room_like(like(name), size, dtype))
    with safe_open(path / f"{kind}.safetensors", "pt") as file:
        return {name: part_of(file.get_tensor(name), like(name)) for name in file.keys()}  # noqa: SIM118


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

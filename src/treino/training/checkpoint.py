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

SCHEMA = 2
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
    `finish`, or at the end.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._step = 0

    def save(self, tensors: dict[str, dict[str, Tensor]], progress: Progress) -> None:
        """Begin to save; waits for the save before it."""
        self.finish()
        kept = {
            kind: {name: value.to("cpu", copy=True) for name, value in group.items()} for kind, group in tensors.items()
        }
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
    final = folder / f"step-{progress.step:09d}"
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


def load_checkpoint(folder: Path, model: nn.Module, optimiser: Optimiser) -> tuple[Progress, dict[str, Tensor]] | None:
    """Restore the newest whole checkpoint, and return its progress and best weights (empty: none were kept); a damaged one
    is named, set aside, and the one before it is taken.
    """
    for path in checkpoints(folder):
        try:
            state = _check(path)
            tensors = {name: load((path / name).read_bytes()) for name in state["sha256"]}
            weights, momenta = tensors["model.safetensors"], tensors["optimiser.safetensors"]
        except (DataError, OSError, KeyError, ValueError) as error:
            events.emit("warning.checkpoint_damaged", checkpoint=path.name, reason=reason_of(error))
            path.rename(path.with_name(f"damaged-{path.name}"))
            continue
        model.load_state_dict(weights, strict=False)
        optimiser.load_state(momenta)
        device = next(model.parameters()).device
        best = {name: value.to(device) for name, value in tensors.get("best.safetensors", {}).items()}
        return Progress(**{item.name: state[item.name] for item in fields(Progress)}), best
    return None


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, newest first."""
    return sorted(folder.glob("step-*"), reverse=True) if folder.exists() else []


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once: a tied table is stored under its first name."""
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: value.detach() for name, value in named.items()}


def _check(path: Path) -> dict[str, Any]:
    state = files.read_json(path / STATE)
    stored = state.pop("digest", "")
    if not isinstance(state, dict) or files.digest(state) != stored or state["schema"] != SCHEMA:
        raise DataError(_CHANGED, name=STATE)
    for name, expected in state["sha256"].items():
        if files.sha256_file(path / name) != expected:
            raise DataError(_CHANGED, name=name)
    return state

"""The stated rule for losses that are no numbers or leap, and a writer whose disk fails."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_loop import Source, TwoTerms, network, plan

from treino import events, files
from treino.errors import MachineError
from treino.training import checkpoint
from treino.training.checkpoint import CheckpointWriter, Progress, checkpoints
from treino.training.loop import train
from treino.training.task import Task
from treino.training.trouble import NotFinite, Watch


class Poisoned(Source):
    """Batches of which some steps hold an infinite number."""

    def __init__(self, bad: set[int]) -> None:
        super().__init__(12, 3)
        self.bad = bad

    def step(self, step: int) -> list[Any]:
        batches = super().step(step)
        if step in self.bad:
            batches[1].x[0, 0] = math.inf
        return batches


def run(bad: set[int], folder: Path, **changes: Any) -> tuple[torch.nn.Module, Progress, list[events.Event]]:
    model, heard = network(), []
    with events.listening(heard.append):
        progress = train(
            Task(model, TwoTerms(), Poisoned(bad)), plan(**changes), folder / "checkpoints", folder / "records"
        )
    return model, progress, heard


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_step_that_is_no_number_is_not_taken_and_its_batch_kept(tmp_path: Path, log_every: int) -> None:
    model, progress, heard = run({5, 8}, tmp_path, log_every=log_every)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    told = [event.values["step"] for event in heard if event.kind == "warning.step_skipped"]
    assert told == [6, 9]
    kept = load_file(tmp_path / "records" / "trouble-step-6.safetensors")
    assert kept["1.x"][0, 0] == math.inf and kept["0.x"].shape == (4, 5)
    assert all(math.isfinite(row["loss"]) for row in progress.history)
    assert [row["step"] for row in progress.history if row["step"] in told] == []
    assert progress.step == 12


def test_a_checkpoint_between_a_skipped_step_and_its_line_is_written_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole, _ = run({5}, tmp_path / "whole", log_every=4)
    step = Poisoned.step

    def cut(self: Poisoned, number: int) -> list[Any]:
        if number == 6:  # the sixth step, number 5, is the one that is skipped
            raise ConnectionError
        return step(self, number)

    with monkeypatch.context() as patched, pytest.raises(ConnectionError):
        patched.setattr(Poisoned, "step", cut)
        run({5}, tmp_path / "stopped", log_every=4, checkpoint_seconds=0.0)
    _, resumed, heard = run({5}, tmp_path / "stopped", log_every=4)
    assert [event.values["step"] for event in heard if event.kind == "train.resumed"] == [6]
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]


def test_what_a_save_that_was_cut_off_left_goes_with_the_next(tmp_path: Path) -> None:
    left = tmp_path / "checkpoints" / ".step-00000003.partial"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    run(set(), tmp_path)
    assert not left.exists()


def test_three_in_a_row_end_the_training(tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match="no longer a number"):
        run({4, 5, 6}, tmp_path, log_every=6)


def test_a_leap_is_told_and_a_small_rise_is_not(tmp_path: Path) -> None:
    watch, heard = Watch(Source(12, 3), 0.1, tmp_path), []
    with events.listening(heard.append):
        assert watch.mean([2.0, 2.9, 3.2], 3, 2.0) == pytest.approx(2.7)
        assert watch.mean([9.0], 4, None) == 9.0
    assert [(event.kind, event.values["step"]) for event in heard] == [("warning.loss_leapt", 3)]
    assert (tmp_path / "trouble-step-3.safetensors").exists()


def test_a_disk_that_fails_in_the_background_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, write: Callable[[Path], object]) -> None:
        with files.machine_errors(path):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_with", full)
    with pytest.raises(MachineError, match="No space left"), CheckpointWriter(tmp_path, keep=2) as writer:
        writer.save({"model": {"a": torch.zeros(2)}, "optimiser": {}}, Progress(step=3))
    assert checkpoints(tmp_path) == []


def test_without_room_for_a_copy_a_checkpoint_is_written_before_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "available_memory", lambda: 5000)
    copies: list[bool] = []
    to = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda *given, **named: (copies.append(named["copy"]), to(*given, **named))[1]
    )
    tensor = torch.zeros(1000)
    with CheckpointWriter(tmp_path, keep=2) as writer:
        writer.save({"model": {"a": tensor}, "optimiser": {}}, Progress(step=3))
        assert copies == [False] and [path.name for path in checkpoints(tmp_path)] == ["step-000000003"]
        tensor += 1
    assert not load_file(checkpoints(tmp_path)[0] / "model.safetensors")["a"].any()


def test_what_is_saved_is_the_state_of_that_moment(tmp_path: Path) -> None:
    tensor, progress = torch.zeros(1000), Progress(step=3)
    with CheckpointWriter(tmp_path, keep=2) as writer:
        writer.save({"model": {"a": tensor}, "optimiser": {}}, progress)
        tensor += 1
        progress.step = 4
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000000003"]
    assert not load_file(checkpoints(tmp_path)[0] / "model.safetensors")["a"].any()

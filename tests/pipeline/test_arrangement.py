"""A step that goes through the model in parts, and layers that are computed again, train as the whole step does."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from test_finetuning import recipe

import treino
from treino.errors import MachineError
from treino.events import Event
from treino.pipeline.store import Store
from treino.planning.fit import Arrangement
from treino.training import pretrain
from treino.training.task import Task


def test_little_memory_changes_how_steps_are_taken_and_not_what_is_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = recipe(
        model={"architecture": "transformer", "width": 16, "layers": 2, "heads": 2}, pretrain={"accumulation": 2}
    )
    content["model"].pop("embedding")
    del content["labels"], content["finetune"]
    roomy = treino.run(content, runs=tmp_path / "roomy")
    monkeypatch.setattr(pretrain, "fitted", lambda *_, **__: (Arrangement(1, True), "ddp"))
    passes: set[int] = set()
    train = pretrain.train

    def watched(task: Task, *rest: Any) -> Any:
        passes.update(len(batch.ids) for step in range(2) for batch in task.source.step(step))
        return train(task, *rest)

    monkeypatch.setattr(pretrain, "train", watched)
    lean = treino.run(content, runs=tmp_path / "lean")
    assert passes == {1}, "rows of a pass, as decided"
    assert lean.digests["tokenise"] == roomy.digests["tokenise"]
    for name in ("first_loss", "last_loss", "last_validation_loss"):
        assert lean.facts["pretrain"][name] == pytest.approx(roomy.facts["pretrain"][name], abs=1e-5)
    for run, rows, again in ((roomy, "4", "false"), (lean, "1", "true")):
        lock = (run.folder / "recipe.lock.toml").read_text(encoding="utf-8")
        assert f"value = {rows}" in lock.partition("rows_at_once")[2][:160], lock
        assert f"value = {again}" in lock.partition("recompute")[2][:160], lock
    monkeypatch.undo()
    again = treino.run(content, runs=tmp_path / "lean")
    assert again.digests == lean.digests, "what was decided stays"


def test_a_finished_training_that_could_not_be_sealed_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk refuses the last rename (Windows does while another program looks into the folder); a kill behind it."""
    content = recipe()
    del content["labels"], content["finetune"]
    whole = treino.run(content, runs=tmp_path / "whole")
    replace, steps = os.replace, list[int]()

    def refuse(source: str | Path, target: str | Path) -> None:
        if Path(target).name.startswith("pretrain-"):
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(source, target)

    with monkeypatch.context() as patched, pytest.raises(MachineError, match="no permission"):
        patched.setattr(os, "replace", refuse)
        treino.run(content, runs=tmp_path / "cut")

    def listen(event: Event) -> None:
        steps.extend([event.values["step"]] if event.kind == "train.resumed" else [])

    with monkeypatch.context() as patched:
        patched.setattr(Store, "tidy", lambda _, artefact: artefact)
        treino.run(content, runs=tmp_path / "cut", listener=listen)
    assert steps == [20]
    assert list((tmp_path / "cut").rglob("checkpoints"))
    again = treino.run(content, runs=tmp_path / "cut", listener=listen)
    assert steps == [20]
    assert not list((tmp_path / "cut").rglob("checkpoints"))
    weights = [run.model_folder / "model.safetensors" for run in (whole, again)]
    assert weights[0].read_bytes() == weights[1].read_bytes()

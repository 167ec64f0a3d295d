"""A step that goes through the model in parts, and layers that are computed again, train as the whole step does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_finetuning import recipe

import treino
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
    content = recipe()
    del content["labels"], content["finetune"]
    whole = treino.run(content, runs=tmp_path / "whole")
    publish, steps = Store.publish, list[int]()

    def cut(self: Store, partial: Path, final: Path, record: dict[str, Any]) -> Any:
        if record["stage"] == "pretrain":
            raise KeyboardInterrupt
        return publish(self, partial, final, record)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Store, "publish", cut)
        treino.run(content, runs=tmp_path / "cut")

    def listen(event: Event) -> None:
        steps.extend([event.values["step"]] if event.kind == "train.resumed" else [])

    again = treino.run(content, runs=tmp_path / "cut", listener=listen)
    assert steps == [20]
    assert not list((tmp_path / "cut").rglob("checkpoints"))
    weights = [run.model_folder / "model.safetensors" for run in (whole, again)]
    assert weights[0].read_bytes() == weights[1].read_bytes()

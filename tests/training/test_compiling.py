"""Compiling the step: when it pays, that it changes nothing, and what happens where it fails."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from treino import events
from treino.models.build import build_model
from treino.recipe import ModelSettings
from treino.tokens.packing import Batch
from treino.training import compiling
from treino.training.compiling import COLD_SECONDS, compiled_sums, pays
from treino.training.objective import NextToken

CPU = torch.device("cpu")


def test_it_pays_for_long_runs_of_one_shape_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: "/usr/bin/c++")
    long = 6 * COLD_SECONDS
    assert pays(long, CPU, kernels=False, one_shape=True)
    assert not pays(long / 2, CPU, kernels=False, one_shape=True)
    assert not pays(long, CPU, kernels=True, one_shape=True)
    assert not pays(long, CPU, kernels=False, one_shape=False)
    assert not pays(long, torch.device("mps"), kernels=False, one_shape=True)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert not pays(long, CPU, kernels=False, one_shape=True)
    assert pays(long, torch.device("cuda"), kernels=False, one_shape=True)


def scene() -> tuple[Any, Batch]:
    torch.manual_seed(0)
    shape = {"width": 16, "layers": 1, "heads": 2, "kv_heads": 1, "feed_forward": 24, "context": 8, "embedding": 16}
    model = build_model(ModelSettings(architecture="transformer", **shape), 20)
    ids = torch.randint(20, (2, 9))
    segments = (torch.arange(8) > 4).long().expand(2, 8)
    return model, Batch(ids[:, :-1], ids[:, 1:], torch.arange(8).expand(2, 8), segments)


def test_compiled_sums_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")  # the graph without the minute that machine code takes
    model, batch = scene()
    plain = NextToken().sums(model, batch)["next_token"]
    wanted = torch.autograd.grad(plain, list(model.parameters()))
    compiled = compiled_sums(NextToken())(model, batch)["next_token"]
    got = torch.autograd.grad(compiled, list(model.parameters()))
    assert float(compiled.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)
    for one, other in zip(got, wanted, strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, float(other.abs().max()))


def test_a_compiler_that_fails_is_told_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no such instruction\nand more")

    monkeypatch.setattr(compiling, "BACKEND", broken)
    model, batch = scene()
    heard: list[events.Event] = []
    with events.listening(heard.append):
        sums = compiled_sums(NextToken())
        assert [float(sums(model, batch)["next_token"].detach()) for _ in range(2)] == [
            float(NextToken().sums(model, batch)["next_token"].detach())
        ] * 2
    assert [event.kind for event in heard] == ["compile.started", "warning.compile_failed"]
    assert "no such instruction" in heard[1].values["reason"] or "BackendCompilerFailed" in heard[1].values["reason"]

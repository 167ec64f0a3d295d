"""Compiling the step: when it pays, that it changes nothing, and what happens where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from treino import events
from treino.corpus.documents import DOCUMENTS, content_hash, write_rows
from treino.models.build import build_model
from treino.recipe import ModelSettings, PretrainSettings, TokenSettings
from treino.tokens.packing import Batch
from treino.tokens.tokenise import tokenise
from treino.training import calibrate, compiling
from treino.training.calibrate import Speed
from treino.training.compiling import COLD_SECONDS, compiled_sums, worth_a_trial
from treino.training.objective import NextToken
from treino.training.pretrain import RESERVED_SHARE, Pretraining

CPU = torch.device("cpu")
SHAPE = ModelSettings(
    architecture="transformer", width=16, layers=1, heads=2, kv_heads=1, feed_forward=24, context=8, embedding=16
)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """The tokens of a few documents."""
    plain = {"source": "s", "language": "pt", "licence": "", "weight": 1.0, "meta": "{}"}
    for part, count in (("training", 40), ("held_out", 0)):
        texts = [f"o gato número {number} subiu no telhado" for number in range(count)]
        rows = [{"id": f"d{text}", "text": text, "content_hash": content_hash(text)} | plain for text in texts]
        write_rows(tmp_path / "documents" / part, rows, DOCUMENTS)
    (tmp_path / "tokens").mkdir()
    tokenise(TokenSettings(vocabulary=300), tmp_path / "documents", tmp_path / "tokens", 1)
    return tmp_path / "tokens"


def test_a_trial_is_for_long_runs_of_one_shape_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.shutil, "which", lambda name: "/usr/bin/c++")
    long = 11 * COLD_SECONDS
    assert worth_a_trial(long, CPU, kernels=False, one_shape=True)
    assert not worth_a_trial(long / 2, CPU, kernels=False, one_shape=True)
    assert not worth_a_trial(long, CPU, kernels=True, one_shape=True)
    assert not worth_a_trial(long, CPU, kernels=False, one_shape=False)
    assert not worth_a_trial(long, torch.device("mps"), kernels=False, one_shape=True)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    assert not worth_a_trial(long, CPU, kernels=False, one_shape=True)
    assert worth_a_trial(long, torch.device("cuda"), kernels=False, one_shape=True)


class Clock:
    """Time that passes only in the steps of a stand-in for `Stepper`: 2 s as they are, `compiled` s compiled, and before the
    first of those 60 s for the compiler.
    """

    def __init__(self, compiled: float) -> None:
        self.now, self.compiled, self.tried = 0.0, compiled, 0

    def __call__(self) -> float:
        return self.now

    def stepper(self, task: Any, plan: Any) -> Any:
        self.tried += plan.compile

        def take(step: int) -> tuple[torch.Tensor, float]:
            self.now += (self.compiled + 60.0 * (step == 0)) if plan.compile else 2.0
            return torch.zeros(()), 100.0

        return take


@pytest.mark.parametrize(
    ("steps", "compiled", "wanted", "said"),
    [
        (400, 1.0, False, "would not pay"),  # too short for a trial
        (500, 1.0, True, "a step takes 1,000.0 ms instead of 2,000.0"),  # 500 s are saved, and 60 paid
        (500, 1.9, False, "500 steps do not win back 1 min 00 s"),  # 50 s would be
        (700, 1.9, True, "a step takes 1,900.0 ms instead of 2,000.0"),  # 70 s are
        (500, 2.5, False, "instead of 2,000.0"),  # slower than as it is
    ],
)
def test_a_run_decides_from_its_own_steps(
    steps: int, compiled: float, wanted: bool, said: str, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that stands in: steps, time in the compiler and decision; the forecast is then that of the steps taken."""
    clock = Clock(compiled)
    monkeypatch.setattr(calibrate.time, "perf_counter", clock)
    monkeypatch.setattr(calibrate, "Stepper", clock.stepper)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: "/usr/bin/c++")
    settings = PretrainSettings(
        budget=f"{steps} steps", batch=2, precision="float32", optimiser="adamw", schedule="cosine"
    )
    decided = Pretraining(settings, SHAPE, tokens, seed=0).decide()
    value, reason, _ = decided["pretrain.compile"]
    assert value is wanted and said in reason.english()
    assert decided["pretrain.steps"][0] == steps
    places = settings.batch * SHAPE.context
    assert decided["pretrain.tokens_per_second"][0] == pytest.approx(places / (compiled if wanted else 2.0), rel=1e-2)
    assert clock.tried == (steps > 450)


@pytest.mark.parametrize("error, wanted", [(0.0, True), (0.1, True), (0.4, False)])
def test_a_gain_that_may_be_noise_is_not_compiled_for(error: float, wanted: bool) -> None:
    """100 steps save 100 s for 30 in the compiler: 72 s are sure with errors of .1 s, and nothing is with .4."""
    eager = Speed("float32", 2.0, 1.0, error=error)
    assert compiling.judged(eager, 100, lambda: Speed("float32", 1.0, 2.0, 30.0, error)).compiles is wanted


def test_the_error_of_a_speed_is_that_of_its_median() -> None:
    assert calibrate._error([1.0, 1.0, 1.0, 50.0]) == 0.0
    assert calibrate._error([0.9, 1.0, 1.1, 1.0]) == pytest.approx(1.253 * 1.483 * 0.05 / 2)


def test_minutes_are_spent_by_the_speed_that_was_decided(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1.0)
    monkeypatch.setattr(calibrate.time, "perf_counter", clock)
    monkeypatch.setattr(calibrate, "Stepper", clock.stepper)
    monkeypatch.setattr(compiling.shutil, "which", lambda name: "/usr/bin/c++")
    settings = PretrainSettings(budget="30 min", batch=2, precision="float32", optimiser="adamw", schedule="cosine")
    training = Pretraining(settings, SHAPE, tokens, seed=0)
    decided = training.decide()
    assert decided["pretrain.compile"][0]
    assert decided["pretrain.steps"][0] == pytest.approx(1800 * (1 - RESERVED_SHARE) - 60, abs=5)


@pytest.mark.parametrize(
    ("shape", "window"), [({"architecture": "lstm", "tied": False, "context": 64}, 0), ({}, 3)], ids=["lstm", "window"]
)
def test_where_rows_have_no_one_length_tokens_are_those_that_are_learnt(
    shape: dict[str, Any], window: int, tokens: Path
) -> None:
    settings = PretrainSettings(budget="1 epochs", batch=4, precision="float32", optimiser="adamw", window=window)
    training = Pretraining(settings, SHAPE.model_copy(update=shape), tokens, seed=0)
    epoch = [training.source.step(step) for step in range(int(training.steps_per_epoch))]
    learnt = sum(float((batch.targets >= 0).sum()) for batches in epoch for batch in batches)
    wanted = 10 * learnt
    speed = Speed("float32", 0.5, learnt / len(epoch) / 0.5)
    assert training.steps_for(wanted, "tokens", speed) == pytest.approx(10 * len(epoch), rel=0.1)
    assert training.steps_for(10, "minutes", speed) == pytest.approx(600 * (1 - RESERVED_SHARE) / 0.5, rel=0.1)


def scene() -> tuple[Any, Batch]:
    torch.manual_seed(0)
    model = build_model(SHAPE, 20)
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

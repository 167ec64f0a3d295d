"""Which device computes, by what is there and what is asked for; and what is done for a GPU alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from treino.errors import UsageError
from treino.models.device import choose
from treino.pipeline import api
from treino.tokens.packing import moved
from treino.training.formats import settle
from treino.training.optimiser import Optimiser
from treino.training.ranks import Ranks


def machine(patch: pytest.MonkeyPatch, gpus: int, apple: bool, asked: str = "") -> None:
    patch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    patch.setattr(torch.cuda, "device_count", lambda: gpus)
    patch.setattr(torch.backends.mps, "is_available", lambda: apple)
    patch.setenv("TREINO_DEVICE", asked)


@pytest.mark.parametrize(
    ("gpus", "apple", "asked", "ranks", "wanted", "why"),
    [
        (1, True, "", 1, "cuda:0", "an NVIDIA GPU"),
        (0, True, "", 1, "mps", "of an Apple processor"),
        (0, False, "", 1, "cpu", "no GPU"),
        (2, False, "", 2, "cuda:1", "for each process"),
        (1, False, "", 2, "cpu", "fewer GPUs than processes"),
        (0, True, "", 2, "cpu", "no GPU"),  # what processes tell each other does not travel there
        (1, True, "cpu", 1, "cpu", "TREINO_DEVICE"),
        (1, True, "MPS", 1, "mps", "TREINO_DEVICE"),
        (2, False, "cuda", 2, "cuda:1", "TREINO_DEVICE"),
    ],
)
def test_the_quickest_device_that_is_there_or_the_one_asked_for(
    gpus: int, apple: bool, asked: str, ranks: int, wanted: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpus, apple, asked)
    chosen = choose(ranks - 1, ranks)
    assert str(chosen.device) == wanted and why in chosen.reason.english()
    assert Ranks(ranks - 1, ranks, ranks - 1, ranks).device == chosen.device


@pytest.mark.parametrize(
    ("asked", "ranks", "said"),
    [("tpu", 1, "must be cuda, mps or cpu, not tpu"), ("cuda", 2, "asks for cuda"), ("mps", 1, "asks for mps")],
)
def test_a_device_that_is_not_there_is_refused(
    asked: str, ranks: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 1, False, asked)
    with pytest.raises(UsageError, match=said):
        choose(0, ranks)


def test_a_model_that_was_loaded_answers_on_an_nvidia_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[str] = []

    class Told(nn.Module):
        def to(self, device: torch.device) -> Told:  # type: ignore[override]
            went.append(str(device))
            return self

    for gpus, apple, asked in ((1, True, ""), (0, True, ""), (1, False, "cpu"), (0, False, "")):
        machine(monkeypatch, gpus, apple, asked)
        api._where_it_answers(Told())
    assert went == ["cuda:0"]


def test_batches_go_to_a_gpu_through_pinned_memory() -> None:
    """Told by a stand-in for a tensor, since there is no GPU to send one to."""
    calls: list[Any] = []

    class Told:
        device = torch.device("cpu")

        def pin_memory(self) -> Told:
            calls.append("pinned")
            return self

        def to(self, device: torch.device, non_blocking: bool = False) -> Told:
            calls.append((device.type, non_blocking))
            return self

    for device in ("cuda", "mps", "cpu"):
        moved(Told(), torch.device(device))  # type: ignore[arg-type]
    assert calls == ["pinned", ("cuda", True), ("mps", False), ("cpu", False)]


def test_float32_on_a_gpu_is_float32_where_it_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    before = torch.get_float32_matmul_precision()
    try:
        settle(torch.device("cpu"), "bfloat16")
        assert torch.get_float32_matmul_precision() == before
        settle(torch.device("cuda"), "bfloat16")
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("high", True)
        settle(torch.device("cuda"), "float32")
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", False)
    finally:
        torch.set_float32_matmul_precision(before)


def test_adamw_is_fused_and_a_step_to_skip_changes_nothing_on_mps() -> None:
    """Where it is read before the step, by a stand-in for the number that tells."""

    class OnMps(torch.Tensor):
        device = torch.device("mps")

    layer = nn.Linear(3, 2)
    optimiser = Optimiser(layer, weight_decay=0.1, beta2=0.95)
    assert all(group["fused"] for part in optimiser.parts for group in part.param_groups)
    start = layer.weight.detach().clone()
    for skip, changed in ((torch.tensor(1.0).as_subclass(OnMps), False), (torch.tensor(0.0), True)):
        layer(torch.ones(3)).sum().backward()
        optimiser.step(0.1, skip)
        assert torch.equal(layer.weight, start) is not changed and layer.weight.grad is None
        assert bool(optimiser.parts[0].state) is changed

"""Muon against torch's own and by its property; steps that are skipped; the schedule of three phases."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from treino.models.build import build_model
from treino.planning.memory import training_memory
from treino.recipe import ModelSettings
from treino.training import muon
from treino.training.muon import Muon, orthogonalised
from treino.training.optimiser import Optimiser
from treino.training.schedule import Schedule


def test_muon_takes_torch_s_steps() -> None:
    torch.manual_seed(0)
    shapes = [(24, 16), (16, 24), (24, 16), (16, 16)]
    own = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    other = [nn.Parameter(parameter.detach().clone()) for parameter in own]
    mine = Muon(own, weight_decay=0.1)
    theirs = torch.optim.Muon(
        other, lr=0.01, weight_decay=0.1, momentum=0.95, ns_steps=4, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(4):
        for a, b in zip(own, other, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for group in mine.param_groups:
            group["lr"] = 0.01
        mine.step()
        theirs.step()
    for first, second, shape in zip(own, other, shapes, strict=True):
        a, b = first.detach(), second.detach()
        # Both round to bfloat16 in twelve products, in another order: updates of size .2 · .01 · 4 agree to a few per cent.
        assert float((a - b).abs().max()) < 2e-3, shape
        assert float((a - b).norm() / (4 * 0.01 * 0.2 * max(shape) ** 0.5 * min(shape) ** 0.5)) < 0.02


def test_matrices_that_are_taken_in_groups_take_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def stepped(most: int) -> list[nn.Parameter]:
        monkeypatch.setattr(muon, "MUON_TOGETHER", most)
        torch.manual_seed(0)
        matrices = [nn.Parameter(torch.randn(6, 4)) for _ in range(5)]
        optimiser = Muon(matrices, weight_decay=0.1, products=torch.float32)
        optimiser.param_groups[0]["lr"] = 0.1
        for matrix in matrices:
            matrix.grad = torch.randn(6, 4)
        optimiser.step()
        return matrices

    whole = stepped(1000)
    for most in (1, 48, 60):
        for one, other in zip(whole, stepped(most), strict=True):
            torch.testing.assert_close(one, other)


def test_the_planner_knows_what_muon_keeps() -> None:
    network = model()
    optimiser = Optimiser(network, kind="muon", weight_decay=0.1, beta2=0.95)
    run_backward(network)
    optimiser.step(0.01, torch.zeros(()))
    kept = sum(4 * value.numel() for value in optimiser.state().values() if value.ndim)
    shape = ModelSettings(architecture="transformer", **SIZES)
    assert training_memory(shape, 20, 1, 8, optimiser="muon")["optimiser"] == kept


@pytest.mark.parametrize("products, room", [(torch.bfloat16, 0.1), (torch.float32, 1e-5)])
@pytest.mark.parametrize("shape", [(3, 20, 50), (2, 50, 20), (1, 32, 32)])
def test_what_is_orthogonalised_has_singular_values_near_one_and_the_same_directions(
    shape: tuple[int, ...], products: torch.dtype, room: float
) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape)
    done = orthogonalised(x, products).float()
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    inner = u.mT @ done @ v.mT
    diagonal = inner.diagonal(dim1=-2, dim2=-1)
    assert float(diagonal.min()) > 0.5 and float(diagonal.max()) < 1.35
    assert float((inner - torch.diag_embed(diagonal)).abs().max()) < room


SIZES = {"width": 16, "layers": 2, "heads": 2, "kv_heads": 1, "feed_forward": 24, "context": 8, "embedding": 16}


def model() -> nn.Module:
    torch.manual_seed(0)
    return build_model(ModelSettings(architecture="transformer", **SIZES), 20)


def run_backward(network: nn.Module) -> None:
    network(torch.arange(8)[None]).pow(2).sum().backward()


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_skipped_step_changes_nothing(kind: str) -> None:
    network = model()
    optimiser = Optimiser(network, kind=kind, weight_decay=0.1, beta2=0.95)  # type: ignore[arg-type]
    run_backward(network)
    optimiser.step(0.01, torch.zeros(()))
    weights = {name: value.detach().clone() for name, value in network.named_parameters()}
    state = {name: value.clone() for name, value in optimiser.state().items()}
    run_backward(network)
    for parameter in network.parameters():
        assert parameter.grad is not None
        parameter.grad.view(-1)[0] = torch.nan
    optimiser.step(0.01, torch.ones(()))
    assert all(torch.equal(value, weights[name]) for name, value in network.named_parameters())
    assert optimiser.state().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in optimiser.state().items())
    run_backward(network)
    optimiser.step(0.01, torch.zeros(()))
    assert not any(torch.equal(value, weights[name]) for name, value in network.named_parameters())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_goes_out_and_in(kind: str) -> None:
    first, second = model(), model()
    optimisers = [Optimiser(m, kind=kind, weight_decay=0.1, beta2=0.95) for m in (first, second)]  # type: ignore[arg-type]
    run_backward(first)
    optimisers[0].step(0.01, torch.zeros(()))
    second.load_state_dict(first.state_dict())
    optimisers[1].load_state(optimisers[0].state())
    for network, optimiser in zip((first, second), optimisers, strict=True):
        run_backward(network)
        optimiser.step(0.01, torch.zeros(()))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_that_was_laid_out_before_serves_as_that_which_grows(kind: str) -> None:
    networks = model(), model()
    networks[1].load_state_dict(networks[0].state_dict())
    optimisers = [Optimiser(m, kind=kind, weight_decay=0.1, beta2=0.95) for m in networks]  # type: ignore[arg-type]
    optimisers[1].prepare(lambda shapes: [torch.zeros(shape) for shape in shapes])
    laid_out = optimisers[1].state()
    for network, optimiser in zip(networks, optimisers, strict=True):
        for _ in range(2):
            run_backward(network)
            optimiser.step(0.01, torch.zeros(()))
    state = optimisers[0].state()
    assert laid_out.keys() == state.keys()
    assert all(torch.equal(laid_out[name], value) for name, value in state.items())
    assert all(torch.equal(a, b) for a, b in zip(*(network.parameters() for network in networks), strict=True))


def test_muon_takes_the_layers_matrices_alone() -> None:
    network = model()
    optimiser = Optimiser(network, kind="muon", weight_decay=0.1, beta2=0.95)
    run_backward(network)
    optimiser.step(0.01, torch.zeros(()))
    by_muon = {name.split("|")[0] for name in optimiser.state() if name.endswith("|momentum")}
    matrices = {name for name, value in network.named_parameters() if ".layers." in name and value.ndim == 2}
    assert by_muon == matrices and len(matrices) == 14


def test_the_schedule_of_three_phases() -> None:
    schedule = Schedule(2.0, 100, warmup=0.1, final=0.1, kind="wsd", decay=0.4)
    assert [schedule(step) for step in (0, 9)] == [0.2, 2.0]
    assert {schedule(step) for step in range(10, 61)} == {2.0}
    assert schedule(70) == pytest.approx(2 * (1 - 0.9 * 0.25**0.5 * 1.0))
    assert schedule(100) == pytest.approx(0.2)
    assert all(schedule(step) > schedule(step + 1) for step in range(60, 100))

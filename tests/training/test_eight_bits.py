"""AdamW with moments in 8 bits: bitsandbytes' steps, skipped steps, and a state that can be put away."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from treino.models.blockwise import dynamic_codes, largest, nearest, times
from treino.models.kernels import library
from treino.training import eight_bits
from treino.training.checkpoint import Progress, load_checkpoint, save_checkpoint, trained_tensors
from treino.training.optimiser import Optimiser

DECAY, BETA2, RATE = 0.1, 0.99, 0.01


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(96, 100), nn.Linear(100, 96, bias=False))  # 9,600 numbers: 37.5 blocks


def gradients(model: nn.Module, step: int, smallest: float = 0.0) -> None:
    """Normal, and at least so large; rows are of sizes far apart, the same at every step, where there is no such bound."""
    draw, rows = torch.Generator().manual_seed(step), torch.Generator().manual_seed(1000)
    for parameter in model.parameters():
        found = torch.randn(parameter.shape, generator=draw)
        size = 10 ** torch.randn(len(parameter), generator=rows).view(-1, *[1] * (parameter.ndim - 1))
        found = found.sign() * (found.abs() + smallest) if smallest else found * size
        parameter.grad = found * 1e-3


def optimiser_of(model: nn.Module, kind: Any = "adamw8bit") -> Optimiser:
    return Optimiser(model, kind=kind, weight_decay=DECAY, beta2=BETA2)


def step(optimiser: Optimiser, number: int, smallest: float = 0.0) -> None:
    gradients(optimiser.model, number, smallest)
    optimiser.step(RATE, torch.zeros(()))


def test_steps_and_states_are_those_of_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its rounding on a CPU: the same bytes and scales, bit by bit, and the same parameters up to their rounding."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(eight_bits, "library", lambda: None)
    monkeypatch.setattr(eight_bits, "nearest", functools.partial(nearest, grid=True))
    mine, theirs = network(), network()
    ours = optimiser_of(mine)
    other = bitsandbytes.optim.AdamW8bit(
        [
            {"params": [one for one in theirs.parameters() if one.ndim == 2], "weight_decay": DECAY},
            {"params": [one for one in theirs.parameters() if one.ndim == 1], "weight_decay": 0.0},
        ],
        lr=RATE,
        betas=(0.9, BETA2),
    )
    for number in range(4):
        step(ours, number, smallest=0.1)  # no second moment that it rounds to 0, which we do not
        gradients(theirs, number, smallest=0.1)
        other.step()
    state = ours.state()
    for name, parameter in theirs.named_parameters():
        found = mine.get_parameter(name)
        assert float((found - parameter).detach().abs().max()) <= 1e-6 * float(parameter.detach().abs().max())
        if parameter.ndim == 1:
            continue
        for field, theirs_name in (("exp_avg", "1"), ("exp_avg_sq", "2")):
            expected = other.state[parameter]
            assert torch.equal(state[f"{name}|{field}"].view(parameter.shape), expected[f"state{theirs_name}"])
            assert torch.equal(state[f"{name}|{field}_scale"], expected[f"absmax{theirs_name}"])
    assert state["0.bias|exp_avg"].dtype == torch.float32  # a small one stays wide


def test_steps_are_near_those_in_32_bits_and_the_memory_is_a_quarter() -> None:
    wide, narrow = network(), network()
    before = [parameter.detach().clone() for parameter in wide.parameters()]
    plain, eight = optimiser_of(wide, "adamw"), optimiser_of(narrow)
    for number in range(10):
        step(plain, number)
        step(eight, number)
    for one, other, start in zip(wide.parameters(), narrow.parameters(), before, strict=True):
        moved, apart = (one - start).detach().norm(), (one - other).detach().norm()
        assert float(apart) < 0.2 * float(moved)
    sizes = [
        sum(v.numel() * v.element_size() for name, v in each.state().items() if "weight" in name)
        for each in (plain, eight)
    ]
    assert sizes[1] < sizes[0] * (2 * (1 + 4 / 256) / 8 + 0.001)


@pytest.mark.skipif(library() is None, reason="this machine has no kernels")
def test_the_kernel_takes_the_steps_of_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A last bit may differ where torch fuses a product with a sum, and then a byte by one."""
    fast, slow = network(), network()
    ours, plain = optimiser_of(fast), optimiser_of(slow)
    for number in range(3):
        step(ours, number)
        with monkeypatch.context() as without:
            without.setattr(eight_bits, "library", lambda: None)
            step(plain, number)
        for name, value in plain.state().items():
            if "weight|exp" in name:
                found = ours.state()[name]
                assert float((found != value).float().mean()) < (0.001 if found.dtype == torch.uint8 else 0.5)
                assert torch.allclose(found.float(), value.float(), rtol=1e-6, atol=found.dtype == torch.uint8)
    for one, other in zip(fast.parameters(), slow.parameters(), strict=True):
        assert float((one - other).detach().abs().max()) < 0.1 * RATE
        assert float((one - other).detach().abs().mean()) < 1e-6


def test_a_rounded_number_is_the_nearest_of_all_codes() -> None:
    draw = torch.Generator().manual_seed(3)
    numbers = torch.rand(700, generator=draw) ** 8
    codes = dynamic_codes(signed=False)
    scales = largest(numbers, eight_bits.BLOCK)
    found = times(codes[nearest(numbers, scales, codes, eight_bits.BLOCK).long()], scales, eight_bits.BLOCK)
    every = codes[:, None] * scales.repeat_interleave(eight_bits.BLOCK)[:700]
    best = (every.double() - numbers).abs().amin(0)
    assert float(((found.double() - numbers).abs() - best).max()) <= 1e-7
    assert float(found[numbers > 1e-6].min()) > 0  # bitsandbytes' rounding on a CPU leaves nothing of the smallest


def test_a_gradient_far_below_its_neighbours_takes_no_longer_step_than_they_do() -> None:
    parameter = nn.Parameter(torch.zeros(64, 64))
    optimiser = eight_bits.AdamW8bit([parameter], beta2=BETA2)
    optimiser.param_groups[0]["lr"] = RATE
    for _ in range(20):
        parameter.grad = torch.ones(64, 64)
        parameter.grad[:, ::2] = 1e-5  # second moments of 1e-10, where the smallest code stands for 3e-7
        optimiser.step()
    assert float(parameter.detach().abs().max()) <= 20 * RATE * 1.05


@pytest.mark.parametrize("when", [0, 2])
def test_a_skipped_step_changes_nothing_and_a_state_put_back_goes_on_bit_by_bit(when: int) -> None:
    straight, stopped = network(), network()
    one, other = optimiser_of(straight), optimiser_of(stopped)
    for number in range(4):
        step(one, number)
    for number in range(when):
        step(other, number)
    kept = {name: value.clone() for name, value in other.state().items()}
    weights = {name: value.clone() for name, value in stopped.state_dict().items()}
    gradients(stopped, 99)
    next(iter(stopped.parameters())).grad[0, 0] = torch.nan  # type: ignore[index]
    other.step(RATE, torch.ones(()))
    assert all(torch.equal(value, weights[name]) for name, value in stopped.state_dict().items())
    assert all(torch.equal(value, other.state()[name]) for name, value in kept.items())
    resumed = network()
    resumed.load_state_dict(weights)
    last = optimiser_of(resumed)
    last.load_state(kept)
    for number in range(when, 4):
        step(last, number)
    assert all(torch.equal(value, straight.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_a_checkpoint_holds_the_state_and_training_goes_on_from_it_bit_by_bit(tmp_path: Path) -> None:
    straight, stopped, resumed = network(), network(), network()
    one, other, last = (optimiser_of(model) for model in (straight, stopped, resumed))
    for number in range(4):
        step(one, number)
    for number in range(2):
        step(other, number)
    tensors = {"model": trained_tensors(stopped), "optimiser": other.state()}
    save_checkpoint(tmp_path, tensors, Progress(step=2), keep=1)
    found = load_checkpoint(tmp_path, resumed, last)
    assert found is not None and found[0].step == 2
    for number in range(2, 4):
        step(last, number)
    assert all(torch.equal(value, straight.state_dict()[name]) for name, value in resumed.state_dict().items())
    assert last.state()["0.weight|exp_avg"].dtype == torch.uint8

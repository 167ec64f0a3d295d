"""The loop against a reference written by hand, and its promises about accumulation and resuming."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treino import events
from treino.errors import DataError
from treino.training.checkpoint import checkpoints
from treino.training.loop import train
from treino.training.plan import TrainingPlan
from treino.training.schedule import Schedule
from treino.training.step import accumulate_gradients
from treino.training.task import Task
from treino.training.trouble import NotFinite

CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
TERM_WEIGHTS = {"classes": 1.0, "value": 0.3}


@dataclass(frozen=True)
class Rows:
    """A batch of our own: features, a class (or −100), a value, and whether the value is known."""

    x: Tensor
    label: Tensor
    value: Tensor
    known: Tensor

    def to(self, device: torch.device) -> Rows:
        return self

    def part(self, first: int, last: int) -> Rows:
        return Rows(self.x[first:last], self.label[first:last], self.value[first:last], self.known[first:last])


class TwoTerms:
    """Weighted cross-entropy over some rows and a squared error over others: two terms with unequal counts."""

    weights = TERM_WEIGHTS

    def counts(self, batch: Rows) -> dict[str, float]:
        kept = batch.label >= 0
        return {"classes": float(CLASS_WEIGHTS[batch.label[kept]].sum()), "value": float(batch.known.sum())}

    def sums(self, model: nn.Module, batch: Rows) -> dict[str, Tensor]:
        out = model(batch.x)
        classes = F.cross_entropy(out[:, :3], batch.label, CLASS_WEIGHTS, ignore_index=-100, reduction="sum")
        return {"classes": classes, "value": ((out[:, 3] - batch.value) ** 2 * batch.known).sum()}


class Source:
    """Steps of rows drawn from (seed, step), cut into micro-batches of unequal content."""

    def __init__(self, rows: int, micro: int) -> None:
        self.rows, self.micro = rows, micro

    def whole(self, step: int) -> Rows:
        draw = torch.Generator().manual_seed(100 + step)
        label = torch.randint(-1, 3, (self.rows,), generator=draw)
        return Rows(
            torch.randn(self.rows, 5, generator=draw, dtype=torch.float64),
            torch.where(label < 0, -100, label),
            torch.randn(self.rows, generator=draw, dtype=torch.float64),
            (torch.rand(self.rows, generator=draw) < 0.4).double(),
        )

    def step(self, step: int) -> list[Rows]:
        size = self.rows // self.micro
        return [self.whole(step).part(first, first + size) for first in range(0, self.rows, size)]


def network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 4)).double()


def l2(model: nn.Module) -> Tensor:
    return 0.01 * torch.stack([(parameter**2).sum() for parameter in model.parameters()]).sum()


def plan(**changes: object) -> TrainingPlan:
    base = TrainingPlan(
        steps=12,
        batch=4,
        accumulation=3,
        schedule=Schedule(0.02, 12, warmup=0.25, final=0.1),
        weight_decay=0.1,
        beta2=0.95,
        clip=0.5,
        precision="float32",
        seed=7,
        log_every=1,
        validate_every=5,
        checkpoint_seconds=1e9,
    )
    return replace(base, **changes)


def reference(steps: int, settings: TrainingPlan, source: Source) -> tuple[dict[str, Tensor], list[float]]:
    """The same training, slowly: every formula written out, the whole batch at once."""
    model = network()
    parameters = dict(model.named_parameters())
    first = {name: torch.zeros_like(value) for name, value in parameters.items()}
    second = {name: torch.zeros_like(value) for name, value in parameters.items()}
    losses = []
    for step in range(steps):
        batch = source.whole(step)
        out = model(batch.x)
        logs = out[:, :3] - torch.logsumexp(out[:, :3], 1, keepdim=True)
        numerator = denominator = value_sum = value_count = torch.zeros((), dtype=torch.float64)
        for row in range(len(batch.x)):
            if batch.label[row] >= 0:
                weight = CLASS_WEIGHTS[batch.label[row]]
                numerator = numerator - weight * logs[row, batch.label[row]]
                denominator = denominator + weight
            if batch.known[row]:
                value_sum = value_sum + (out[row, 3] - batch.value[row]) ** 2
                value_count = value_count + 1
        loss = TERM_WEIGHTS["classes"] * numerator / denominator + TERM_WEIGHTS["value"] * value_sum / value_count
        losses.append(float(loss.detach()))
        gradients = torch.autograd.grad(loss + l2(model), list(parameters.values()))
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
        scale = min(1.0, settings.clip / (norm + 1e-6))
        warm = math.ceil(0.25 * settings.steps)
        if step < warm:
            rate = 0.02 * (step + 1) / warm
        else:
            rate = 0.02 * (0.1 + 0.9 * (1 + math.cos(math.pi * (step - warm) / (settings.steps - warm))) / 2)
        with torch.no_grad():
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
                clipped = gradient * scale
                first[name] = 0.9 * first[name] + 0.1 * clipped
                second[name] = 0.95 * second[name] + 0.05 * clipped**2
                mean, square = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.95 ** (step + 1))
                decay = 0.1 if value.ndim >= 2 else 0.0
                value.sub_(rate * (decay * value + mean / (square.sqrt() + 1e-8)))
    return {name: value.detach() for name, value in parameters.items()}, losses


@pytest.mark.parametrize("micro", [1, 3, 6])
def test_training_equals_a_reference_written_by_hand(tmp_path: Path, micro: int) -> None:
    source = Source(12, micro)
    model = network()
    progress = train(Task(model, TwoTerms(), source, penalties=(l2,)), plan(accumulation=micro), tmp_path)
    expected, losses = reference(12, plan(), source)
    # float64; sums of a dozen terms in another order: a few hundred roundings of 1e-16, magnified by twelve AdamW steps.
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-11)
    assert [row["loss"] for row in progress.history] == pytest.approx(losses, rel=1e-6)  # the loss is told in float32


def test_micro_batches_with_unequal_counts_give_the_gradient_of_one_batch() -> None:
    """Averaging the micro-batches' own means, the classic mistake, must not pass."""
    whole, parts = network(), network()
    device = torch.device("cpu")
    accumulate_gradients(Task(whole, TwoTerms(), Source(12, 1)), Source(12, 1).step(0), "float32", device)
    accumulate_gradients(Task(parts, TwoTerms(), Source(12, 6)), Source(12, 6).step(0), "float32", device)
    wrong = network()
    for batch in Source(12, 6).step(0):
        sums, counts = TwoTerms().sums(wrong, batch), TwoTerms().counts(batch)
        torch.stack([TERM_WEIGHTS[name] * sums[name] / max(counts[name], 1e-9) / 6 for name in sums]).sum().backward()
    for one, other, mean in zip(whole.parameters(), parts.parameters(), wrong.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-10, atol=1e-12)
        assert not torch.allclose(mean.grad, one.grad, rtol=1e-3)


class Interrupted(Exception):
    """Stands for a crash."""


def crash_after(step: int) -> Callable[[events.Event], None]:
    def listener(event: events.Event) -> None:
        if event.kind == "train.step" and event.values["step"] == step:
            raise Interrupted

    return listener


@pytest.mark.parametrize("log_every", [1, 5])
def test_a_training_that_crashed_goes_on_bit_for_bit(tmp_path: Path, log_every: int) -> None:
    def task() -> Task:
        return Task(network(dropout=0.3), TwoTerms(), Source(12, 3), penalties=(l2,))

    whole, parts = task(), task()
    settings = plan(checkpoint_seconds=0, log_every=log_every)
    expected = train(whole, settings, tmp_path / "whole")
    for step in (5, 10):
        with events.listening(crash_after(step)), pytest.raises(Interrupted):
            train(parts, settings, tmp_path / "parts")
        parts = task()
    got = train(parts, settings, tmp_path / "parts")
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [row | {"seconds": 0} for row in got.history] == [row | {"seconds": 0} for row in expected.history]


@pytest.mark.parametrize(
    "damage", ["truncated weights", "flipped weights", "flipped momenta", "truncated state", "no state"]
)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    settings = plan(checkpoint_seconds=0, checkpoints_kept=3)
    whole = Task(network(0.3), TwoTerms(), Source(12, 3))
    train(whole, settings, tmp_path)
    newest = checkpoints(tmp_path)[0]
    name = {"w": "model.safetensors", "m": "optimiser.safetensors", "s": "state.json"}[damage.split()[1][0]]
    content = (newest / name).read_bytes()
    if damage == "no state":
        (newest / name).unlink()
    else:
        flipped = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
        (newest / name).write_bytes(content[: len(content) // 2] if "truncated" in damage else flipped)
    heard: list[events.Event] = []
    again = Task(network(0.3), TwoTerms(), Source(12, 3))
    with events.listening(heard.append):
        train(again, settings, tmp_path)
    kinds = [event.kind for event in heard]
    assert kinds[:2] == ["warning.checkpoint_damaged", "train.resumed"]
    assert heard[1].values["step"] == 11
    assert (tmp_path / f"damaged-{newest.name}").is_dir()
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    train(Task(network(), TwoTerms(), Source(12, 3)), plan(checkpoint_seconds=0, checkpoints_kept=2), tmp_path)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000000012", "step-000000011"]


def test_a_loss_that_is_no_number_stops_with_a_fix(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match="learning rate"):
        train(Task(model, TwoTerms(), Source(12, 3)), plan(), tmp_path)


def test_a_validation_loss_that_is_no_number_stops_with_the_same_fix(tmp_path: Path) -> None:
    """A look, and a state to save, come before the line of progress that looks at the steps' losses."""
    settings = plan(schedule=Schedule(1e200, 12), validate_every=2, log_every=10, checkpoint_seconds=0)
    task = Task(network(), TwoTerms(), Source(12, 3), validation=Source(12, 3).step(99))
    with pytest.raises(NotFinite, match="no longer a number"):
        train(task, settings, tmp_path)


def test_a_checkpoint_that_is_damaged_again_is_set_aside_again(tmp_path: Path) -> None:
    for _ in range(3):
        train(Task(network(), TwoTerms(), Source(12, 3)), plan(), tmp_path)
        (newest,) = checkpoints(tmp_path)
        (newest / "state.json").write_text("{")
    assert [path.name for path in tmp_path.glob("damaged-*")] == [f"damaged-{newest.name}"]


def test_the_schedule_rises_falls_and_ends_where_it_should() -> None:
    schedule = Schedule(1.0, 100, warmup=0.1, final=0.2)
    rates = [schedule(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[99] == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * 89 / 90)) / 2)
    assert Schedule(1.0, 100, kind="constant")(99) == 1.0
    with pytest.raises(AssertionError):
        Schedule(1.0, 100, kind="auto")

"""Cures for forgetting: the Fisher information beside its closed form, the penalties, and the terms of the old task."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from small_models import make

from treino.models.classifier import build_classifier
from treino.tokens.labelled import ClassBatch
from treino.tokens.packing import IGNORED, PackedRows, make_batch
from treino.tokens.shards import Shard
from treino.training.classification import Classification
from treino.training.cures import Anchored, OldLanguage, Rehearsed, WithOldTasks, class_fisher, fisher, language_fisher
from treino.training.source import RowSource
from treino.training.step import accumulate_gradients
from treino.training.task import Task

VOCABULARY = 60


def rows(context: int = 24) -> PackedRows:
    draw = np.random.default_rng(4)
    tokens = np.concatenate([[*draw.integers(1, VOCABULARY, int(draw.integers(5, 30))), 0] for _ in range(40)])
    ends = np.flatnonzero(tokens == 0) + 1
    return PackedRows(Shard(tokens.astype(np.uint16), np.array([0, *ends], np.int64), 0), context, seed=1)


def batch(count: int = 6) -> ClassBatch:
    draw = torch.Generator().manual_seed(9)
    present = torch.ones(count, 10, dtype=torch.bool)
    present[:, 7:] = torch.arange(count)[:, None] % 2 == 0
    ids = torch.randint(1, VOCABULARY, (count, 10), generator=draw)
    return ClassBatch((ids, present), torch.arange(count) % 3)


def softmax_regression() -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Linear(5, 4, bias=False), torch.randn(50, 5), torch.randint(0, 4, (50,))


def test_the_fisher_of_a_softmax_regression_is_its_closed_form() -> None:
    """E over labels of (1[c = y] − p_c)² x_j² is p_c (1 − p_c) x_j²; the square of the mean gradient is something else."""
    model, x, _ = softmax_regression()

    def every_label():
        for row in x:
            for label in range(4):
                likelihood = model(row).log_softmax(-1)[label]
                yield likelihood, float(likelihood.detach().exp())

    found = fisher({"w": model.weight}, every_label())["w"]
    p = model(x).softmax(-1).detach()
    expected = (p * (1 - p)).T @ x.square() / len(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    mean = torch.autograd.grad(F.cross_entropy(model(x), p), model.weight)[0].square()
    assert float((mean - expected).abs().max()) > 0.1 * float(expected.max())


def test_the_empirical_fisher_is_that_of_the_labels_that_are_there() -> None:
    model, x, y = softmax_regression()
    found = fisher(
        {"w": model.weight}, ((model(row).log_softmax(-1)[label], 1.0) for row, label in zip(x, y, strict=True))
    )
    p = model(x).softmax(-1).detach()
    expected = (F.one_hot(y, 4) - p).square().T @ x.square() / len(x)
    torch.testing.assert_close(found["w"], expected, rtol=0, atol=1e-5)


def test_the_fisher_of_a_classifier_is_that_of_its_rows_one_by_one() -> None:
    model, x, y = softmax_regression()
    found = class_fisher(
        model, model, [ClassBatch((x[row : row + 1],), y[row : row + 1]) for row in range(50)], "empirical", 1
    )
    p = model(x).softmax(-1).detach()
    torch.testing.assert_close(found["weight"], (F.one_hot(y, 4) - p).square().T @ x.square() / 50, rtol=0, atol=1e-5)
    drawn = class_fisher(model, model, [ClassBatch((x[:1],), y[:1])] * 2000, "sampled", 1)["weight"]
    torch.testing.assert_close(drawn, (p * (1 - p))[0, :, None] * x[:1].square(), rtol=0, atol=0.1)


def test_old_tasks_take_turns() -> None:
    class Counting:
        def __init__(self, name: str) -> None:
            self.name = name

        def step(self, step: int) -> list[ClassBatch]:
            return [ClassBatch((torch.full((1,), step),), torch.tensor([ord(self.name)]))]

    source = Rehearsed(Counting("n"), Counting("a"), Counting("b"))
    seen = [
        (batch.task, int(batch.batch.inputs[0]), chr(batch.batch.targets))
        for step in range(4)
        for batch in source.step(step)[1:]
    ]  # type: ignore[union-attr]
    assert seen == [(0, 0, "a"), (1, 0, "b"), (0, 1, "a"), (1, 1, "b")]


@pytest.mark.parametrize("labels", ["sampled", "empirical"])
def test_the_fisher_of_a_language_model_squares_row_by_row(labels: str) -> None:
    model, seen = make(VOCABULARY, scale=5.0), rows()
    found = language_fisher(model, seen, 5, labels, seed=2)
    parameters = [value for value in model.parameters() if value.requires_grad]
    expected = [torch.zeros_like(value) for value in parameters]
    draw = torch.Generator().manual_seed(2)
    for place in range(5):
        one = make_batch(seen, [seen.locate(place)])
        targets = one.targets.clamp(min=0)
        logits = model(one.ids, one.positions, one.segments)
        if labels == "sampled":
            targets = torch.multinomial(logits[0].softmax(-1).detach(), 1, generator=draw).T
        targets = torch.where(one.targets == IGNORED, IGNORED, targets)
        loss = F.cross_entropy(logits[0], targets[0], ignore_index=IGNORED, reduction="sum")
        for total, gradient in zip(expected, torch.autograd.grad(loss, parameters), strict=True):
            total.add_(gradient.square() / (targets != IGNORED).sum() / 5)
    for mine, reference in zip(found.values(), expected, strict=True):
        assert float(reference.max()) > 0
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-9)


def test_the_penalties_pull_back_to_where_training_began() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    plain = Anchored(model, 0.5)
    weighed = Anchored(model, 0.5, {"weight": torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])})
    assert float(plain(model)) == 0.0
    with torch.no_grad():
        model.weight += 2.0
        model.bias += 7.0
    assert float(plain(model)) == pytest.approx(0.25 * 6 * 4)
    assert float(weighed(model)) == pytest.approx(0.25 * 15 * 4)
    weighed(model).backward()
    torch.testing.assert_close(model.weight.grad, 0.5 * weighed.importance["weight"] * 2.0)  # type: ignore[index]


@pytest.mark.parametrize("tied", [True, False])
def test_old_rows_are_learnt_through_the_old_head(tied: bool) -> None:
    """The gradient of class and old task together is that of their weighted means, each over its own count; the old head,
    tied or not, gets none.
    """
    base = make(VOCABULARY, scale=5.0, tied=tied)
    classifier = build_classifier(base, ["a", "b", "c"], dropout=0.0)
    with torch.no_grad():
        for parameter in classifier.body.parameters():
            parameter.add_(0.01)
    language = OldLanguage(base)
    objective = WithOldTasks(Classification(), old=[language], rehearsal=0.7, teachers=[language], distillation=0.4)

    class One:
        def step(self, step: int) -> list[ClassBatch]:
            return [batch()]

    source = Rehearsed(One(), RowSource(rows(), 3))
    batches = source.step(2)
    assert len(batches) == 2
    assert torch.equal(batches[1].batch.ids, make_batch(rows(), [rows().locate(row) for row in (6, 7, 8)]).ids)  # type: ignore[union-attr]
    task = Task(classifier.train(), objective, source)
    loss, counts = accumulate_gradients(task, batches, "float32", torch.device("cpu"))
    found = {name: value.grad.clone() for name, value in classifier.named_parameters() if value.grad is not None}
    classifier.zero_grad()

    new, old = batches[0], batches[1].batch  # type: ignore[union-attr]
    ids, present = new.inputs  # type: ignore[union-attr]
    terms = [F.cross_entropy(classifier(ids, present), new.targets)]
    hidden = classifier.body.hidden(old.ids, old.positions, old.segments)  # type: ignore[union-attr]
    terms.append(0.7 * F.cross_entropy(base.logits(hidden).flatten(0, 1), old.targets.flatten(), ignore_index=IGNORED))
    answers = base(ids)[present].softmax(-1).detach()
    spoken = base.logits(classifier.body.hidden(ids))[present]
    terms.append(0.4 * F.cross_entropy(spoken, answers))
    expected = sum(terms)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    assert counts == {
        "class": 6.0,
        "distilled_0": float(present.sum()),
        "old_next_token": float((old.targets != IGNORED).sum()),
    }
    for name, value in classifier.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(found[name], value.grad, rtol=1e-4, atol=1e-6)
    assert all(value.grad is None for value in base.parameters())

"""Task after task on one body: what is learnt, kept, guarded, and at what cost."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from small_models import make

from treino.evaluation.sequence import row_of
from treino.models.adapter_folder import save_adapter
from treino.models.build import copy_of
from treino.models.lora import layers_of
from treino.recipe import FinetuneSettings
from treino.tokens.labelled import Pieces
from treino.tokens.packing import PackedRows
from treino.tokens.shards import Shard
from treino.training.cures import WithOldTasks
from treino.training.foresight import Arranged
from treino.training.sequence import Learnt, Lesson, OldClasses, Once, TaskSequence

VOCABULARY = 40
ROWS = 32


def pieces(place: int, classes: int = 2, count: int = ROWS) -> Pieces:
    """Rows whose token at a place tells the class; the other tokens are noise."""
    draw = np.random.default_rng(place)
    targets = draw.integers(classes, size=count)
    ids = [draw.integers(10, VOCABULARY, int(draw.integers(5, 9))).astype(np.int64) for _ in range(count)]
    for row, target in zip(ids, targets, strict=True):
        row[-1 - place] = 1 + 4 * place + target
    return Pieces(ids, np.arange(count), targets, targets, count)


def lessons() -> list[Lesson]:
    return [
        Lesson(name, tuple("abc"[:classes]), {"training": pieces(place, classes), "test": pieces(place, classes)})
        for place, (name, classes) in enumerate((("first", 2), ("second", 3), ("third", 2)))
    ]


def old_rows() -> PackedRows:
    draw = np.random.default_rng(4)
    tokens = np.concatenate([[*draw.integers(1, VOCABULARY, 12), 0] for _ in range(10)])
    ends = np.flatnonzero(tokens == 0) + 1
    return PackedRows(Shard(tokens.astype(np.uint16), np.array([0, *ends], np.int64), 0), 24, seed=1)


def sequence(language: bool = False, **settings: float | str) -> TaskSequence:
    usual = {"batch": 8, "epochs": 2, "learning_rate": 3e-3, "dropout": 0.0, "ewc_rows": 16} | settings
    rows = old_rows() if language else None
    return TaskSequence(make(VOCABULARY, scale=2.0), lessons(), FinetuneSettings(**usual), seed=3, old_rows=rows)  # type: ignore[arg-type]


def learn(course: TaskSequence, before: Learnt, number: int, folder: Path, phase: int = 0) -> tuple[Learnt, dict]:
    """As a stage does: when a task is learnt, its checkpoints go."""
    done = course.learn(before, number, folder, phase)
    shutil.rmtree(folder / "checkpoints")
    return done


def distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return float(sum(float((a - b).detach().square().sum()) for a, b in pairs))


def test_a_task_is_learnt_and_what_was_before_is_left_as_it_was(tmp_path: Path) -> None:
    course = sequence(epochs=25)
    start = course.start()
    first, facts = learn(course, start, 0, tmp_path)
    assert distance(start.body, course.base) == 0.0
    assert facts["steps"] == facts["plain_steps"] == 100
    row = row_of(first, course.lessons)
    assert row[0] > 0.9
    assert np.isnan(row[1:]).all()
    again = row_of(first, course.lessons)
    assert again[0] == row[0]


@pytest.mark.parametrize("cure", [{"l2_sp": 3.0}, {"ewc": 300.0}, {"rehearsal": 0.5}, {"distillation": 3.0}])
@pytest.mark.parametrize("language", [False, True])
def test_every_cure_acts_on_what_is_old_and_costs_no_more(
    tmp_path: Path, cure: dict[str, float], language: bool
) -> None:
    """With nothing old, a cure is plain fine-tuning bit for bit; behind it, the weights go elsewhere, for as many FLOPs."""
    plain, cured = sequence(), sequence(language, **cure)
    one, _ = learn(plain, plain.start(), 0, tmp_path)
    start = cured.start()
    same, _ = learn(cured, start, 0, tmp_path)
    assert (distance(one.body, same.body) == 0.0) == (not language)
    second, told = learn(cured, same, 1, tmp_path, 1)
    usual, price = learn(plain, one, 1, tmp_path, 1)
    assert distance(second.body, usual.body) > 0
    assert set(second.heads) == {0, 1}
    step = told["flops"] / told["steps"]
    assert told["flops"] <= price["flops"] + step
    costly = {"rehearsal", "distillation", "ewc"} & set(cure)
    assert (told["steps"] < told["plain_steps"]) == bool(costly)


def test_penalties_hold_the_body_where_the_phase_began(tmp_path: Path) -> None:
    moved = []
    for strength in (0.0, 30.0):
        course = sequence(l2_sp=strength)
        first, _ = learn(sequence(), course.start(), 0, tmp_path)
        second, _ = learn(course, first, 1, tmp_path, 1)
        moved.append(distance(first.body, second.body))
    assert moved[1] < 0.5 * moved[0]


def test_the_importance_of_several_tasks_adds_up(tmp_path: Path) -> None:
    course = sequence(ewc=10.0)
    first, _ = learn(course, course.start(), 0, tmp_path)
    second, _ = learn(course, first, 1, tmp_path, 1)
    assert first.importance is not None and second.importance is not None
    for name, value in second.importance.items():
        assert bool((value >= first.importance[name]).all())
    assert sum(float(value.sum()) for value in second.importance.values()) > sum(
        float(value.sum()) for value in first.importance.values()
    )


def test_a_task_that_comes_again_goes_on_with_its_head(tmp_path: Path) -> None:
    course = sequence(learning_rate=1e-9)
    first, _ = learn(course, course.start(), 0, tmp_path)
    again, _ = learn(course, first, 0, tmp_path, 1)
    assert distance(first.heads[0], again.heads[0]) < 1e-9


def test_old_heads_answer_from_one_pass() -> None:
    """The distilled term is that of the old head on both bodies; vectors asked for twice are computed once."""
    torch.manual_seed(0)
    body = make(VOCABULARY, scale=2.0)
    before, model = Once(body, ("", "")).eval(), Once(copy_of(body, dropout=0.0), "ab")
    with torch.no_grad():
        for parameter in model.body.parameters():
            parameter.add_(0.02)
    head = torch.nn.Linear(body.settings.width, 3)
    old = OldClasses(head, before)
    batch = pieces(0).batch(range(6))

    class Nothing:
        weights: Mapping[str, float] = MappingProxyType({"class": 1.0})

        def counts(self, batch: object) -> dict[str, float]:
            return {"class": 1.0}

        def sums(self, model: torch.nn.Module, batch: object) -> dict[str, torch.Tensor]:
            return {"class": torch.zeros(())}

    objective = WithOldTasks(Nothing(), teachers=[old], distillation=1.0)
    term = objective.sums(model.train(), batch)["distilled_0"]
    answers = head(before.pooled(*batch.inputs)).softmax(-1)
    expected = F.cross_entropy(head(Once.__mro__[1].pooled(model, *batch.inputs)), answers, reduction="sum")  # type: ignore[attr-defined]
    torch.testing.assert_close(term, expected)
    assert objective.counts(batch)["distilled_0"] == 6.0
    assert model.pooled(*batch.inputs) is model.pooled(*batch.inputs)


@pytest.mark.parametrize("method", ["frozen", "lora", "qlora"])
def test_a_body_that_stays_hands_on_its_heads_and_one_adapter(tmp_path: Path, method: str) -> None:
    """Base weights stay bit for bit; a head alone forgets nothing, an adapter that goes on changes what old heads stand on."""
    course = sequence(method=method, epochs=3, learning_rate=2e-2, lora_rank=4)
    start = {name: value.clone() for name, value in course.base.named_parameters()}
    first, told = learn(course, course.start(), 0, tmp_path)
    kept = row_of(first, course.lessons)[0]
    second, _ = learn(course, first, 1, tmp_path, 1)
    assert all(torch.equal(value, start[name]) for name, value in course.base.named_parameters())
    assert row_of(first, course.lessons)[0] == kept, "what was before is left as it was"
    before, after = (course.lessons[0].pieces["test"].batch(range(8)) for _ in range(2))
    with torch.no_grad():
        one, two = (
            learnt.classifier(0, course.lessons[0])(*batch.inputs)
            for learnt, batch in ((first, before), (second, after))
        )
    assert torch.equal(one, two) == (method == "frozen")
    assert told["parameters"]["trainable"] < told["parameters"]["total"] / 2
    pairs = {path: layer.lora_B["default"] for path, layer in layers_of(second.body)}
    assert bool(pairs) == (method != "frozen")
    still = sequence(method=method, learning_rate=1e-9, lora_rank=4)
    third, _ = learn(still, first, 2, tmp_path, 2)
    for (_, one), (_, other) in zip(layers_of(first.body), layers_of(third.body), strict=True):
        assert bool(one.lora_B["default"].any())
        torch.testing.assert_close(one.lora_B["default"], other.lora_B["default"], rtol=0, atol=1e-6)


def test_an_adapter_goes_on_from_a_folder_as_from_memory(tmp_path: Path) -> None:
    course = sequence(method="qlora", lora_rank=4, distillation=1.0, rehearsal=0.2)
    first, _ = learn(course, course.start(), 0, tmp_path)
    save_adapter(first.body, tmp_path / "adapter")
    second, _ = learn(course, first, 1, tmp_path, 1)
    again, _ = learn(course, course.restored(first.heads, None, tmp_path), 1, tmp_path, 1)
    for (_, one), (_, other) in zip(layers_of(second.body), layers_of(again.body), strict=True):
        assert torch.equal(one.lora_A["default"], other.lora_A["default"])
        assert torch.equal(one.lora_B["default"], other.lora_B["default"])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_rows_of_a_step_in_parts_give_the_same_sequence(tmp_path: Path, method: str) -> None:
    bodies = []
    for rows in (8, 3):
        course = sequence(method=method, lora_rank=4)
        course.arrangement = Arranged(rows)
        learnt, _ = learn(course, course.start(), 0, tmp_path)
        bodies.append(learnt.classifier(0, course.lessons[0])(*course.lessons[0].pieces["test"].batch(range(8)).inputs))
    torch.testing.assert_close(*bodies, rtol=1e-3, atol=1e-3)

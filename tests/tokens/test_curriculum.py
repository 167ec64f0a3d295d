"""A curriculum: every row read equally often, a pool as large as the pacing says, an order that is a function of the seed."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treino.recipe import OrderSettings
from treino.tokens.curriculum import CurriculumRows, apportion, buckets, competence, with_curriculum
from treino.tokens.packing import IGNORED, DocumentRows, PackedRows, Rows, make_batch, times
from treino.tokens.shards import Shard
from treino.training.source import RowSource

CONTEXT = 16
KINDS = ["packed", "documents"]


def shard(lengths: list[int], **columns: list[float]) -> Shard:
    """Documents whose tokens are their own number (from 1), over and over."""
    tokens = [token for number, length in enumerate(lengths, 1) for token in [number] * length + [0]]
    offsets = np.cumsum([0, *(length + 1 for length in lengths)])
    return Shard(np.array(tokens, np.uint32), offsets, 0, **{name: np.array(one) for name, one in columns.items()})


def graded(count: int = 400) -> Shard:
    """Documents of 7 tokens and an end, of which document k has the difficulty k, in a mixed order."""
    difficulty = np.random.default_rng(5).permutation(count).astype(float)
    return shard([CONTEXT // 2 - 1] * count, difficulty=difficulty.tolist())


def curriculum(source: Shard, kind: str = "packed", seed: int = 3, **wanted: object) -> CurriculumRows:
    def make(chosen: np.ndarray, stream: int) -> Rows:
        if kind == "packed":
            return PackedRows(source, CONTEXT, seed, chosen, stream)
        return DocumentRows(source, CONTEXT, seed, chosen, stream)

    return with_curriculum(source, OrderSettings(**wanted), CONTEXT, seed, make)  # type: ignore[arg-type]


def documents_of(rows: Rows, epoch: int, index: int) -> list[int]:
    _, targets, _, _ = rows.row(epoch, index)
    return [int(token) for token in targets if token not in (IGNORED, 0)]


def read(rows: Rows, first: int, last: int) -> Counter[int]:
    """Tokens of each document in a stretch of the training."""
    found: Counter[int] = Counter()
    for cursor in range(first, last):
        found.update(documents_of(rows, *rows.locate(cursor)))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [{}, {"direction": "hard_first"}, {"direction": "random"}, {"pacing": "steps"}])
def test_an_epoch_reads_every_token_once_in_whatever_order(kind: str, wanted: dict[str, object]) -> None:
    source = graded()
    rows = curriculum(source, kind, **wanted)
    total = rows.rows_in_epoch(0)
    assert read(rows.for_training(total), 0, total) == dict.fromkeys(range(1, 401), CONTEXT // 2 - 1)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=60),
    start=st.floats(0.01, 1),
    until=st.floats(0.01, 1),
    pacing=st.sampled_from(["linear", "steps"]),
    epochs=st.integers(1, 3),
)
def test_several_epochs_read_every_row_so_often(
    lengths: list[int], start: float, until: float, pacing: str, epochs: int
) -> None:
    draw = np.random.default_rng(len(lengths))
    source = shard(lengths, difficulty=draw.random(len(lengths)).tolist())
    rows = curriculum(source, "documents", start=start, until=until, pacing=pacing)
    short = all(length < CONTEXT for length in lengths)  # longer ones are cut elsewhere in each epoch, into other rows
    total = rows.rows_in_epoch(0) * epochs
    found = read(rows.for_training(total), 0, total)
    if short or epochs == 1:
        assert found == {number: length * epochs for number, length in enumerate(lengths, 1)}


def test_the_pool_is_the_easiest_share_that_the_pacing_allows() -> None:
    source = graded()
    assert source.difficulty is not None
    wanted = OrderSettings(difficulty="length", start=0.2, until=0.8, buckets=20)
    rows = curriculum(source, start=0.2, until=0.8, buckets=20)
    total = rows.rows_in_epoch(0)
    paced = rows.for_training(total)
    hardest = [
        max(source.difficulty[number - 1] for number in documents_of(paced, *paced.locate(cursor)))
        for cursor in range(total)
    ]
    allowed = [400 * (competence(wanted, cursor / total) + 1 / 20) for cursor in range(total)]
    assert all(one < most for one, most in zip(hardest, allowed, strict=True))
    last = max(hardest[: total // 4])
    assert last > 0.5 * allowed[total // 4], "the pool grows, it does not stay where it began"


def test_the_reverse_begins_with_the_hardest_and_chance_with_neither() -> None:
    source = graded()
    assert source.difficulty is not None
    means = {}
    for direction in ("easy_first", "hard_first", "random"):
        rows = curriculum(source, direction=direction)
        total = rows.rows_in_epoch(0)
        first = read(rows.for_training(total), 0, total // 10)
        means[direction] = np.average([source.difficulty[number - 1] for number in first])
    assert means["easy_first"] < 60
    assert means["hard_first"] > 340
    assert 150 < means["random"] < 250


def test_pacing_by_its_formula() -> None:
    linear = OrderSettings(start=0.2, until=0.5)
    assert [competence(linear, way) for way in (0, 0.25, 0.5, 1)] == pytest.approx([0.2, 0.6, 1, 1])
    steps = OrderSettings(start=0.2, until=0.5, pacing="steps", steps=2)
    assert [competence(steps, way) for way in (0, 0.24, 0.25, 0.49, 0.5)] == pytest.approx([0.2, 0.2, 0.6, 0.6, 1])


def test_inside_a_bucket_chance_rules_and_two_seeds_differ() -> None:
    def first(seed: int) -> list[int]:
        rows = curriculum(graded(), seed=seed)
        rows = rows.for_training(rows.rows_in_epoch(0))
        return [documents_of(rows, *rows.locate(cursor))[0] for cursor in range(30)]

    assert first(1) == first(1)
    assert first(1) != first(2)
    difficulty = graded().difficulty
    assert difficulty is not None
    ranks = [difficulty[number - 1] for number in first(1)]
    assert ranks != sorted(ranks)


def test_a_step_asked_for_alone_is_the_one_met_on_the_way() -> None:
    def source() -> RowSource:
        return RowSource(curriculum(graded(), start=0.3).for_training(120), batch=3, accumulation=2)

    through = source()
    steps = [through.step(number) for number in range(45)]  # beyond the end, where it begins anew
    for number in (44, 3, 19):
        for one, other in zip(source().step(number), steps[number], strict=True):
            assert one.ids.equal(other.ids)
            assert one.targets.equal(other.targets)


def test_buckets_hold_about_equal_tokens_and_rows_enough() -> None:
    draw = np.random.default_rng(1)
    source = shard(draw.integers(1, 60, 3000).tolist(), difficulty=draw.random(3000).tolist())
    assert source.difficulty is not None
    groups = buckets(source, OrderSettings(buckets=10), CONTEXT, 1)
    tokens = [int(np.diff(source.offsets)[group].sum()) for group in groups]
    assert len(groups) == 10
    assert max(tokens) < 1.05 * min(tokens)
    edges = [(source.difficulty[group].min(), source.difficulty[group].max()) for group in groups]
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(edges))
    assert len(buckets(graded(10), OrderSettings(buckets=10), CONTEXT, 1)) == 1, "too few rows to be divided"


def test_one_bucket_is_no_curriculum() -> None:
    source = graded()
    plain = replace(source, difficulty=None)
    rows = curriculum(source, buckets=1)
    total = rows.rows_in_epoch(0)
    alike = PackedRows(plain, CONTEXT, 3)
    found = make_batch(rows.for_training(total), [(0, index) for index in range(total)])
    assert found.ids.equal(make_batch(alike, [(0, index) for index in range(total)]).ids)


@settings(max_examples=100, deadline=None)
@given(total=st.integers(0, 1000), sizes=st.lists(st.integers(0, 500), min_size=1, max_size=30))
def test_what_is_apportioned_adds_up_and_is_nowhere_one_off(total: int, sizes: list[int]) -> None:
    shares = apportion(total if sum(sizes) else 0, sizes)
    assert sum(shares) == (total if sum(sizes) else 0)
    for share, size in zip(shares, sizes, strict=True):
        assert abs(share - total * size / max(1, sum(sizes))) < 1


@settings(max_examples=60, deadline=None)
@given(repeats=st.lists(st.floats(0.01, 6), min_size=1, max_size=20), epochs=st.integers(1, 40))
def test_after_any_number_of_epochs_a_document_is_less_than_one_reading_off(repeats: list[float], epochs: int) -> None:
    rates = np.array(repeats)
    seen = sum(times(rates, epoch, 7) for epoch in range(epochs))
    assert (np.abs(seen - epochs * rates) < 1 + 1e-9).all()


def test_weights_of_one_change_nothing_and_whole_ones_repeat() -> None:
    lengths = [5, 30, 7, 1, 12, 9]
    assert (times(np.ones(1000), 1, 1) == 1).all()
    rows = PackedRows(shard(lengths, repeats=[1, 2, 1, 3, 1, 1]), CONTEXT, 3)
    wanted = {1: 5, 2: 60, 3: 7, 4: 3, 5: 12, 6: 9}
    assert read(rows, 0, rows.rows_in_epoch(0)) == wanted
    half = PackedRows(shard([5] * 200, repeats=[0.5] * 200), CONTEXT, 3)
    first, second = (set(read(half, *span)) for span in ((0, half.rows_in_epoch(0)), spans(half)))
    assert first.isdisjoint(second)
    assert first | second == set(range(1, 201))


def spans(rows: Rows) -> tuple[int, int]:
    """The second epoch."""
    return rows.rows_in_epoch(0), rows.rows_in_epoch(0) + rows.rows_in_epoch(1)

"""Rows: no token lost or repeated, orders that are functions of (seed, epoch), places that know their document."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from treino.tokens.packing import IGNORED, PADDING, DocumentRows, PackedRows, Rows, WordWindows, make_batch
from treino.tokens.shards import Shard
from treino.training.source import RowSource

KINDS = ["isolated", "joined", "documents"]


def shard(lengths: list[int]) -> Shard:
    """Documents whose tokens are all different, so that each place can be told from every other."""
    tokens, offsets, number = [], [0], 1
    for length in lengths:
        tokens += [*range(number, number + length), 0]
        number += length
        offsets.append(len(tokens))
    return Shard(np.array(tokens, np.uint32), np.array(offsets, np.int64), 0)


def rows(kind: str, source: Shard, context: int, seed: int = 3) -> Rows:
    if kind == "documents":
        return DocumentRows(source, context, seed)
    return PackedRows(source, context, seed, isolate=kind == "isolated")


def pairs(source: Rows, epoch: int) -> Counter:
    """Every (input, target) pair of an epoch; end tokens are told apart by their neighbours."""
    found: Counter = Counter()
    for index in range(source.rows_in_epoch(epoch)):
        ids, targets, _, _ = source.row(epoch, index)
        kept = targets != IGNORED
        found.update(zip(ids[kept].tolist(), targets[kept].tolist(), strict=True))
    return found


def expected(lengths: list[int]) -> Counter:
    found: Counter = Counter()
    number = 1
    for length in lengths:
        document = [0, *range(number, number + length), 0]
        found.update(itertools.pairwise(document))
        number += length
    return found


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30), context=st.integers(1, 24), epoch=st.integers(0, 3)
)
def test_an_epoch_holds_every_pair_once(kind: str, lengths: list[int], context: int, epoch: int) -> None:
    assert pairs(rows(kind, shard(lengths), context), epoch) == expected(lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_order_depends_on_seed_and_epoch_alone(kind: str) -> None:
    source = shard([5, 30, 7, 1, 12, 9] * 6)

    def order(seed: int, epoch: int) -> list[list[int]]:
        made = rows(kind, source, 16, seed)
        return [made.row(epoch, index)[0].tolist() for index in range(made.rows_in_epoch(epoch))]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_asked_for_alone_is_the_one_met_on_the_way(kind: str) -> None:
    source = shard([5, 30, 7, 1, 12, 9] * 3)
    through = RowSource(rows(kind, source, 16), batch=3, accumulation=2)
    steps = [through.step(number) for number in range(12)]
    for number in (11, 3, 7):
        alone = RowSource(rows(kind, source, 16), batch=3, accumulation=2).step(number)
        for one, other in zip(alone, steps[number], strict=True):
            assert torch.equal(one.ids, other.ids)
            assert torch.equal(one.targets, other.targets)
            assert torch.equal(one.positions, other.positions)


def test_steps_go_on_over_the_end_of_an_epoch() -> None:
    source = rows("isolated", shard([9] * 5), 10)
    assert source.rows_in_epoch(0) == 5
    step = RowSource(source, batch=4).step(1)[0]
    firsts = [int(row[1]) for row in step.ids]
    later = [source.row(0, 4)[0][1], *(source.row(1, index)[0][1] for index in range(3))]
    assert firsts == [int(first) for first in later]


def test_positions_and_segments_follow_the_documents() -> None:
    source = PackedRows(shard([3, 4]), 12, 0)
    ids, targets, positions, segments = source.row(0, 0)
    assert segments.tolist() in ([0] * 4 + [1] * 5 + [PADDING] * 3, [0] * 5 + [1] * 4 + [PADDING] * 3)
    for number in (0, 1):
        place = segments == number
        assert positions[place].tolist() == list(range(int(place.sum())))
        assert ids[place][0] == 0
        assert targets[place][-1] == 0
    assert set(targets[segments == PADDING].tolist()) == {IGNORED}


def test_a_piece_of_a_long_document_begins_with_the_token_before_it() -> None:
    source = PackedRows(shard([50]), 8, 0)
    for index in range(source.rows_in_epoch(0)):
        ids, targets, _, segments = source.row(0, index)
        for number in set(segments.tolist()) - {PADDING}:
            place = segments == number
            first = int(targets[place][0])
            assert int(ids[place][0]) == (first - 1 if first else 50)


def test_rows_are_nearly_full() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(5, 60, 2000).tolist()
    source = PackedRows(shard(lengths), 128, 0)
    places = source.rows_in_epoch(0) * 128
    assert sum(length + 1 for length in lengths) / places > 0.99


def test_rows_of_documents_have_like_lengths() -> None:
    draw = np.random.default_rng(0)
    source = DocumentRows(shard(draw.integers(5, 60, 2000).tolist()), 128, 0)
    batches = RowSource(source, batch=16)
    padded = [float((batches.step(number)[0].targets == IGNORED).float().mean()) for number in range(100)]
    assert sum(padded) / len(padded) < 0.05


def test_word_windows_are_all_windows_once() -> None:
    source = WordWindows(shard([6, 2, 4]), 3, 0)
    found = sorted(tuple(source.row(0, index)[0].tolist()) for index in range(source.rows_in_epoch(0)))
    assert found == [(1, 2, 3), (2, 3, 4), (3, 4, 5), (9, 10, 11)]
    for index in range(4):
        ids, targets, _, _ = source.row(0, index)
        assert targets.tolist() == [IGNORED, IGNORED, ids[-1] + 1]


def test_a_batch_is_padded_at_the_right() -> None:
    source = DocumentRows(shard([2, 5]), 8, 0)
    batch = make_batch(source, [(0, 0), (0, 1)])
    assert batch.ids.shape == (2, 6)
    assert batch.segments is None
    short = min(range(2), key=lambda row: int((batch.targets[row] != IGNORED).sum()))
    assert batch.targets[short].tolist()[3:] == [IGNORED] * 3

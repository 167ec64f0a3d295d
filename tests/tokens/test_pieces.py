"""Labelled texts as pieces: nothing lost, nothing repeated, and long texts treated as the recipe says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treino.errors import UsageError
from treino.recipe import TokenSettings
from treino.tokens.labelled import BucketedRows, encode
from treino.tokens.tokenizer import Tokenizer, train_tokenizer

SENTENCES = ["um dois três quatro cinco", "um", "seis sete oito nove dez onze doze", "dois três"]


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return train_tokenizer(iter(SENTENCES), TokenSettings(kind="words", vocabulary=50))


def test_each_text_begins_with_the_end_of_text(words: Tokenizer) -> None:
    pieces = encode(SENTENCES, [0, 1, 2, 1], words, context=8, long_texts="")
    assert [ids[0] for ids in pieces.ids] == [words.end_of_text] * 4
    assert [len(ids) for ids in pieces.ids] == [6, 2, 8, 3]
    assert pieces.targets.tolist() == [0, 1, 2, 1]
    assert pieces.long == 0


def test_a_long_text_without_a_rule_is_refused(words: Tokenizer) -> None:
    with pytest.raises(UsageError, match=r"2 of 4 texts.*longest 7.*finetune\.long_texts"):
        encode(SENTENCES, [0] * 4, words, context=5, long_texts="")


@pytest.mark.parametrize(
    "rule, owners, lengths",
    [("cut", [0, 1, 2, 3], [5, 2, 5, 3]), ("drop", [1, 3], [2, 3]), ("split", [0, 0, 1, 2, 2, 3], [5, 2, 2, 5, 4, 3])],
)
def test_long_texts_are_cut_split_or_dropped(
    rule: str, owners: list[int], lengths: list[int], words: Tokenizer
) -> None:
    pieces = encode(SENTENCES, [0, 1, 2, 1], words, context=5, long_texts=rule)
    assert pieces.texts.tolist() == owners
    assert [len(ids) for ids in pieces.ids] == lengths
    assert pieces.targets.tolist() == [[0, 1, 2, 1][owner] for owner in owners]
    assert (pieces.long, pieces.count) == (2, 4)
    whole = encode(SENTENCES, [0] * 4, words, context=50, long_texts="")
    if rule == "split":  # the parts, one after the other, are the text
        for text in range(4):
            parts = [ids[1:] for ids, owner in zip(pieces.ids, owners, strict=True) if owner == text]
            np.testing.assert_array_equal(np.concatenate(parts), whole.ids[text][1:])


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=300),
    batch=st.integers(1, 20),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_epoch_holds_every_piece_once(lengths: list[int], batch: int, seed: int) -> None:
    order = BucketedRows(lengths, batch, seed)
    again = BucketedRows(lengths, batch, seed)
    for epoch in range(2):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        rows = [order.rows(step) for step in steps]
        assert sorted(row for batch_rows in rows for row in batch_rows) == list(range(len(lengths)))
        assert all(len(batch_rows) <= batch for batch_rows in rows)
        assert rows == [again.rows(step) for step in reversed(steps)][::-1]


def test_buckets_keep_padding_small_and_the_order_changes() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 200, 4000).tolist()
    order = BucketedRows(lengths, 16, seed=3)
    first = [order.rows(step) for step in range(order.steps_per_epoch)]
    second = [order.rows(step) for step in range(order.steps_per_epoch, 2 * order.steps_per_epoch)]
    assert first != second
    padded = sum(max(lengths[row] for row in rows) * len(rows) for rows in first)
    assert padded < 1.12 * sum(lengths)  # rows in random order would need about 1.8 times

"""Hashes of words and n-grams beside words found by a regular expression."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treino.corpus import words as module
from treino.corpus.words import batches, grams_of, mix, range_hashes, words_of

ALPHABET = "aAbBçÇéÉßſ1 \n\t.,-_–“”😀\u0301文字"


def split(text: str) -> list[str]:
    """The slow reference."""
    return re.findall(r"(?:[^\W_]|\u0301)+", unicodedata.normalize("NFC", text).casefold())


@given(st.lists(st.text(ALPHABET, max_size=60), max_size=6))
def test_words_and_grams_are_equal_where_the_reference_says_so(texts: list[str]) -> None:
    words = words_of(texts)
    expected = [word for text in texts for word in split(text)]
    assert words.counts.tolist() == [len(split(text)) for text in texts]
    names: dict[int, str] = dict(zip(words.hashes.tolist(), expected, strict=True))
    assert [names[value] for value in words.hashes.tolist()] == expected
    assert len(names) == len(set(expected))
    for length in (1, 2, 5):
        grams = grams_of(words, length)
        tuples = [
            tuple(split(text)[place : place + length])
            for text in texts
            for place in range(max(0, len(split(text)) - length + 1))
        ]
        assert np.diff(grams.offsets).tolist() == [max(0, len(split(text)) - length + 1) for text in texts]
        assert (
            len(set(zip(grams.hashes.tolist(), tuples, strict=True)))
            == len(set(tuples))
            == len(set(grams.hashes.tolist()))
        )


@given(st.lists(st.text(ALPHABET, max_size=60), min_size=1, max_size=5))
def test_a_text_has_the_same_words_whatever_stands_beside_it(texts: list[str]) -> None:
    together = words_of(texts)
    for number, text in enumerate(texts):
        alone = words_of([text])
        first, last = together.offsets[number : number + 2]
        assert together.hashes[first:last].tolist() == alone.hashes.tolist()
        assert together.texts()[number] == alone.texts()[0]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["uma palavra " * 40, "x" * 100, "", "fim de tudo"]
    whole, grams = words_of(texts), grams_of(words_of(texts), 3)
    monkeypatch.setattr(module, "CHUNK", 16)
    monkeypatch.setattr(module, "_KEPT", 20)
    module._kept_powers.cache_clear()
    try:
        assert words_of(texts).hashes.tolist() == whole.hashes.tolist()
        assert grams_of(words_of(texts), 3).hashes.tolist() == grams.hashes.tolist()
    finally:
        module._kept_powers.cache_clear()


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        ("Straße", "STRASSE", True),
        ("avó", "avo\u0301", True),
        ("avó", "avô", False),
        ("avó", "avo", False),
        ("O gato, subiu!", "o  gato\nsubiu", True),
        ("um dois", "umdois", False),
        ("a b", "b a", False),
        ("a a", "a a a", False),
    ],
)
def test_equal_texts(one: str, two: str, equal: bool) -> None:
    first, second = words_of([one, two]).texts().tolist()
    assert (first == second) is equal


def test_long_lines_know_their_text() -> None:
    long = "palavra " * 8
    words = words_of([f"curta\n\n{long}\ncurta", "nada", f"  {long.upper()}\n{long}x"])
    hashes, owners = words.long_lines(8)
    assert owners.tolist() == [0, 2, 2]
    assert hashes[0] == hashes[1] != hashes[2]
    assert words_of([long]).texts()[0] == hashes[0]
    assert words_of(["", "\n"]).long_lines(1)[0].size == 0


def test_a_range_of_zeros_is_as_long_as_it_is() -> None:
    zeros = np.zeros(5, np.uint64)
    one, two = range_hashes(zeros, np.array([0, 0]), np.array([2, 3])).tolist()
    assert one != two


def test_mixing_is_one_to_one_and_reaches_every_bit() -> None:
    values = mix(np.arange(1 << 12, dtype=np.uint64))
    assert len(set(values.tolist())) == 1 << 12
    ones = np.unpackbits(values.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert abs(ones - 0.5).max() < 0.05


def test_batches_are_bounded_and_lose_nothing() -> None:
    assert list(batches([3, 3, 3, 9, 1], 6)) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert list(batches([], 6)) == []
    assert list(batches([7], 6)) == [(0, 1)]

"""Tokenizers: any text comes back, special tokens cannot be spelt, equal texts give equal tokenizers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from treino.errors import DataError
from treino.recipe import TokenSettings
from treino.tokens.tokenizer import END_OF_TEXT, PAD, StreamDecoder, Tokenizer, train_tokenizer

TEXTS = [
    "O gato subiu no telhado e olhou a rua. O gato dorme.",
    "A menina não achou graça: «que susto!», disse ela ao gato.",
    "A padaria da praça abre às seis e o pão sai quente.",
]


def bpe(vocabulary: int = 330) -> Tokenizer:
    return train_tokenizer(iter(TEXTS), TokenSettings(vocabulary=vocabulary))


def words(**changes: object) -> Tokenizer:
    return train_tokenizer(iter(TEXTS), TokenSettings(kind="words", vocabulary=100, **changes))


BPE = bpe()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
@example("")
@example("  dois  espaços \n\n\t fim ")
@example(f"isto {END_OF_TEXT} não é o fim {PAD}")
@example("🐈‍⬛ e e\u0301 e \u0000 e \ufffd e \U0010ffff")
def test_any_text_comes_back(text: str) -> None:
    ids = BPE.encode(text)
    assert BPE.decode(ids) == text
    assert not {BPE.end_of_text, BPE.pad} & set(ids)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
@example("coração 🐈‍⬛ \ufffd")
@example("\ufffd")
def test_a_stream_gives_whole_characters_and_all_of_them(text: str) -> None:
    prompt = BPE.encode("Olá, ")
    decoder = StreamDecoder(BPE, prompt)
    pieces = [decoder.push(number) for number in BPE.encode(text)]
    assert "".join(pieces) + decoder.close() == text
    if "\ufffd" not in text:
        assert all("\ufffd" not in piece for piece in pieces)


def test_a_stream_that_breaks_off_in_a_character_says_so_at_its_end() -> None:
    ids = BPE.encode("🐈")
    assert len(ids) > 1
    decoder = StreamDecoder(BPE)
    assert [decoder.push(number) for number in ids[:-1]] == [""] * (len(ids) - 1)
    assert decoder.close() == BPE.decode(ids[:-1]) != ""


def test_equal_texts_give_equal_tokenizers() -> None:
    assert bpe().inner.to_str() == bpe().inner.to_str()
    assert words().inner.to_str() == words().inner.to_str()


def test_bpe_learns_words_that_are_frequent_and_spells_the_others() -> None:
    assert BPE.size == 330
    assert len(BPE.encode(" gato")) == 1
    assert len(BPE.encode(" xilofone")) > 3


def test_a_vocabulary_too_small_for_bytes_still_spells_everything() -> None:
    small = bpe(10)
    assert small.size == 258
    assert small.decode(small.encode("não é 🐈")) == "não é 🐈"


@pytest.mark.parametrize("make", [bpe, words])
def test_saved_and_loaded_it_is_the_same(make, tmp_path: Path) -> None:
    tokenizer = make()
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path)
    assert loaded.encode("A padaria abre xyz") == tokenizer.encode("A padaria abre xyz")
    assert (loaded.kind, loaded.size, loaded.unknown) == (tokenizer.kind, tokenizer.size, tokenizer.unknown)
    text = f"{END_OF_TEXT} gato"
    assert loaded.end_of_text not in loaded.encode(text), "a loaded tokenizer must not read special tokens either"


def test_words_are_lower_cased_and_unknown_ones_are_one_token() -> None:
    tokenizer = words(lowercase=True)
    assert tokenizer.decode(tokenizer.encode("O GATO dorme")) == "o gato dorme"
    ids = tokenizer.encode("o xilofone dorme")
    assert [number == tokenizer.unknown for number in ids] == [False, True, False]
    assert words().encode("Menina") == [words().unknown]


def test_words_are_set_apart_in_a_stream() -> None:
    tokenizer = words(lowercase=True)
    decoder = StreamDecoder(tokenizer, tokenizer.encode("o gato"))
    assert "".join(decoder.push(number) for number in tokenizer.encode("dorme e olhou")) == " dorme e olhou"


def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)

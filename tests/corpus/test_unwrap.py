"""Hard wraps: prose is joined again, verse, dialogue, lists and theatre keep their lines."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treino.corpus.unwrap import unwrap

PROSE = (
    "Uma noite destas, vindo da cidade para o arrabalde, encontrei no trem da linha férrea um rapaz aqui do bairro, que eu "
    "conheço de vista e de chapéu. Cumprimentou-me, sentou-se ao pé de mim, falou da chuva e dos ministros, e acabou "
    "recitando-me versos. A viagem era curta, e os versos pode ser que não fossem inteiramente maus."
)
VERSE = """Minha terra tem palmeiras,
Onde canta o sabiá;
As aves, que aqui gorjeiam,
Não gorjeiam como lá.
Nosso céu tem mais estrelas,
Nossas várzeas têm mais flores,
Nossos bosques têm mais vida,
Nossa vida mais amores."""
DECASYLLABLES = """Canta, Musa, os furores do prelado,
Que o rebanho feroz de mil cuidados
Trouxe em guerra com os homens da justiça,
E a cidade do Rio, que dormia
Ao som das ondas e ao luar dos montes,
Acordou com sermões e excomunhões;
Dize tu como a gula e a preguiça
Urdiram do castelo o grande enredo."""
DIALOGUE = """— Você vem hoje à noite?
— Não sei ainda.
— Pois venha, que a casa é sua e a mesa está posta para todos nós.
— Então vou."""
LIST = "\n".join(f"{number}. item da lista de compras" for number in range(1, 9))


@pytest.mark.parametrize("width", [60, 72, 79])
def test_wrapped_prose_becomes_paragraphs_again(width: int) -> None:
    paragraphs = [PROSE, PROSE[::-1].replace("\n", " "), PROSE.upper()]
    wrapped = "\n\n".join(textwrap.fill(item, width, break_on_hyphens=False) for item in paragraphs)
    assert unwrap(wrapped) == "\n\n".join(paragraphs)


@pytest.mark.parametrize(
    "text", [VERSE, DECASYLLABLES, DECASYLLABLES * 9, DIALOGUE, LIST, PROSE, "", "uma linha", "a\nb\nc\nd\ne"]
)
def test_what_is_not_wrapped_stays(text: str) -> None:
    assert unwrap(text) == text


def test_a_poem_within_wrapped_prose_keeps_its_lines() -> None:
    wrapped = textwrap.fill(PROSE * 3, 72, break_on_hyphens=False)
    assert VERSE in unwrap(f"{wrapped}\n\n{VERSE}\n\n{wrapped}")


def test_a_long_dialogue_in_a_wrapped_book_is_joined_where_its_lines_are_full() -> None:
    wrapped = "\n\n".join(textwrap.fill(PROSE, 72, break_on_hyphens=False) for _ in range(80))
    speeches = ["— Sim.", "— Não.", "— " + PROSE[:120].rsplit(" ", 1)[0] + "."] * 50
    dialogue = "\n".join(textwrap.fill(item, 72, break_on_hyphens=False) for item in speeches)
    assert unwrap(f"{wrapped}\n\n{dialogue}\n\n{wrapped}").split("\n\n")[80] == "\n".join(speeches)


def test_a_speech_begins_a_paragraph_of_its_own() -> None:
    speech = "— " + PROSE
    wrapped = "\n".join(textwrap.fill(item, 72, break_on_hyphens=False) for item in (PROSE, speech, speech))
    assert unwrap(wrapped).split("\n") == [PROSE, speech, speech]


def test_a_word_divided_at_the_end_of_a_line_is_made_whole() -> None:
    lines = textwrap.wrap(PROSE, 72, break_on_hyphens=False)
    lines[0] = lines[0][:-2] + "inte-"
    lines[1] = "ressante " + lines[1]
    assert "interessante" in unwrap("\n".join(lines))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*PROSE.split(), "—", ""]), min_size=20, max_size=200), st.integers(45, 110))
def test_joining_twice_is_joining_once(words: list[str], width: int) -> None:
    once = unwrap(textwrap.fill(" ".join(words), width, break_on_hyphens=False))
    assert unwrap(once) == once

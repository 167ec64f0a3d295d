"""Hard wraps: prose is joined again, verse, dialogue, lists and theatre keep their lines."""

from __future__ import annotations

import textwrap
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treino.corpus.unwrap import is_break, unwrap

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


def ragged(text: str) -> str:
    """A page set in letters of unequal widths: wrapped, but at no fixed number of characters."""
    lines = [""]
    for word in text.split():
        width = (82, 70, 76, 79, 72)[len(lines) % 5]
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def test_letters_of_unequal_widths_leave_no_break_within_a_sentence() -> None:
    prose = " ".join([PROSE] * 8)
    joined = unwrap(f"{ragged(prose)}\n\n{PROSE}\n\n{ragged(prose)}")
    assert not [pair for pair in pairwise(joined.split("\n")) if is_break(*pair)]
    assert joined.split() == f"{prose} {PROSE} {prose}".split()


def test_a_long_paragraph_is_joined_over_all_its_lines() -> None:
    """Widths are judged by stretches of 200 lines; their borders leave no trace."""
    paragraph = " ".join([PROSE] * 120)
    assert textwrap.fill(paragraph, 72).count("\n") > 450
    assert unwrap(textwrap.fill(paragraph, 72, break_on_hyphens=False)) == paragraph


SMALL_LETTERS = """na tarde clara que se vai embora,
o vento leva as folhas do quintal,
e quem ficou à porta desde a aurora
recolhe devagar o seu varal;
ninguém pergunta ao tempo por que chora,
ninguém responde à luz, que é sempre igual,
a casa dorme, e dentro dela mora
um resto de perfume e de jornal."""


def test_verse_in_small_letters_keeps_its_lines() -> None:
    """Lines that end where a clause ends are verse, though a sentence goes on over them and they are nearly equal."""
    assert unwrap(SMALL_LETTERS) == SMALL_LETTERS
    assert unwrap("\n\n".join([SMALL_LETTERS] * 10)) == "\n\n".join([SMALL_LETTERS] * 10)


def test_theatre_keeps_its_names_and_directions_and_joins_the_speeches() -> None:
    play = [["VALENTIM", PROSE], ["DOUTOR", "(baixo)", "Virtuoso romano!"], ["INOCÊNCIO", "Oh!"], ["VALENTIM", PROSE]]
    blocks = [line for speech in play * 5 for line in speech]
    assert unwrap("\n".join(textwrap.fill(line, 80) for line in blocks)) == "\n".join(blocks)


def test_a_heading_after_a_full_line_stands_alone() -> None:
    lines = textwrap.wrap(PROSE, 72, break_on_hyphens=False)
    ending = "x" * (72 - 5) + " fim."
    assert unwrap("\n".join([*lines, ending, "CAPÍTULO SEGUNDO", *lines])).split("\n")[1:] == [
        "CAPÍTULO SEGUNDO",
        PROSE,
    ]


def test_a_dash_within_a_sentence_begins_no_paragraph() -> None:
    """ "— disse ele" at a line's beginning goes on; "— Sim" and "—Sim" are speeches."""
    lines = textwrap.wrap(PROSE, 72, break_on_hyphens=False)
    full = "y" * 60 + " casa suas"
    assert f"{full} — disse ele, enfim" in unwrap("\n".join([*lines, full, "— disse ele, enfim, a todos.", *lines]))
    for speech in ("— Sim, senhora.", "—Sim, senhora.", "-Sim, senhora."):
        assert speech in unwrap("\n".join([*lines, full, speech, *lines])).split("\n")


@pytest.mark.parametrize(
    ("divided", "elsewhere", "whole"),
    [
        ("inte-|ressante", "", "interessante"),
        ("disse-|lhe", "", "disse-lhe"),
        ("gen-|te", "gente", "gente"),
        ("guarda-|chuva", "guarda-chuva", "guarda-chuva"),
        ("padre-|nossos", "padre nossos", "padre-nossos"),
    ],
)
def test_a_divided_word_is_written_as_elsewhere_in_the_text(divided: str, elsewhere: str, whole: str) -> None:
    lines = textwrap.wrap(PROSE, 72, break_on_hyphens=False)
    start, end = divided.split("|")
    full = "z" * (71 - len(start)) + " " + start
    text = unwrap("\n".join([*lines[:-1], full, f"{end} e mais nada, senhores, do que isto.", *lines, "", elsewhere]))
    assert f" {whole} e mais nada" in text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*PROSE.split(), "—", ""]), min_size=20, max_size=200), st.integers(45, 110))
def test_joining_twice_is_joining_once(words: list[str], width: int) -> None:
    once = unwrap(textwrap.fill(" ".join(words), width, break_on_hyphens=False))
    assert unwrap(once) == once

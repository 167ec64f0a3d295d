"""The language step: py3langid's own probabilities, and Portuguese found among other languages and inside mixed books."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus.filtering import page, rows_of

from treino.corpus.filters.identify import DEEPEST, PIECE, PLAUSIBLE, identifier, known_languages
from treino.corpus.filters.language import Language, blocks, windows
from treino.corpus.sources.read import WORLD

LANGUAGES = tuple(sorted(PLAUSIBLE))
OTHERS = {
    "en": "The committee met on Thursday to discuss the new budget, and nobody was surprised that it could not agree on how "
    "much should be spent on roads. After three hours the members went home, and the chairman promised another meeting.",
    "es": "El comité se reunió el jueves para hablar del nuevo presupuesto, y a nadie le sorprendió que no llegara a un "
    "acuerdo sobre cuánto había que gastar en las carreteras. Tres horas después los miembros se fueron a su casa.",
    "fr": "Le comité s'est réuni jeudi pour parler du nouveau budget, et personne n'a été surpris qu'il ne parvienne pas à se "
    "mettre d'accord sur ce qu'il fallait dépenser pour les routes. Trois heures plus tard, chacun est rentré chez soi.",
    "it": "Il comitato si è riunito giovedì per discutere del nuovo bilancio, e nessuno si è stupito che non riuscisse a "
    "mettersi d'accordo su quanto si dovesse spendere per le strade. Dopo tre ore i membri sono tornati a casa.",
    "de": "Der Ausschuss kam am Donnerstag zusammen, um über den neuen Haushalt zu sprechen, und niemand war überrascht, dass "
    "er sich nicht einigen konnte, wie viel für die Straßen ausgegeben werden sollte. Nach drei Stunden gingen alle heim.",
}


@pytest.fixture(scope="module")
def oracle():
    """py3langid's own classifier over the same languages."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages(LANGUAGES)
    return model


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.one_of(st.text(max_size=200), st.sampled_from([*OTHERS.values(), "", "É" * 70, "ÃO E NÃO"])), max_size=8
    )
)
def test_probabilities_are_those_of_py3langid(oracle, texts: list[str]) -> None:
    """Single precision: py3langid adds in another order, so 1e-4 stands between them at most."""
    found = identifier(LANGUAGES).probabilities([*texts, page(1)])
    for text, row in zip([*texts, page(1)], found, strict=True):
        wanted = dict(oracle.rank(text))
        assert np.abs(row - [wanted[name] for name in identifier(LANGUAGES).languages]).max() < 1e-4, text


def test_the_state_remembers_no_more_than_the_bytes_that_a_piece_begins_early(oracle) -> None:
    """The depth of the automaton: how many bytes lead to its farthest state; and the byte that resets it."""
    following = np.frombuffer(oracle.tk_nextmove, oracle.tk_nextmove.typecode)
    row = np.asarray(oracle.tk_row, np.int64) << 8
    assert set(following[row + 255]) == {0}
    seen, frontier, depth = {0}, np.array([0]), 0
    while len(frontier):
        reached = np.unique(following[(row[frontier][:, None] + np.arange(256)).ravel()])
        frontier = np.array([state for state in reached.tolist() if state not in seen], np.int64)
        seen.update(frontier.tolist())
        depth += bool(len(frontier))
    assert depth == DEEPEST
    assert len(seen) == len(row)
    assert PIECE > DEEPEST


def test_the_wanted_languages_stay_and_the_others_go() -> None:
    """120 pages, half of them foreign, long and short: precision and recall 1 on texts of a paragraph or more."""
    draw = random.Random(5)
    texts, wanted = [], []
    for number in range(120):
        foreign = number % 2 == 1
        language = draw.choice(list(OTHERS))
        texts.append(
            "\n\n".join([OTHERS[language]] * draw.choice([1, 3, 60])) if foreign else page(number, draw.choice([1, 6]))
        )
        wanted.append(not foreign)
    outcome = Language(("pt",))(rows_of(texts))
    assert outcome.rows["text"].to_pylist() == [text for text, stays in zip(texts, wanted, strict=True) if stays]
    assert {row["rule"] for row in outcome.record} == {"other_language"}
    assert all("≥ pt" in row["detail"] for row in outcome.record)
    both = Language(("pt", "en"))(rows_of(texts))
    assert set(both.rows["language"].to_pylist()) == {"pt", "en"}


def test_the_portuguese_chapter_of_a_mixed_book_stays() -> None:
    chapter = "\n\n".join(page(number, 3) for number in range(8))
    before, after = "\n\n".join([OTHERS["en"]] * 30), "\n\n".join([OTHERS["es"]] * 40)
    outcome = Language(("pt",))(rows_of([f"{before}\n\n{chapter}\n\n{after}"]))
    kept = outcome.rows["text"][0].as_py()
    assert chapter[400:-400] in kept
    assert len(kept) < len(chapter) + 800
    assert outcome.rows["language"].to_pylist() == ["pt"]
    assert [row["rule"] for row in outcome.record] == ["paragraphs_in_other_language"]
    assert dict(outcome.counts) == {"paragraphs_in_other_language": 1}


def test_without_wanted_languages_all_stay_and_are_told_apart() -> None:
    texts = [page(1), OTHERS["en"], "Sim!", OTHERS["de"]]
    outcome = Language()(rows_of(texts))
    assert outcome.rows["text"].to_pylist() == texts
    assert outcome.rows["language"].to_pylist() == ["pt", "en", "pt", "de"]
    assert outcome.record == []


def test_short_texts_and_the_town_are_left_as_they_are() -> None:
    assert Language(("pt",))(rows_of(["Good morning!", "OK"])).rows.num_rows == 2
    town = Language(("en",))(rows_of([page(1)], sources=[WORLD]))
    assert town.rows["language"].to_pylist() == ["pt"]


def test_a_document_has_the_same_outcome_in_every_batch() -> None:
    texts = [
        page(1),
        OTHERS["en"],
        OTHERS["it"] + "\n\n" + page(3) + "\n\n" + page(4) + "\n\n" + OTHERS["it"],
        "x",
        page(2),
    ]
    rows = rows_of(texts)
    whole = Language(("pt",))(rows)
    alone = [Language(("pt",))(rows.slice(number, 1)) for number in range(len(texts))]
    assert pa.Table.from_batches([outcome.rows for outcome in alone]).to_pylist() == whole.rows.to_pylist()
    assert [row for outcome in alone for row in outcome.record] == whole.record


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab\n ", max_size=300), st.integers(1, 40))
def test_blocks_are_the_text_cut_behind_paragraphs(text: str, characters: int) -> None:
    cut = blocks(text, characters)
    assert "".join(cut) == text
    assert all(len(block) >= characters for block in cut[:1] if len(text) >= characters)
    assert all("\n" in block for block in cut[:-1])


def test_windows_are_spread_over_the_text() -> None:
    assert windows("abc") == ["abc"]
    assert [len(window) for window in windows("x" * 12_000)] == [500, 500, 500]
    assert windows("a" * 5000 + "b" * 5000) == ["a" * 500, "b" * 500]


def test_every_plausible_language_is_known() -> None:
    assert set(PLAUSIBLE) <= set(known_languages())

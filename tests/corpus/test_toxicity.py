"""Toxicity: planted rude lines are found, plain words and names are not, and a model learns from labelled rows."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from tests.corpus.filtering import page, rows_of

from treino.corpus.filters.filter import MODEL, train_model
from treino.corpus.filters.linear import WANTED_PRECISION, features, load_model, train
from treino.corpus.filters.toxicity import Toxicity, find, sentences, terms, weight
from treino.corpus.world.documents import documents
from treino.errors import DataError
from treino.recipe import WorldSettings


def test_planted_lines_are_found_and_nothing_else() -> None:
    """3,000 documents of the town, a third with a rude line: precision and recall 1 (the list was made with these in view)."""
    planted = 0
    for document in documents(WorldSettings(documents=3000, toxic=0.33, noise=0.0), 5):
        found = find(document.text, "pt")
        assert (found.share > 0) == (document.meta["planted"] == "toxic"), document.text
        planted += document.meta["planted"] == "toxic"
    assert planted > 800


@pytest.mark.parametrize(
    "text",
    [
        "A aranha subiu pela parede e o João Pinto comeu o pinto assado.",
        "O burro carregava lenha; o seu dono ia atrás.",
        "Bateu com o pau na mesa, abriu o botão e gozou o domingo.",
        "O amador perdeu a cabeça no bairro do Inferno.",
        "Foi uma besteira sair sem chapéu.",
        "O movimento gay marchou com a comunidade negra.",
        "",
    ],
)
def test_plain_words_are_not_toxic(text: str) -> None:
    assert find(text, "pt").share == 0


def test_a_mild_term_counts_when_it_is_said_to_someone() -> None:
    assert weight("O burro comeu.", "pt") == 0.5
    assert weight("Seu burro!", "pt") == 1
    assert weight("Você é um grande burro.", "pt") == 0.5  # four words behind
    assert weight("Você é um burro.", "pt") == 1
    assert weight("Vai tomar no cu!", "pt") >= 1
    assert weight("A stupid question.", "en") == 0.5
    assert weight("You stupid!", "en") == 1
    assert weight("Seu burro!", "xx") == 0


def test_sentences_are_cut_where_they_end() -> None:
    assert list(sentences("Um. Dois! “Três?” Quatro…\nCinco")) == ["Um.", "Dois!", "“Três?", "Quatro…", "Cinco"]


def test_the_step_marks_and_drops_by_share() -> None:
    quarrel = "Cala a boca, seu palerma! Só um idiota diz essa bobagem."
    novel = page(1, 8) + " " + quarrel
    rows = rows_of([page(2), novel, quarrel])
    marked = Toxicity("tag")(rows)
    assert marked.rows["text"].to_pylist() == rows["text"].to_pylist()
    shares = [json.loads(meta).get("toxicity") for meta in marked.rows["meta"].to_pylist()]
    assert shares[0] is None and 0 < shares[1] < 0.15 and shares[2] == 1
    assert [row["rule"] for row in marked.record] == ["toxicity", "toxicity"]
    assert json.loads(marked.rows["meta"][1].as_py())["kind"] == "web"
    dropped = Toxicity("drop")(rows)
    assert dropped.rows["text"].to_pylist() == [page(2), novel]
    assert [(row["rule"], row["detail"][:13]) for row in dropped.record][1] == ("toxic", "1.000 > 0.150")


def _labelled(path: Path, count: int = 600) -> Path:
    """Rows in which "zorg" is rude, unless it is a river; 5 % of the labels are wrong."""
    draw = random.Random(3)
    fillers = "hoje ontem casa rua gente muito pouco sempre".split()  # noqa: SIM905
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for number in range(count):
            kind = number % 3
            middle = ["zorg", "rio zorg", "lago"][kind]
            text = " ".join([*draw.choices(fillers, k=3), middle, *draw.choices(fillers, k=3)])
            table.writerow([text, int((kind == 0) != (draw.random() < 0.05))])
    return path


def test_a_model_learns_from_labelled_rows_and_judges_in_place_of_the_terms(tmp_path: Path) -> None:
    facts = train_model(_labelled(tmp_path / "rows.csv"), tmp_path / MODEL)
    assert facts["rows"] == 600 and facts["precision"] >= WANTED_PRECISION and facts["recall"] > 0.9
    model = load_model(tmp_path / MODEL)
    assert model.weights["zorg"] > 1 > -1 > model.weights["rio zorg"]
    again = tmp_path / "again.json"
    train_model(_labelled(tmp_path / "rows.csv"), again)
    assert again.read_bytes() == (tmp_path / MODEL).read_bytes()
    texts = ["Ele é zorg hoje.", "O rio zorg secou hoje.", "Seu palerma do lago!"]
    outcome = Toxicity("drop", str(tmp_path / MODEL))(rows_of(texts))
    assert outcome.rows["text"].to_pylist() == texts[1:]


def test_the_threshold_is_the_lowest_with_the_wanted_precision() -> None:
    """With labels that no word tells, there is no such threshold but the top: next to nothing is called toxic."""
    draw = random.Random(1)
    rows = [features(draw.choices("abcdefgh", k=4), 0) for _ in range(400)]
    model, reached = train(rows, [draw.random() < 0.3 for _ in rows])
    assert reached["recall"] < 0.1
    assert 0 < model.threshold < 1


def test_rows_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="toxic rows"):
        train_model(_labelled(tmp_path / "few.csv", 60), tmp_path / MODEL)


def test_the_list_of_terms_holds_no_plain_word() -> None:
    for known in (terms("pt"), terms("pt-BR")):
        assert not {"aranha", "pinto", "pau", "gay", "negro", "comer", "botão", "veado", "bicha"} & known.signs

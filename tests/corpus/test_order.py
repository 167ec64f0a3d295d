"""The order stage: difficulties by their formulas, weights and copies as readings, nothing written where nothing is asked."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from treino.corpus.documents import DOCUMENTS, content_hash, write_rows
from treino.corpus.order.difficulty import DIFFICULTIES, compression, length, reading_ease, syllables
from treino.corpus.order.order import order
from treino.corpus.order.table import ORDER, SCORES, read_columns, write_columns
from treino.errors import DataError
from treino.recipe import OrderSettings, TokenSettings
from treino.tokens.shards import open_shard
from treino.tokens.tokenise import tokenise

# Words that the rules were made by, with their syllables …
KNOWN = """dia 2, casa 2, história 3, água 2, pão 1, mãe 1, coração 3, saudade 3, ruim 2, rainha 3, juiz 2, saúde 3, país
2, pais 1, piano 3, rio 2, série 2, quero 2, guerra 2, quatro 2, linguiça 3, livro 2, boa 2, lua 2, leão 2,
avião 3, põe 1, limões 2, muito 2, cuidado 3, europeu 3, viu 1, fui 1, caiu 2, distribuiu 4, ideia 3, praia 2,
areia 3, caos 2, ao 1, aos 1, não 1, guarda-chuva 4, disse-me 3, que 1, e 1, um 1, seu 1, tio 2, família 3,
ciência 3, vivia 3, poeta 3, coelho 3, teatro 3, joelho 3, voo 2, moeda 3, criança 3, violão 3, viagem 3, dois
1, mais 1, igual 2, língua 2, ainda 3, raiz 2, cair 2, egoísta 4, baú 2, Paraguai 3, constituição 5, gratuito 3,
área 2, óleo 2, triunfo 3, miúdo 3, memórias 3, filosofia 5"""
# … and words that they were not.
UNSEEN = """lembrança 3, janela 3, vizinho 3, engenheiro 4, açougueiro 4, chapéu 2, herói 2, anzóis 2, pastéis 2, coroa 3,
canoa 3, navio 3, frio 2, alegria 4, padaria 4, cozinheira 4, psicólogo 4, advogado 4, obtuso 3, ritmo 2, pneu
1, sábio 2, colégio 3, glória 2, mistério 3, edifício 4, relógio 3, tábua 2, ingênuo 3, nódoa 2, páscoa 2, cárie
2, gêmeos 2, oceano 4, geografia 5, biologia 5, zoologia 5, cooperar 4, álcool 3, reeleger 4, compreender 4,
suor 2, cruel 2, duelo 3, diabo 3, miau 2, vaidade 3, cauteloso 4, outrora 3, roubou 2, deixou 2, falei 2, comeu
2, partiu 2, azuis 2, jóquei 2, ônibus 3, pinguim 2, sequestro 3, quilo 2, questão 2, quase 2, aquário 3,
banquinho 3, bilíngue 3, seguir 2, jiu 1, gaúcho 3, juízo 3, ruína 3, faísca 3, proíbe 3, Piauí 3, enjoo 3"""


def table(words: str) -> dict[str, int]:
    return {word: int(count) for word, count in (pair.split() for pair in words.split(","))}


def row(number: int, text: str, **more: Any) -> dict[str, Any]:
    plain = {"source": "s", "language": "pt", "licence": "", "weight": 1.0, "meta": "{}"}
    return {"id": f"d{number:05d}", "text": text, "content_hash": content_hash(text), **plain, **more}


def documents(folder: Path, rows: list[dict[str, Any]]) -> Path:
    write_rows(folder / "training", rows, DOCUMENTS)
    write_rows(folder / "held_out", [row(99999, "Guardado para o fim.", language="gl")], DOCUMENTS)
    return folder


def run(tmp_path: Path, rows: list[dict[str, Any]], scores: Path | None = None, **settings: Any) -> tuple[Path, dict]:
    output = tmp_path / "order"
    output.mkdir()
    return output, order(OrderSettings(**settings), documents(tmp_path / "in", rows), output, scores)


def column(folder: Path, name: str, rows: list[dict[str, Any]]) -> list[float]:
    return read_columns(folder, [item["id"] for item in rows])[name].tolist()


def test_syllables_of_the_words_that_the_rules_were_made_by() -> None:
    assert {word: syllables(word) for word in table(KNOWN)} == table(KNOWN)


def test_syllables_of_other_words() -> None:
    wrong = {word: (syllables(word), count) for word, count in table(UNSEEN).items() if syllables(word) != count}
    assert len(wrong) <= 2, wrong


def test_reading_ease_by_hand() -> None:
    text = "O gato dorme. A história do avião é boa!"
    words, sentences = 9, 2
    sounds = 1 + 2 + 2 + 1 + 3 + 1 + 3 + 1 + 2
    assert reading_ease(text) == pytest.approx(248.835 - 1.015 * words / sentences - 84.6 * sounds / words)
    assert reading_ease("123 ... !") == 248.835
    hard = (
        "A constitucionalidade da desconsideração administrativa pressupõe fundamentação inequivocamente demonstrada."
    )
    assert DIFFICULTIES["readability"](hard) > DIFFICULTIES["readability"](text)


def test_length_and_compression() -> None:
    assert length("O guarda-chuva, a dona dele e 3 gatos.") == 7
    text = "o gato subiu no telhado " * 40
    data = text.encode()
    assert compression(text) == pytest.approx((len(zlib.compress(data, 6)) - 6) / len(data))
    assert (
        compression(text)
        < 0.1
        < compression("Nenhuma destas palavras aparece outra vez por aqui: xilofone, brejo, querubim.")
    )


def test_nothing_is_written_where_nothing_is_asked(tmp_path: Path) -> None:
    folder, facts = run(tmp_path, [row(number, f"Texto {number}.", meta='{"copies": 3}') for number in range(30)])
    assert not (folder / ORDER).exists()
    assert facts["documents_in"] == 30
    assert facts["parts"]["held_out"] == {"documents": 1, "bytes": 20}
    assert facts["language"] == {"gl": {"documents": 1, "bytes": 20}, "pt": {"documents": 30, "bytes": 30 * 8 + 20}}


def test_weights_and_copies_are_readings(tmp_path: Path) -> None:
    rows = [
        row(0, "um"),
        row(1, "dois", weight=0.5),
        row(2, "três", meta=json.dumps({"copies": 9})),
        row(3, "quatro", weight=2.0, meta=json.dumps({"copies": 4})),
        row(4, "cinco", meta=json.dumps({"copies": 10_000})),
    ]
    folder, facts = run(tmp_path, rows, upsampling=0.5, most_repeats=5)
    assert column(folder, "repeats", rows) == [1, 0.5, 3, 4, 5]
    assert (facts["readings_per_epoch"], facts["read_more_than_once"], facts["read_less_than_once"]) == (13.5, 3, 1)


@pytest.mark.parametrize("name", DIFFICULTIES)
def test_difficulties_stand_beside_the_ids(tmp_path: Path, name: str) -> None:
    rows = [row(number, "palavra inconstitucional " * (number % 7 + 1) + str(number)) for number in range(40)]
    folder, facts = run(tmp_path, rows, difficulty=name)
    assert column(folder, "difficulty", rows) == [DIFFICULTIES[name](item["text"]) for item in rows]
    assert facts["difficulty"]["hardest"] == max(column(folder, "difficulty", rows))
    assert "repeats" not in read_columns(folder, [])


def test_the_losses_of_a_model_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = [row(number, f"Texto {number}.") for number in range(10)]
    scores = tmp_path / "scores"
    scores.mkdir()
    write_columns(scores / SCORES, [item["id"] for item in reversed(rows)], {"score": list(range(10))})
    folder, _ = run(tmp_path, rows, scores, difficulty="loss")
    assert column(folder, "difficulty", rows) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_tokens_carry_the_columns_of_their_own_documents(tmp_path: Path) -> None:
    rows = [row(number, "gato " * (number % 9 + 1) + str(number), weight=1 + number % 2) for number in range(60)]
    folder, _ = run(tmp_path, rows, difficulty="length")
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    tokenise(TokenSettings(vocabulary=300, validation=0.2), tmp_path / "in", tokens, 1, folder)
    shard, held = open_shard(tokens, "training"), open_shard(tokens, "validation")
    assert shard.difficulty is not None
    assert shard.repeats is not None
    assert held.difficulty is held.repeats is None
    assert len(shard.difficulty) == len(shard) < 60
    lengths = np.diff(shard.offsets)
    grades = shard.difficulty.tolist()
    assert math.isclose(np.corrcoef(grades, lengths)[0, 1], 1, abs_tol=0.1), "long documents have many words"
    assert set(shard.repeats) == {1, 2}


def test_an_empty_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text is left"):
        run(tmp_path, [])

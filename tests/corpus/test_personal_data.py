"""Personal data: what the town says of people is found, and numbers that only look like it are not."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus.filtering import rows_of

from treino.corpus.filters.personal_data import MASKS, PersonalData, find, mask
from treino.corpus.world.documents import documents, world_document
from treino.corpus.world.facts import World
from treino.corpus.world.personal import check_digit, luhn_digit
from treino.recipe import WorldSettings


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Meu CPF é 529.982.247-25, anote.", "Meu CPF é [CPF], anote."),
        ("CPF 52998224725", "CPF [CPF]"),
        ("CPF 529.982.247-26 e 111.111.111-11", None),
        ("pedido 12345678901", None),
        ("CNPJ 11.222.333/0001-81.", "CNPJ [CNPJ]."),
        ("CNPJ 12.ABC.345/01DE-35", "CNPJ [CNPJ]"),
        ("o CNPJ 12ABC34501DE35", "o CNPJ [CNPJ]"),
        ("o código 12ABC34501DE35", None),
        ("CNPJ 12.ABC.345/01DE-36", None),
        ("Ana <ana.b+x@exemplo.com.br>", "Ana <[e-mail]>"),
        ("seguiu @ana e ficou a 5@2", None),
        ("ligue (11) 98765-4321!", "ligue [telefone]!"),
        ("+55 21 2345-6789", "[telefone]"),
        ("21 98888 7777", "[telefone]"),
        ("telefone 11987654321", "telefone [telefone]"),
        ("protocolo 11987654321", None),
        ("(10) 98765-4321 e (11) 18765-4321", None),
        ("de 1939-1945, R$ 1.234.567,89, lei nº 8.069, de 13/07/1990", None),
        ("CEP 01310-100 ou 01.310-100", "CEP [CEP] ou [CEP]"),
        ("CEP 01310100", "CEP [CEP]"),
        ("caixa 01310100 e 00123-456", None),
        ("cartão 4111 1111 1111 1111", "cartão [cartão]"),
        ("378282246310005", "[cartão]"),
        ("4111 1111 1111 1112", None),
        ("chave 123e4567-e89b-42d3-a456-426614174000", "chave [chave Pix]"),
        ("arquivo 123e4567-e89b-42d3-a456-426614174000", None),
        ("chave 123e4567-e89b-12d3-a456-426614174000", None),
        ("processo 0001234-56.2019.8.26.0100", None),
    ],
)
def test_what_is_personal_is_masked_and_nothing_else(text: str, masked: str | None) -> None:
    assert mask(text, find(text)) == (masked or text)


def test_every_planted_piece_is_found_and_no_other() -> None:
    """3,000 documents, half with a piece of personal data and a number that only looks like one: precision and recall 1."""
    said: Counter[str] = Counter()
    for document in documents(WorldSettings(documents=3000, personal_data=0.5), 7):
        found = [(document.text[one.start : one.end], one.kind) for one in find(document.text)]
        personal = document.meta["planted"] == "personal_data"
        assert found == ([(document.meta["value"], document.meta["personal"])] if personal else []), document.text
        said.update([document.meta["personal"]] if personal else [])
    assert set(said) == set(MASKS)
    assert min(said.values()) > 100


def test_planting_personal_data_leaves_the_other_documents_as_they_were() -> None:
    plain, planted = (World.build(WorldSettings(personal_data=share), 3) for share in (0.0, 0.3))
    for index in range(200):
        before, after = world_document(plain, index), world_document(planted, index)
        if before.meta["planted"] == after.meta["planted"] == "none":
            assert before == after
        if after.meta["planted"] == "personal_data":
            assert after.text.endswith(".") or after.meta["value"] in after.text
            assert after.meta["log_probability"] is None


def test_check_digits_of_known_numbers() -> None:
    """The CPF and CNPJ that official examples use, and the networks' test card."""
    assert check_digit([5, 2, 9, 9, 8, 2, 2, 4, 7], list(range(10, 1, -1))) == 2
    assert check_digit([5, 2, 9, 9, 8, 2, 2, 4, 7, 2], list(range(11, 1, -1))) == 5
    values = [ord(letter) - ord("0") for letter in "12ABC34501DE"]
    assert check_digit(values, [5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]) == 3
    assert luhn_digit([4, *[1] * 14]) == 1


def test_the_step_masks_drops_and_records_no_personal_data() -> None:
    texts = ["Fale com ana@exemplo.com ou bia@exemplo.com, CPF 529.982.247-25.", "Nada aqui."]
    masked = PersonalData("mask")(rows_of(texts))
    assert masked.rows["text"].to_pylist() == ["Fale com [e-mail] ou [e-mail], CPF [CPF].", "Nada aqui."]
    assert [(row["rule"], row["detail"]) for row in masked.record] == [("personal_email", "2"), ("personal_cpf", "1")]
    assert dict(masked.counts) == {"personal_email": 1, "personal_cpf": 1}
    dropped = PersonalData("drop")(rows_of(texts))
    assert dropped.rows["text"].to_pylist() == texts[1:]
    for outcome in (masked, dropped):
        assert "ana@" not in json.dumps(outcome.record) and "529" not in json.dumps(outcome.record)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(["529.982.247-25", "a@b.com", "(11) 98765-4321", "12", " ", ".", "-", "x", "@", "cep"]))
)
def test_findings_do_not_overlap_and_masking_leaves_none(pieces: list[str]) -> None:
    text = "".join(pieces)
    found = find(text)
    assert all(one.end <= two.start for one, two in pairwise(found))
    assert all(text[one.start : one.end] not in MASKS.values() for one in found)


def test_hostile_texts_take_no_more_time_than_others() -> None:
    draw = random.Random(1)
    ordinary = " ".join("".join(draw.choices("abcdeo", k=6)) for _ in range(30_000))
    started = time.process_time()
    find(ordinary + " a@b.com 1234567890123")
    base = max(0.02, time.process_time() - started)
    for unit in ("a@", "1", "1-", "1 ", "a.", "@a.", "9999-", "(", "a1", "1(1.", "x@y."):
        started = time.process_time()
        find(unit * (200_000 // len(unit)) + " a@b.com 1234567890123")
        assert time.process_time() - started < 40 * base, unit

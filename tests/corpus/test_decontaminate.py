"""Decontamination: each rule beside a slow reference, what goes, what is written, and whose items count."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treino.corpus.collect import collect
from treino.corpus.decontaminate.decontaminate import CONTAMINATED, HITS, decontaminate
from treino.corpus.decontaminate.items import Item, labelled_items, read_items, world_items
from treino.corpus.decontaminate.passages import SKETCH, Passages
from treino.corpus.documents import content_hash, read_rows, write_rows
from treino.corpus.labelled.split import ROWS
from treino.errors import DataError
from treino.recipe import CorpusSettings, DecontaminateSettings, SourceSettings, WorldSettings


def prose(words: int, seed: int = 0, vocabulary: int = 10_000) -> str:
    draw = random.Random(seed)
    return " ".join(f"pá{draw.randrange(vocabulary)}" for _ in range(words))


def cut(text: str, first: int, last: int) -> str:
    return " ".join(text.split()[first:last])


def write(folder: Path, training: dict[str, str], held_out: dict[str, str] | None = None) -> Path:
    plain = {"language": "pt", "licence": "", "weight": 1.0, "meta": "{}", "source": "s"}
    for part, texts in (("training", training), ("held_out", held_out or {})):
        rows = [plain | {"id": key, "text": text, "content_hash": content_hash(text)} for key, text in texts.items()]
        write_rows(folder / part, rows)
    return folder


def texts_of(folder: Path, part: str = "training") -> dict[str, str]:
    return {row["id"]: row["text"] for row in read_rows(folder, part)}


LONG, TEN, SIX, THREE = prose(40, 1), prose(10, 2), prose(6, 3), prose(3, 4)
ITEMS = {
    "long": Item("s", "long", LONG),
    "ten": Item("s", "ten", TEN),
    "six": Item("s", "six", SIX),
    "three": Item("s", "3", THREE),
}


@pytest.mark.parametrize(
    ("item", "text", "found"),
    [
        ("long", f"{prose(30, 9)} {cut(LONG, 5, 18).upper()}, {prose(30, 8)}", True),
        ("long", f"{cut(LONG, 5, 17)} x {cut(LONG, 17, 29)}", False),
        ("long", cut(LONG, 0, 13), True),
        ("ten", f"x {TEN} y", True),
        ("ten", f"x {cut(TEN, 0, 9)} y", True),  # two of its three 8-grams
        ("ten", f"x {cut(TEN, 0, 8)} y", False),
        ("six", f"x {SIX.replace(' ', ', ')}! y", True),
        ("six", f"x {cut(SIX, 0, 5)} y", False),
        ("three", f"x\n  {THREE}.\ny", True),
        ("three", f"x {THREE} y", False),
        ("three", THREE, True),
    ],
)
def test_an_item_is_found_by_the_rule_of_its_length(item: str, text: str, found: bool) -> None:
    hits = Passages([ITEMS[item]]).find(["nada", text, ""])
    assert [hit.text for hit in hits] == ([1] if found else [])


def reference(item: str, text: str) -> bool:
    """The slow rule, word by word."""
    words, there = (re.findall(r"[^\W_]+", part.casefold()) for part in (item, text))

    def grams(of: list[str], length: int) -> set[tuple[str, ...]]:
        return {tuple(of[place : place + length]) for place in range(len(of) - length + 1)}

    if len(words) >= 13:
        return bool(grams(words, 13) & grams(there, 13))
    if len(words) >= 8:
        return 2 * len(grams(words, 8) & grams(there, 8)) >= len(grams(words, 8))
    if len(words) >= 5:
        return tuple(words) in grams(there, len(words))
    return any(re.findall(r"[^\W_]+", line.casefold()) == words for line in text.split("\n"))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=16), min_size=1, max_size=4),
    st.lists(st.lists(st.sampled_from(["a", "b", "a b", "\n"]), max_size=30), min_size=1, max_size=4),
)
def test_many_items_in_many_texts_as_the_reference_finds_them(items: list[list[str]], texts: list[list[str]]) -> None:
    wanted = [" ".join(words) for words in items]
    given_texts = [" ".join(words) for words in texts]
    passages = Passages([Item("s", str(number), text) for number, text in enumerate(wanted)])
    found = {(hit.text, passages.owners[hit.passage]) for hit in passages.find(given_texts)}
    assert found == {
        (t, i) for t, text in enumerate(given_texts) for i, item in enumerate(wanted) if reference(item, text)
    }


def test_prompt_and_answer_count_together_and_apart() -> None:
    """A short answer says nothing by itself, and a short question neither: both in a row do."""
    items = [
        Item("s", "short", "Qual é a capital da França?", "Paris"),
        Item("s", "long", prose(20, 1), prose(20, 2)),
        Item("s", "whole", "Quanto a Tito, na mesa dele o que nunca pode faltar é", " a canja", whole=True),
    ]
    passages = Passages(items)

    def found(text: str) -> list[tuple[str, str]]:
        return [(items[passages.owners[hit.passage]].id, passages.parts[hit.passage]) for hit in passages.find([text])]

    assert found("Perguntou: qual é a capital da França? Paris, disse.") == [("short", "prompt and answer")]
    assert found("Qual é a capital da França? Não sei. Paris é bonita.") == []
    assert found(cut(prose(20, 1), 3, 19)) == [("long", "prompt")]
    assert found(f"{prose(20, 2)} {prose(20, 1)}") == [("long", "prompt"), ("long", "answer")]
    assert found("Quanto a Otto, na mesa dele o que nunca pode faltar é a canja.") == []
    assert ("whole", "prompt and answer") in found("Quanto a Tito, na mesa dele o que nunca pode faltar é a canja.")


def test_a_held_out_document_is_found_where_half_of_it_stands() -> None:
    document = prose(400, 1)
    passages = Passages([], [[document, "curto"]])
    texts = [document, cut(document, 0, 280), cut(document, 0, 100), prose(400, 2), "curto"]
    assert [hit.text for hit in passages.find(texts)] == [0, 1]
    refrain = " ".join([prose(20, 3)] * 5)
    assert Passages([], [[refrain]]).find([refrain])
    assert passages.needed.tolist() == [SKETCH // 2, 1]


def items_file(folder: Path, name: str, items: list[dict[str, Any]]) -> str:
    (folder / name).write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return name


def test_documents_with_an_item_go_and_are_told(tmp_path: Path) -> None:
    name = items_file(
        tmp_path, "prova.jsonl", [{"id": "q1", "question": LONG, "answer": "x"}, {"question": TEN, "id": "a | b\n"}]
    )
    training = {"a": f"{prose(50, 7)} {LONG}", "b": prose(90, 8), "c": f"{TEN} {LONG}"}
    folder = write(tmp_path / "a", training, {"h": LONG})
    settings = DecontaminateSettings(against=(name,))
    facts = decontaminate(settings, folder, tmp_path / "b", base=tmp_path)
    assert texts_of(tmp_path / "b") == {"b": training["b"]}
    assert texts_of(tmp_path / "b", "held_out") == {"h": LONG}
    assert facts["removed_by_rule"] == {"contaminated": 2}
    assert facts["items"] == {name: 2, "held_out": 1}
    assert facts["contaminated_items"] == {name: 2, "held_out": 1}
    assert json.loads((tmp_path / "b" / CONTAMINATED).read_text()) == {
        name: {"items": 2, "contaminated": ["a / b", "q1"]},
        "held_out": {"items": 1, "contaminated": ["h"]},
    }
    rows = pq.read_table(tmp_path / "b" / HITS).to_pylist()
    assert {(row["item"], row["document"]) for row in rows if row["set"] == name} == {
        ("q1", "a"),
        ("q1", "c"),
        ("a / b", "c"),
    }
    shown = next(row for row in read_rows(tmp_path / "b", "removed") if row["id"] == "a")
    assert cut(LONG, 0, 5) in shown["before"]
    assert shown["detail"].startswith(f"{name} | q1 | prompt")


def test_paragraphs_go_or_nothing_goes(tmp_path: Path) -> None:
    (tmp_path / "itens.txt").write_text(f"{LONG}\n\n{THREE}\n", encoding="utf-8")
    text = f"{prose(20, 5)}\n\nAntes {LONG} depois\n\n{prose(20, 6)}\n{THREE}"
    folder = write(tmp_path / "a", {"a": text, "b": LONG, "c": prose(9, 9)})
    for drop, left in (
        ("paragraph", {"a": f"{prose(20, 5)}\n\n\n{prose(20, 6)}", "c": prose(9, 9)}),
        ("nothing", texts_of(folder)),
    ):
        settings = DecontaminateSettings(against=("itens.txt",), drop=drop)  # type: ignore[arg-type]
        facts = decontaminate(settings, folder, tmp_path / drop, base=tmp_path)
        assert texts_of(tmp_path / drop) == left
        assert facts["contaminated_items"]["itens.txt"] == 2
        assert facts["contaminated_documents"] == 2
        assert facts["changed_by_rule"]["contaminated"] == len(left) - 1


def test_all_lines_go_that_the_words_found_stand_in(tmp_path: Path) -> None:
    (tmp_path / "itens.txt").write_text(LONG)
    text = f"primeira\n{cut(LONG, 0, 7)}\n{cut(LONG, 7, 13)}\núltima"
    settings = DecontaminateSettings(against=("itens.txt",), drop="paragraph")
    decontaminate(settings, write(tmp_path / "a", {"a": text}), tmp_path / "b", base=tmp_path)
    assert texts_of(tmp_path / "b") == {"a": "primeira\núltima"}


def test_own_sets_count_unless_the_recipe_says_otherwise(tmp_path: Path) -> None:
    held, test = prose(60, 1), prose(15, 2)
    folder = write(tmp_path / "a", {"a": f"{held} fim", "b": f"x {test}", "c": prose(30, 3)}, {"h": held})
    rows = [{"id": "r1", "text": test, "label": "bom", "group": "", "source": "s"}]
    for part in ("validation", "test"):
        write_rows(tmp_path / "labels" / part, rows if part == "test" else [], ROWS)
    facts = decontaminate(DecontaminateSettings(), folder, tmp_path / "b", labelled=tmp_path / "labels")
    assert set(texts_of(tmp_path / "b")) == {"c"}
    assert facts["contaminated_items"] == {"test": 1, "held_out": 1}
    facts = decontaminate(DecontaminateSettings(own=False), folder, tmp_path / "c", labelled=tmp_path / "labels")
    assert (facts["documents_out"], facts["contaminated_items"]) == (4, {})
    assert [item.id for item in labelled_items(tmp_path / "labels")] == ["r1"]


def test_the_town_asks_nothing_that_it_told_and_finds_what_is_planted(tmp_path: Path) -> None:
    """Its questions are made of patterns that documents share; only the whole of one, names and all, counts."""
    world = WorldSettings(documents=600, people=10)
    collect(CorpusSettings(sources=(SourceSettings(path="world"),), held_out=0), world, tmp_path / "a", 1, tmp_path)
    truth = tmp_path / "a" / "truth"
    asked = list(world_items(truth))
    clean = decontaminate(DecontaminateSettings(), tmp_path / "a", tmp_path / "b", truth=truth)
    assert clean["contaminated_items"] == {"world": 0}
    assert clean["documents_out"] == 600
    planted = {f"p{number}": f"Dizem: {item.prompt}{item.answer}." for number, item in enumerate(asked)}
    folder = write(tmp_path / "c", planted | {"outro": "Nada disto foi perguntado."})
    found = decontaminate(DecontaminateSettings(), folder, tmp_path / "d", truth=truth)
    assert found["contaminated_items"]["world"] == len(asked)
    assert set(texts_of(tmp_path / "d")) == {"outro"}


def test_items_are_read_by_the_usual_names(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('Pergunta,Resposta\n"Quem, afinal?",Ana\n', encoding="latin-1")
    choices = {"id": "7", "context": "Texto.", "question": "Qual?", "alternatives": ["um", "dois"], "label": "b"}
    (tmp_path / "b.json").write_text(json.dumps([choices, {"outro": 1}]))
    squad = {"question": "Onde?", "answers": {"text": ["ali", "lá"]}}
    items_file(tmp_path, "c.jsonl", [squad, {"instruction": "Diga.", "input": "x\u2028y", "output": "dito"}])
    assert list(read_items(tmp_path / "a.csv", "a")) == [Item("a", "2", "Quem, afinal?", "Ana")]
    assert list(read_items(tmp_path / "b.json", "b")) == [Item("b", "7", "Texto.\nQual?", "dois")]
    assert list(read_items(tmp_path / "c.jsonl", "c")) == [
        Item("c", "1", "Onde?", "ali"),
        Item("c", "2", "Diga.\nx\u2028y", "dito"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.jsonl", '{"a": 1}\n{', "damaged"),
        ("y.csv", "id;a\n1;2\n", "no evaluation item"),
        ("z.txt", None, "missing"),
        ("w.json", "3", "damaged"),
    ],
)
def test_a_file_of_no_use_is_an_error_that_names_it(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    folder = write(tmp_path / "a", {"a": "texto"})
    with pytest.raises(DataError, match=said) as error:
        decontaminate(DecontaminateSettings(against=(name,)), folder, tmp_path / "b", base=tmp_path)
    assert name in str(error.value)


def test_no_text_left_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "itens.txt").write_text(LONG)
    folder = write(tmp_path / "a", {"a": LONG})
    with pytest.raises(DataError, match="every document"):
        decontaminate(DecontaminateSettings(against=("itens.txt",)), folder, tmp_path / "b", base=tmp_path)

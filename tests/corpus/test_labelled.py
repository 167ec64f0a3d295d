"""Labelled tables read and dealt: every text in one split, classes in proportion, groups together, mistakes named."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treino.corpus.deduplicate.exact import comparison_key
from treino.corpus.labelled.read import read_labelled, read_texts
from treino.corpus.labelled.split import SPLITS, LabelledRow, deal, label_digests, limited, read_split, split
from treino.corpus.sources.raw import Problems
from treino.errors import DataError, TreinoError
from treino.recipe import CleanSettings, LabelSettings, WorldSettings

WORLD = WorldSettings(documents=50, people=8)
ROWS = [(f"Frase número {index}, de todo modo.", ("bom", "mau", "tanto faz")[index % 3]) for index in range(60)]


def table(folder: Path, rows: list[tuple[object, ...]], head: tuple[str, ...] = ("texto", "rótulo")) -> Path:
    path = folder / "dados.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def split_of(folder: Path, seed: int = 1, **labels: object) -> dict[str, list[LabelledRow]]:
    output = folder / f"out {seed} {len(list(folder.iterdir()))}"
    given = LabelSettings(**({"source": "dados.csv"} | labels))  # type: ignore[arg-type]
    split(given, CleanSettings(), WORLD, folder, seed, output)
    return {name: read_split(output, name) for name in (*SPLITS, "unlabelled")}


def test_csv_json_lines_and_parquet_say_the_same(tmp_path: Path) -> None:
    csv_path = table(tmp_path, ROWS)
    lines = tmp_path / "dados.jsonl"
    lines.write_text("\n".join(json.dumps({"id": 1, "texto": t, "rótulo": r}) for t, r in ROWS), encoding="utf-8")
    parquet = tmp_path / "dados.parquet"
    pyarrow.parquet.write_table(pa.table({"texto": [t for t, _ in ROWS], "rótulo": [r for _, r in ROWS]}), parquet)
    for path in (csv_path, lines, parquet):
        problems = Problems()
        found = [(row.text, row.label) for row in read_labelled(path, LabelSettings(), problems)]
        assert found == ROWS, path
        assert not problems.rows


def test_columns_are_named_or_found(tmp_path: Path) -> None:
    path = table(tmp_path, [("a b c", "x", "1"), ("d e f", "y", "2")], ("mensagem livre", "Sentimento", "n"))
    named = LabelSettings(text="mensagem livre", label="n")
    assert [row.label for row in read_labelled(path, named, Problems())] == ["1", "2"]
    found = LabelSettings(text="mensagem livre")
    assert [row.label for row in read_labelled(path, found, Problems())] == ["x", "y"]
    assert [text for _, text in read_texts(path, "mensagem livre", Problems())] == ["a b c", "d e f"]


@pytest.mark.parametrize("value, name", [("1", "1"), ("1.0", "1"), (" x ", "x"), ("-1", "-1"), ("007", "007")])
def test_labels_are_names(value: str, name: str, tmp_path: Path) -> None:
    path = table(tmp_path, [("um texto", value)])
    assert [row.label for row in read_labelled(path, LabelSettings(), Problems())] == [name]


def test_splits_share_no_text_and_hold_every_class(tmp_path: Path) -> None:
    twice = [*ROWS, *[(text.upper() + "  ", label) for text, label in ROWS[:30]]]
    table(tmp_path, twice)
    parts = split_of(tmp_path)
    keys = [comparison_key(row.text) for name in SPLITS for row in parts[name]]
    assert len(keys) == len(set(keys)) == 60
    for name, share in (("training", 0.65), ("validation", 0.15), ("test", 0.2)):
        counts = Counter(row.label for row in parts[name])
        assert all(abs(count - 20 * share) <= 1 for count in counts.values()), (name, counts)
    assert parts == split_of(tmp_path)
    assert parts["test"] != split_of(tmp_path, seed=2)["test"]


def test_unlabelled_texts_are_those_that_may_be_pretrained_on(tmp_path: Path) -> None:
    table(tmp_path, ROWS)
    parts = split_of(tmp_path, limit=24)
    texts = {name: {row.text for row in rows} for name, rows in parts.items()}
    assert len(parts["training"]) + len(parts["validation"]) == 24
    assert texts["training"] < texts["unlabelled"]
    assert not texts["unlabelled"] & (texts["validation"] | texts["test"])
    assert {row.label for row in parts["unlabelled"]} == {""}
    # The rows that judge do not change with the number of labels.
    assert parts["test"] == split_of(tmp_path)["test"]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2)), min_size=6, max_size=60),
    seed=st.integers(0, 1000),
)
def test_groups_stay_together_and_nothing_is_lost(sizes: list[tuple[int, int]], seed: int) -> None:
    rows = [
        LabelledRow(f"{group}-{number}", "t", "abc"[label], f"g{group}", "")
        for group, (size, label) in enumerate(sizes)
        for number in range(size)
    ]
    dealt = deal(rows, {"a": 0.7, "b": 0.3}, seed)
    assert sorted(row.id for part in dealt.values() for row in part) == sorted(row.id for row in rows)
    assert not {row.group for row in dealt["a"]} & {row.group for row in dealt["b"]}
    turned = deal(rows[::-1], {"a": 0.7, "b": 0.3}, seed)  # the order of the table does not matter
    assert {row.id for row in turned["a"]} == {row.id for row in dealt["a"]}
    largest = max(size for size, _ in sizes)
    for label in "abc":
        total = sum(row.label == label for row in rows)
        assert abs(sum(row.label == label for row in dealt["b"]) - 0.3 * total) <= largest + 1


def test_groups_of_a_table_are_not_spread(tmp_path: Path) -> None:
    rows = [(f"texto {index} de alguém", "xy"[index % 2], f"autor {index // 6}") for index in range(120)]
    table(tmp_path, rows, ("text", "label", "author"))
    parts = split_of(tmp_path, group="author")
    authors = [{row.group for row in parts[name]} for name in SPLITS]
    assert not (authors[0] & authors[1] or authors[0] & authors[2] or authors[1] & authors[2])
    assert all(authors)


def test_a_limit_keeps_the_classes_in_proportion() -> None:
    rows = [LabelledRow(str(index), "t", "raro" if index % 10 == 0 else "comum", "", "") for index in range(400)]
    kept = limited(rows, 50, seed=4)
    assert Counter(row.label for row in kept) == {"comum": 45, "raro": 5}
    assert limited(rows, 0, 4) == limited(rows, 400, 4) == rows
    assert {row.id for row in limited(rows, 20, 4)} < {row.id for row in kept}


def test_a_test_file_of_its_own_judges_and_takes_its_texts_out(tmp_path: Path) -> None:
    table(tmp_path, ROWS)
    mine = [{"texto": text, "rótulo": label} for text, label in [*ROWS[:3], ("Outra frase, nova.", "bom")]]
    (tmp_path / "teste.jsonl").write_text("\n".join(map(json.dumps, mine)), encoding="utf-8")
    parts = split_of(tmp_path, test="teste.jsonl")
    assert len(parts["test"]) == 4
    assert not {row.id for row in parts["test"]} & {row.id for row in (*parts["training"], *parts["unlabelled"])}
    assert len(parts["training"]) + len(parts["validation"]) == 57
    digests = label_digests(LabelSettings(source="dados.csv", test="teste.jsonl"), tmp_path)
    assert set(digests) == {"dados.csv", "teste.jsonl"}


def test_one_text_with_two_labels_goes_and_is_counted(tmp_path: Path) -> None:
    table(tmp_path, [*ROWS, ("Frase número 0, de todo modo.", "mau"), ("", "bom"), ("Sem rótulo aqui.", "")])
    output = tmp_path / "out"
    facts = split(LabelSettings(source="dados.csv"), CleanSettings(), WORLD, tmp_path, 1, output)
    assert facts["removed_by_rule"] == {"conflicting_labels": 2, "no_label": 1, "no_text": 1}
    assert sum(facts["rows"].values()) == 59


def test_the_world_tells_moods_and_pairs_stand_in_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    told = split_of(tmp_path, source="world", limit=90)
    assert {row.label for row in told["training"]} == {"positivo", "negativo", "neutro"}
    rows = tuple(ROWS[:9])
    given = split_of(tmp_path, source="", rows=rows, validation=0.0, test=0.0)
    assert sorted((row.text, row.label) for row in given["training"]) == sorted(rows)
    assert not given["validation"] and not given["test"]


@pytest.mark.parametrize(
    "rows, head, labels, said",
    [
        ([("a b", "x")] * 3 + [("c d", "x")], ("text", "label"), {}, "there is nothing to tell apart"),
        ([(f"t {n}", f"{n}.5") for n in range(9)], ("text", "label"), {}, "number with a fraction"),
        ([("a b", "x", "c")], ("text", "label", "text"), {}, "the column text is there 2 times"),
        ([("a b", "x", "c")], ("text", "label", "label"), {}, "the column label is there 2 times"),
        ([("a b", "x")], ("um", "dois"), {}, "there is no column text among: um, dois"),
        ([("a b", "x")], ("text", "label"), {"label": "classe"}, "there is no column classe"),
        ([("a b", "x")], ("text", "label"), {"group": "autor"}, "there is no column autor"),
        ([("", "x"), (" ", "y")], ("text", "label"), {}, "no labelled row"),
        ([("a b", "")], ("text", "label"), {}, "no labelled row"),
        ([], ("text", "label"), {}, "no labelled row"),
        ([(f"t {n}", f"nome {n}") for n in range(60)], ("text", "label"), {}, "is this the column of the classes"),
    ],
)
def test_what_no_classifier_can_be_made_of_is_refused(
    rows: list, head: tuple, labels: dict, said: str, tmp_path: Path
) -> None:
    table(tmp_path, rows, head)
    with pytest.raises(TreinoError, match=said) as caught:
        split_of(tmp_path, **labels)
    assert caught.value.exit_code == 3


def test_a_label_of_the_test_file_alone_cannot_be_learnt(tmp_path: Path) -> None:
    table(tmp_path, ROWS)
    (tmp_path / "teste.jsonl").write_text('{"texto": "Nova frase.", "rótulo": "péssimo"}', encoding="utf-8")
    with pytest.raises(DataError, match="label péssimo occurs in the test rows alone"):
        split_of(tmp_path, test="teste.jsonl")


@pytest.mark.parametrize("name", ["nada.csv", "pasta", "imagem.png", "quebrado.parquet"])
def test_files_that_are_no_tables(name: str, tmp_path: Path) -> None:
    (tmp_path / "pasta").mkdir()
    (tmp_path / "imagem.png").write_bytes(b"\x89PNG")
    (tmp_path / "quebrado.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError):
        split_of(tmp_path, source=name)


def test_a_first_row_without_a_class_is_set_aside_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "dados.jsonl"
    for rest in (["x"], ["x", "y"]), ("x", "y"):
        rows = [{"text": "a"}, {"text": "b", "label": None}, *({"text": "c", "label": label} for label in rest)]
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        problems = Problems()
        assert len(list(read_labelled(path, LabelSettings(), problems))) == 2
        assert problems.counts == {"no_label": 2}

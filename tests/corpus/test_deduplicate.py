"""Exact duplicates: what counts as equal, which copy stays, and recall and precision on the world, by group."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treino.corpus.collect import collect
from treino.corpus.deduplicate.deduplicate import deduplicate
from treino.corpus.deduplicate.exact import comparison_key
from treino.corpus.documents import content_hash, read_rows, write_rows
from treino.errors import DataError
from treino.recipe import CorpusSettings, DeduplicateSettings, SourceSettings, WorldSettings


def write(folder: Path, training: dict[str, str], held_out: dict[str, str] | None = None) -> Path:
    """A documents folder of {id: text}."""
    plain = {"language": "pt", "licence": "", "weight": 1.0, "meta": "{}"}
    for part, texts in (("training", training), ("held_out", held_out or {})):
        rows = [
            {"id": number, "text": text, "source": number, "content_hash": content_hash(text), **plain}
            for number, text in texts.items()
        ]
        write_rows(folder / part, rows)
    return folder


def ids(folder: Path, part: str) -> list[str]:
    return [row["id"] for row in read_rows(folder, part)]


def record(folder: Path) -> dict[str, tuple[str, str]]:
    """{id: (rule, the document that stays)} of what was removed."""
    return {row["id"]: (row["rule"], row["detail"]) for row in read_rows(folder, "removed")}


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        ("O gato subiu.", "  o GATO\n\tsubiu. ", True),
        ("avó", "avo\u0301", True),
        ("Straße", "STRASSE", True),
        ("O gato subiu.", "O gato subiu", False),
        ("o avô", "o avó", False),
        ("um dois", "umdois", False),
    ],
)
def test_equal_means_but_for_case_white_space_and_normal_form(one: str, two: str, equal: bool) -> None:
    assert (comparison_key(one) == comparison_key(two)) is equal


def test_the_smallest_id_stays_wherever_it_stands(tmp_path: Path) -> None:
    texts = {"c": "Mesmo texto.", "a": "mesmo  texto.", "b": "Outro texto.", "d": "MESMO TEXTO."}
    for name, order in (("x", list(texts)), ("y", sorted(texts)), ("z", sorted(texts, reverse=True))):
        facts = deduplicate(
            DeduplicateSettings(), write(tmp_path / name, {key: texts[key] for key in order}), tmp_path / f"{name}2"
        )
        assert sorted(ids(tmp_path / f"{name}2", "training")) == ["a", "b"]
        assert record(tmp_path / f"{name}2") == {"c": ("duplicate", "a"), "d": ("duplicate", "a")}
        assert facts["removed_by_rule"] == {"duplicate": 2}


def test_training_text_goes_that_equals_held_out_text(tmp_path: Path) -> None:
    """The record names the held-out document that stays, not its own copy that went."""
    folder = write(
        tmp_path / "a", {"t1": "O  MESMO texto.", "t2": "Diferente."}, {"h2": "o mesmo texto.", "h1": "O mesmo\ntexto."}
    )
    facts = deduplicate(DeduplicateSettings(), folder, tmp_path / "b")
    assert (ids(tmp_path / "b", "training"), ids(tmp_path / "b", "held_out")) == (["t2"], ["h1"])
    assert record(tmp_path / "b") == {"t1": ("also_held_out", "h1"), "h2": ("duplicate", "h1")}
    assert facts["removed_by_rule"] == {"also_held_out": 1, "duplicate": 1}
    assert (facts["documents_in"], facts["documents_out"], facts["held_out_documents"]) == (4, 2, 1)


def test_nothing_is_removed_where_the_recipe_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", {"t1": "Mesmo.", "t2": "Mesmo."}, {"h1": "Mesmo."})
    facts = deduplicate(DeduplicateSettings(exact=False), folder, tmp_path / "b")
    assert (facts["documents_out"], facts["removed_by_rule"]) == (3, {})


def test_no_training_text_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="held-out"):
        deduplicate(DeduplicateSettings(), write(tmp_path / "a", {"t": "Um."}, {"h": "um."}), tmp_path / "b")


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(["a b", "A  b", "a\nB", "c", "C ", "d", "e f", "E F"]), min_size=1, max_size=12))
def test_each_text_stays_once(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("d")
    named = {f"{number * 7 % 13:02d}": text for number, text in enumerate(texts)}
    deduplicate(DeduplicateSettings(), write(folder / "a", named), folder / "b")
    kept = [comparison_key(row["text"]) for row in read_rows(folder / "b", "training")]
    assert sorted(kept) == sorted({comparison_key(text) for text in texts})
    assert set(ids(folder / "b", "training")) | set(record(folder / "b")) == set(named)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A world with planted copies, part of it held out, collected and deduplicated."""
    folder = tmp_path_factory.mktemp("town")
    world = WorldSettings(documents=2000, people=20, duplicates=0.2, near_duplicates=0.05, noise=0)
    recipe = CorpusSettings(sources=(SourceSettings(path="world"),), held_out=0.1)
    collect(recipe, world, folder / "a", 1, folder)
    return folder, deduplicate(DeduplicateSettings(near=False, paragraphs=False), folder / "a", folder / "b")


def all_rows(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for part in ("training", "held_out") for row in read_rows(folder, part)}


def test_recall_and_precision_on_planted_copies_are_one(town: tuple[Path, dict[str, Any]]) -> None:
    """By group: which of two equal documents was planted does not decide which one stays.

    Recall: of each planted copy's group (the copies and their original, by the world's own record) one document stays.
    Precision: every removed document equals, character for character but for case and white space, one that stays; the
    world's short texts may be equal by chance, too.
    """
    folder, facts = town
    before, after = all_rows(folder / "a"), all_rows(folder / "b")
    meta = {number: json.loads(row["meta"]) for number, row in before.items()}
    position = {number: meta[number]["of"] for number in before if meta[number]["planted"] == "duplicate"}
    groups: dict[str, set[str]] = defaultdict(set)
    for number in position:
        groups[before[number]["text"]].add(number)
    originals = {row["text"]: number for number, row in before.items() if number not in position}
    assert len(position) > 300
    assert facts["planted_duplicates"] == facts["planted_duplicates_found"] == len(position)
    for text, copies in groups.items():
        assert len((copies | {originals[text]}) & after.keys()) <= 1
    kept = {comparison_key(row["text"]) for row in after.values()}
    assert len(kept) == len(after)
    assert kept == {comparison_key(row["text"]) for row in before.values()}


def test_the_record_names_the_copy_that_stays(town: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = town
    before, after = all_rows(folder / "a"), all_rows(folder / "b")
    removed = record(folder / "b")
    assert removed.keys() == before.keys() - after.keys()
    assert {rule for rule, _ in removed.values()} == {"duplicate", "also_held_out"}
    for number, (_, stays) in removed.items():
        copy_of = before[stays]
        assert comparison_key(copy_of["text"]) == comparison_key(before[number]["text"])
    assert facts["documents_in"] - facts["documents_out"] == len(removed) == sum(facts["removed_by_rule"].values())


def test_no_training_text_is_held_out_as_well(town: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = town
    keys = [{comparison_key(row["text"]) for row in read_rows(folder / "b", part)} for part in ("training", "held_out")]
    assert keys[1]
    assert not keys[0] & keys[1]

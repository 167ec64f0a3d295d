"""The filter stage: nothing of the town is lost unless asked, everything changed or dropped is told, batches do not matter."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from tests.corpus.filtering import page, rows_of
from tests.corpus.test_language_filter import OTHERS

from treino.corpus.collect import collect
from treino.corpus.documents import read_rows, write_rows
from treino.corpus.filters.filter import filter_documents, row_digests
from treino.corpus.filters.language import Language
from treino.corpus.filters.personal_data import PersonalData
from treino.corpus.filters.quality import Quality
from treino.corpus.filters.toxicity import Toxicity
from treino.corpus.rules import RULES
from treino.corpus.world.plants import _RUDE
from treino.errors import DataError, UsageError
from treino.recipe import CorpusSettings, FilterSettings, WorldSettings

STEPS = (Language(("pt",)), Quality("all"), PersonalData("mask"), Toxicity("drop"))
TEXTS = [
    page(1),
    OTHERS["en"] * 3,
    page(2) + " Fale com ana@exemplo.com.",
    "Compre! " * 80,
    "\n".join([*[OTHERS["fr"], OTHERS["it"]] * 6, page(3), page(4), page(7), *[OTHERS["it"], OTHERS["de"]] * 6]),
    page(5) + " Cala a boca, seu palerma!",
    " ".join(_RUDE) + " " + page(6, 1),
    "",
]


def _documents(folder: Path, rows: pa.RecordBatch) -> Path:
    listed = rows.to_pylist()
    write_rows(folder / "training", listed[1:])
    write_rows(folder / "held_out", listed[:1])
    return folder


def _town(folder: Path, **world: float) -> Path:
    collect(CorpusSettings(), WorldSettings(documents=1500, **world), folder, 1, Path())
    return folder


def _texts(folder: Path) -> dict[str, str]:
    return {row["id"]: row["text"] for part in ("training", "held_out") for row in read_rows(folder, part)}


def test_the_default_recipe_loses_nothing_of_the_town(tmp_path: Path) -> None:
    documents = _town(tmp_path / "town")
    facts = filter_documents(FilterSettings(), documents, tmp_path / "out")
    assert (facts["removed_by_rule"], facts["changed_by_rule"]) == ({}, {})
    assert _texts(tmp_path / "out") == _texts(documents)
    assert list(read_rows(tmp_path / "out", "removed")) == []


def test_what_was_planted_is_found_and_told(tmp_path: Path) -> None:
    documents = _town(tmp_path / "town", toxic=0.1, personal_data=0.1)
    planted = {
        row["id"]: json.loads(row["meta"]) for part in ("training", "held_out") for row in read_rows(documents, part)
    }
    facts = filter_documents(FilterSettings(toxicity="drop"), documents, tmp_path / "out")
    told = {row["id"]: row for row in read_rows(tmp_path / "out", "removed")}
    wanted = {number for number, meta in planted.items() if meta["planted"] in ("toxic", "personal_data")}
    assert set(told) == wanted
    assert {row["step"] for row in told.values()} == {"personal_data", "toxicity"}
    after = _texts(tmp_path / "out")
    for number in wanted:
        value = planted[number].get("value")
        if value:
            assert value not in after[number] and planted[number]["decoy"] in after[number]
    changed = facts["removed_by_rule"] | facts["changed_by_rule"]
    assert sum(changed.values()) == len(wanted) and "toxic" in changed


def test_every_change_names_step_rule_and_value_against_threshold(tmp_path: Path) -> None:
    documents = _documents(tmp_path / "documents", rows_of(TEXTS))
    settings = FilterSettings(languages=("pt",), quality="all", toxicity="drop")
    facts = filter_documents(settings, documents, tmp_path / "out")
    told = [(row["id"], row["step"], row["rule"]) for row in read_rows(tmp_path / "out", "removed")]
    assert sorted(told) == [
        ("000001", "language", "other_language"),
        ("000002", "personal_data", "personal_email"),
        ("000003", "quality", "stop_words"),
        ("000004", "language", "paragraphs_in_other_language"),
        ("000005", "toxicity", "toxicity"),
        ("000006", "toxicity", "toxic"),
        ("000007", "quality", "number_of_words"),
    ]
    for row in read_rows(tmp_path / "out", "removed"):
        assert row["rule"] in RULES
        assert row["step"] == "personal_data" or any(sign in row["detail"] for sign in "<>≥≤"), row
    assert facts["documents_in"] == len(TEXTS)
    assert facts["documents_out"] == len(TEXTS) - 4
    steps = json.loads((tmp_path / "out/records/steps.json").read_text(encoding="utf-8"))
    assert [step["step"] for step in steps] == ["language", "quality", "personal_data", "toxicity"]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_travels_and_does_the_same_in_every_batch(step: Language) -> None:
    rows = rows_of(TEXTS)
    travelled = pickle.loads(pickle.dumps(step))
    whole = travelled(rows)
    backwards = [step(rows.slice(number, 1)) for number in reversed(range(len(TEXTS)))]
    kept = [row for outcome in reversed(backwards) for row in outcome.rows.to_pylist()]
    assert kept == whole.rows.to_pylist()
    assert [row for outcome in reversed(backwards) for row in outcome.record] == whole.record
    empty = step(rows.slice(0, 0))
    assert empty.rows.num_rows == 0 and empty.record == []


def test_settings_switch_steps_off(tmp_path: Path) -> None:
    documents = _documents(tmp_path / "documents", rows_of(TEXTS))
    settings = FilterSettings(quality="none", personal_data="keep", toxicity="keep")
    filter_documents(settings, documents, tmp_path / "out")
    assert _texts(tmp_path / "out") == _texts(documents)


def test_mistakes_are_told(tmp_path: Path) -> None:
    documents = _documents(tmp_path / "documents", rows_of(TEXTS))
    with pytest.raises(UsageError, match="languages names"):
        filter_documents(FilterSettings(languages=("xx",)), documents, tmp_path / "out")
    with pytest.raises(DataError, match="other_language"):
        filter_documents(
            FilterSettings(languages=("ja",)), _documents(tmp_path / "b", rows_of(TEXTS[:6])), tmp_path / "c"
        )
    assert row_digests(FilterSettings(toxicity_rows="no.csv"), tmp_path) == {"no.csv": "missing"}
    with pytest.raises(DataError, match=r"no\.csv"):
        filter_documents(FilterSettings(toxicity_rows="no.csv"), documents, tmp_path / "d", tmp_path)

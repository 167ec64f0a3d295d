"""A classifier in the report and in its card: every figure arrives, the gap is named, the gate says by how much."""

from __future__ import annotations

import pytest

from treino.report.classifier_card import classifier_card
from treino.report.phases import phases
from treino.report.write import render_report


def test_every_figure_of_the_classifier_reaches_the_page(facts: dict) -> None:
    page = render_report(facts, "en")
    for text in ("1,000,000", "259", "87.9%", "88.3%", "macro_f1 &gt;= tfidf + 0.02", "0.069", "-0.050", "16.7% more"):
        assert text in page, text
    assert "The gate is not passed" in page
    assert "judged so far: 4" in page
    assert "a gap of 18.0%" in page
    assert "The weights are those of epoch 7" in page
    assert "4 texts were longer than the context: only their beginning was read" in page
    assert "It is ahead: macro-F1 0.879" in page


def test_a_lead_within_the_interval_is_none(facts: dict) -> None:
    facts["classification"]["baselines"]["tfidf"]["macro_f1"]["mean"] = 0.87
    assert "Neither is ahead" in render_report(facts, "en")
    facts["classification"]["baselines"]["tfidf"]["macro_f1"]["mean"] = 0.95
    assert "It is behind" in render_report(facts, "en")


def test_phases_in_order_and_empty_where_a_phase_has_none(facts: dict) -> None:
    rows = phases(facts["training"], facts["classification"])
    stages = [row["stage"] for row in rows]
    assert stages == ["pretrain"] * 8 + ["finetune"] * 8 + ["judge"]
    assert all(row["finetuning_accuracy"] is None and row["pretraining_loss"] for row in rows[:8])
    assert all(row["pretraining_loss"] is None and row["validation_loss"] for row in rows[8:16])
    assert [rows[8]["step"], rows[15]["step"]] == [0, 10]
    assert rows[16]["finetuning_accuracy"] == 0.883
    assert phases(None, None) == []


@pytest.mark.parametrize(
    "language, said", [("en", "A classifier of 2 classes"), ("pt_BR", "Um classificador de 2 classes")]
)
def test_the_card_of_a_classifier(facts: dict, language: str, said: str) -> None:
    card = classifier_card(facts, language)
    assert said in card
    assert "pipeline_tag: text-classification" in card
    assert "library_name: transformers" in card
    assert "treino predict" in card
    facts["model"]["architecture"] = "lstm"
    assert "transformers" not in classifier_card(facts, language)
    facts["classification"] = None
    assert classifier_card(facts, language) == ""


def test_a_hostile_class_name_stays_text(facts: dict) -> None:
    name = "<script>alert(1)</script>|# x"
    facts["classification"]["labels"] = ["mau", name]
    facts["classification"]["test"]["by_class"][1]["label"] = name
    assert "<script>" not in render_report(facts, "en")
    assert "<script>" not in classifier_card(facts, "en")

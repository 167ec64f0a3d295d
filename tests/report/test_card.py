"""The model card: front matter that parses, facts that arrive, nothing private, code that compiles."""

from __future__ import annotations

import ast
import re

import pytest

from treino.report.card import model_card

yaml = pytest.importorskip("yaml")


def front_matter(card: str) -> dict:
    _, header, _ = card.split("---\n", 2)
    return yaml.safe_load(header)


@pytest.mark.parametrize("language", ["en", "pt_BR"])
def test_front_matter(facts: dict, language: str) -> None:
    header = front_matter(model_card({**facts, "licence": "mit"}, language))
    assert header["language"] == ["pt"] and header["license"] == "mit"
    assert header["pipeline_tag"] == "text-generation" and header["library_name"] == "transformers"
    assert {"treino", "llama"} <= set(header["tags"])


def test_an_lstm_is_not_offered_to_transformers(facts: dict) -> None:
    card = model_card({**facts, "model": {**facts["model"], "architecture": "lstm"}}, "en")
    header = front_matter(card)
    assert header["library_name"] == "treino" and "lstm" in header["tags"] and "llama" not in header["tags"]
    assert "transformers" not in card and "LSTM" in card and "treino generate" in card


def test_facts_arrive_in_the_readers_form(facts: dict) -> None:
    english, portuguese = model_card(facts, "en"), model_card(facts, "pt_BR")
    for shown in ("1,050,752", "2,007,040", "82.6%", "0.488 (0.479–0.497)", "0.918", "71.3%", "CC0-1.0", "20,127"):
        assert shown in english, shown
    for shown in ("1.050.752", "82,6 %", "0,488 (0,479–0,497)"):
        assert shown in portuguese, shown


def test_no_text_of_the_user_is_in_the_card(facts: dict) -> None:
    card = model_card(facts, "en")
    assert facts["examples"]
    assert not [sample for sample in facts["training"]["samples"] if sample["text"].strip() in card]
    assert "padaria" not in card
    assert "| world |" in card and "town" not in card  # of a path only the last part


def test_hostile_names_stay_text(facts: dict) -> None:
    bad = '"\n---\nlicense: evil\n<script>alert(1)</script> | [x](http://x) `code`'
    source = {"path": bad, "language": bad, "licence": bad}
    card = model_card({**facts, "name": bad, "licence": bad, "sources": [source]}, "en")
    header = front_matter(card)
    assert header["license"] == bad and header["language"] == [bad]
    body = card.split("---\n", 2)[2]
    assert "<script>" not in body and "[x](" not in body
    row = next(line for line in body.splitlines() if "evil" in line and line.startswith("|"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 4


def test_the_code_in_the_card_compiles(facts: dict) -> None:
    blocks = re.findall(r"```python\n(.*?)```", model_card(facts, "en"), flags=re.DOTALL)
    assert len(blocks) == 1
    ast.parse(blocks[0])


def test_any_part_may_be_missing(facts: dict) -> None:
    assert "was not evaluated" in model_card({}, "en")
    for key in facts:
        card = model_card({**facts, key: None}, "en")
        assert front_matter(card)["tags"] and "None" not in card
    for part in ("training", "evaluation", "model"):
        for key in facts[part]:
            assert "None" not in model_card({**facts, part: {**facts[part], key: None}}, "en"), (part, key)


def test_a_model_that_was_brought_along_is_not_called_trained_from_scratch(facts: dict) -> None:
    stages = [{"name": "adopt", "state": "ready"}, *facts["stages"]]
    card = model_card({**facts, "stages": stages, "model": {**facts["model"], "family": "gpt2"}}, "en")
    tags = front_matter(card)["tags"]
    assert "gpt2" in tags and not {"llama", "trained-from-scratch"} & set(tags)
    assert "family gpt2" in card and "brought along" in card and "from scratch" not in card
    fresh = model_card(facts, "en")
    assert "family llama" in fresh and "trained from scratch" in fresh

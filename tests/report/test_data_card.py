"""The data card: front matter that parses, counts that arrive, text only as examples, hostile strings stay in their cells."""

from __future__ import annotations

import re

import pytest

from treino.report.data_card import by_rule, data_card
from treino.report.write import render_report

yaml = pytest.importorskip("yaml")


def front_matter(card: str) -> dict:
    _, header, _ = card.split("---\n", 2)
    return yaml.safe_load(header)


@pytest.mark.parametrize("language", ["en", "pt_BR"])
def test_front_matter_as_the_hub_reads_it(facts: dict, language: str) -> None:
    header = front_matter(data_card(facts["corpus"], language))
    assert header["language"] == ["gl", "pt"]
    assert header["license"] == "CC0-1.0"
    assert header["size_categories"] == ["10K<n<100K"]
    splits = header["configs"][0]["data_files"]
    assert splits[0] == {"split": "train", "path": "training/*.parquet"}


def test_counts_arrive_in_the_readers_form(facts: dict) -> None:
    english, portuguese = (data_card(facts["corpus"], language) for language in ("en", "pt_BR"))
    for shown in (
        "19,120 documents (6.1 MB of text)",
        "| textos | pt | CC0-1.0 | 2 | 20,000 | 41 | `abababababab` |",
        "| https://exemplo.org/ | gl | not stated | 1 | 812 | – | – |",
        "| clean | 20,812 | 20,730 | 6.6 MB | 82 | 12 | 1.5 s |",
        "| filter: language | 20,730 | 20,701 |",
        "| pt | 19,900 | 99.0% |",
        "an epoch reads 38,014 documents",
        "hardest -12.12",
    ):
        assert shown in english, shown
    assert "19.120 documentos (6,1 MB de texto)" in portuguese
    assert "99,0 %" in portuguese


def test_rules_add_up_over_the_steps(facts: dict) -> None:
    removed, changed = by_rule(facts["corpus"]["steps"])
    assert removed == {"binary": 2, "too_short": 82, "other_language": 29, "duplicate": 574}
    assert changed == {"unwrap": 12}


def test_text_is_shown_only_as_examples(facts: dict) -> None:
    corpus = facts["corpus"]
    assert "não abre" in data_card(corpus, "en")
    assert "abre" not in data_card({**corpus, "examples": []}, "en")
    assert "não abre" not in render_report({"corpus": corpus, "examples": True}, "en"), (
        "the report has a section of its own"
    )


def test_hostile_strings_stay_in_their_cells(facts: dict) -> None:
    bad = '"\n---\nlicense: evil\n<script>alert(1)</script> | [x](http://x) `code`'
    corpus = facts["corpus"]
    corpus["sources"][0] |= {"name": bad, "licence": bad, "language": bad}
    corpus["licences"] = {bad: {"documents": 1, "bytes": 1}}
    corpus["languages"] = {bad: {"documents": 1, "bytes": 1}}
    corpus["examples"] = [{"rule": bad, "detail": bad, "before": bad, "after": bad}]
    card = data_card({**corpus, "name": bad}, "en")
    header = front_matter(card)
    assert header["license"] == bad
    assert header["language"] == [bad]
    body = card.split("---\n", 2)[2]
    assert "<script>" not in body
    assert "[x](" not in body
    row = next(line for line in body.splitlines() if "evil" in line and line.startswith("|"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 8


def test_any_part_may_be_missing(facts: dict) -> None:
    corpus = facts["corpus"]
    for key in corpus:
        assert "None" not in data_card({name: value for name, value in corpus.items() if name != key}, "en"), key
        assert "None" not in data_card({**corpus, key: None}, "en"), key

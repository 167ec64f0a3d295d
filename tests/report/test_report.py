"""The HTML report: well-formed, closed to the outside, safe, private, whole with any part missing, in two languages."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from treino.report.write import render_report, write_report

VOID = {"meta", "br", "link", "img", "hr", "input"}
SVG_LEAVES = {"path", "rect", "circle"}
LANGUAGES = ("en", "pt_BR")
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;{0}{name}\x00"


class Page(HTMLParser):
    """Fails on a tag that is not closed in order; collects ids, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute"
        self.tags.append((tag, dict(attrs)))
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_LEAVES, f"<{tag}/> does not close itself in HTML"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def hostile(value: Any) -> Any:
    """The same facts with every string made hostile, the keys of dictionaries of names included."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_well_formed_and_accessible(facts: dict, language: str) -> None:
    page = Page(render_report(facts, language))
    assert len(page.ids) == len(set(page.ids))
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links and all((link or "")[1:] in page.ids for link in links)
    assert dict(page.tags)["html"]["lang"] == language.replace("_", "-")
    for tag, attributes in page.tags:
        if tag == "svg":  # a drawing is either named or hidden from screen readers
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    assert [tag for tag, _ in page.tags].count("h1") == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_asked_for_from_outside(facts: dict, language: str) -> None:
    text = render_report(facts, language)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert "://" not in text and "url(" not in text and "@import" not in text
    for _, attributes in page.tags:
        assert "src" not in attributes and (attributes.get("href") or "#").startswith("#")
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy and "default-src 'none'" in policy


def test_hostile_strings_stay_text(facts: dict) -> None:
    bad = hostile(facts)
    bad["removed"]["by_rule"] = {HOSTILE: 3}
    bad["machine"] = {HOSTILE: HOSTILE}
    bad["forecasts"]["pretrain"]["forecast"]["memory"] = {HOSTILE: 3, "total": 3}
    page = Page(render_report(bad, "en"))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.text.count("alert(1)") > 20
    assert "\x00" not in page.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_part_may_be_missing(facts: dict, language: str) -> None:
    def check(part: dict) -> None:
        text = render_report(part, language)
        Page(text)
        assert ">None<" not in text and "None," not in text

    check({})
    check(dict.fromkeys(facts))
    for key, value in facts.items():
        check({other: facts[other] for other in facts if other != key})
        check({**facts, key: None})
        if isinstance(value, dict):
            check({**facts, key: {}})
            for inner in value:
                check({**facts, key: {name: value[name] for name in value if name != inner}})
                check({**facts, key: {**value, inner: None}})
        elif isinstance(value, list):
            check({**facts, key: []})


def test_missing_parts_are_said(facts: dict) -> None:
    text = Page(render_report({}, "en")).text
    assert "Nothing was trained" in text and "was not evaluated" in text
    facts["training"]["validation"] = []
    assert "No text was kept for validation" in Page(render_report(facts, "en")).text
    assert "No text was held out" in Page(render_report({"evaluation": {"documents": 0, "baselines": []}}, "en")).text


def test_without_bits_per_byte_losses_are_compared(facts: dict) -> None:
    words = [{"name": "kneser_ney_5", "loss": 4.321}, {"name": "xz", "bits_per_byte": 2.0}]
    facts["evaluation"] |= {"bits_per_byte": None, "baselines": words}
    text = Page(render_report(facts, "en")).text
    assert "Bits per byte cannot be given" in text and "4.321" in text and "The model is ahead" not in text


def test_text_is_shown_only_where_the_recipe_allows(facts: dict) -> None:
    private = [sample["text"].strip() for sample in facts["training"]["samples"]]
    private += [example["before"] for example in facts["removed"]["examples"]]
    private.append("A padaria")
    shown = Page(render_report(facts, "en")).text
    assert all(text in shown for text in private)
    hidden = render_report({**facts, "examples": False}, "en")
    assert not [text for text in private if text in hidden]
    assert "report.examples = true" in hidden
    assert "report.examples = true" in render_report({k: v for k, v in facts.items() if k != "examples"}, "en")


def test_numbers_take_the_readers_form(facts: dict) -> None:
    english, portuguese = (Page(render_report(facts, language)).text for language in LANGUAGES)
    for in_english, in_portuguese in (("1,050,752", "1.050.752"), ("0.488", "0,488"), ("71.3%", "71,3 %")):
        assert in_english in english and in_english not in portuguese
        assert in_portuguese in portuguese and in_portuguese not in english


def test_every_fact_reaches_the_page(facts: dict) -> None:
    text = Page(render_report(facts, "en")).text
    for shown in (
        *("20,812 → 20,730", "4.9 MB", "1 min 33 s", "398 MB"),  # stages
        *("82.6%", "0.488 (0.479–0.497)", "0.918", "0.401"),  # training and evaluation
        *("71.3% (66.8%–75.5%)", "40.1%", "603", "207"),  # truthfulness, removed
        *("576 MB", "561 MB", "97%"),  # forecast beside measured
        *(
            "pretrain.learning_rate",
            "0.004",
            "derived",
            "tokenise-0d0d",
            "contos/árvore.txt",
            "AVX512",
        ),  # settings, lineage, machine
    ):
        assert shown in text, shown


def test_a_foreign_stage_has_its_place(facts: dict) -> None:
    stages = copy.deepcopy(facts["stages"])
    stages.insert(3, {"name": "decontaminate", "state": "ran", "documents_in": 20_127, "documents_out": 20_100})
    text = render_report({**facts, "stages": stages}, "en")
    assert text.count('<li class="stage') == 7 and text.count('class="arrow"') == 6
    assert text.index("<h3>deduplicate") < text.index("<h3>decontaminate") < text.index("<h3>tokenise")


@pytest.mark.parametrize("language", LANGUAGES)
def test_write_report_writes_one_file(facts: dict, tmp_path: Path, language: str) -> None:
    folder = tmp_path / "relatório de ação"
    folder.mkdir()
    result = write_report(facts, folder, language)
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    written = (folder / "report.html").read_bytes()
    assert result["bytes_out"] == len(written) < 150_000
    assert written.decode("utf-8") == render_report(facts, language)


def test_colours_change_with_the_readers_scheme(facts: dict) -> None:
    """Every colour is a variable, and the dark scheme gives each of them another value."""
    style = render_report(facts, "en").split("<style>")[1].split("</style>")[0]
    light, dark = (dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]+);", part)) for part in style.split("@media (prefers", 1))
    assert light.keys() == dark.keys() and not [name for name in light if light[name] == dark[name]]
    rules = style.split("* { box-sizing", 1)[1]
    assert not re.findall(r"#[0-9a-f]{3,6}\b", rules)
    for scheme in (light, dark):
        for name in ("--ink", "--soft", "--model", "--training", "--validation"):
            assert _contrast(scheme[name], scheme["--paper"]) >= 4.5, name  # WCAG 2.2, level AA for text


def _contrast(first: str, second: str) -> float:
    """Contrast of two colours by WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)

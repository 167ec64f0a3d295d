"""What the town's texts tell, what they must not tell, and what the prompts ask."""

from __future__ import annotations

import collections
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from treino import files
from treino.corpus.world.documents import Document, generate_document
from treino.corpus.world.facts import CANDIDATES, FOLLOWS, INDEPENDENT, World, trades_tied_to, truth_table
from treino.corpus.world.prompts import prompts, write_truth
from treino.corpus.world.statements import say
from treino.corpus.world.vocabulary import capital
from treino.corpus.world.wordings import DISTANCE, WORDINGS
from treino.errors import UsageError

SEED = 11
DOCUMENTS = 6_000


def build(seed: int = SEED, **changes: object) -> World:
    values = {"documents": 10, "people": 40, "duplicates": 0, "near_duplicates": 0, "noise": 0, "toxic": 0}
    return World.build(SimpleNamespace(**{**values, "gender_bias": 0, **changes}), seed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world() -> World:
    return build()


@pytest.fixture(scope="module")
def documents(world: World) -> list[Document]:
    return [generate_document(world, index) for index in range(DOCUMENTS)]


def test_every_stated_fact_is_told_often_and_no_other(world: World, documents: list[Document]) -> None:
    told = collections.Counter(fact for document in documents for fact in document.facts_used)
    stated = {(person.name, attribute) for person in world.people for attribute in person.stated}
    assert set(told) == stated
    # 60 tellings in 20,000 documents is what a small model needs.
    assert min(told.values()) >= 60 * DOCUMENTS / 20_000


def test_no_text_tells_a_withheld_or_derived_fact_in_any_wording(world: World, documents: list[Document]) -> None:
    corpus = "\n".join(document.text for document in documents)
    for person in world.people:
        for attribute in CANDIDATES:
            if person.group(attribute) == "stated":
                continue
            for wording in WORDINGS[attribute].statements:
                sentence = say(wording, person, attribute)
                assert sentence not in corpus and capital(sentence) not in corpus


def test_held_out_wordings_never_tell_their_fact(world: World, documents: list[Document]) -> None:
    corpus = "\n".join(document.text for document in documents)
    for prompt in prompts(world):
        assert prompt["prompt"] not in corpus, prompt["id"]
        lowered = prompt["prompt"][0].lower() + prompt["prompt"][1:]
        assert prompt["wording"] == "question" or lowered + prompt["answers"][0] not in corpus


def test_held_out_wordings_are_used_of_other_people(world: World, documents: list[Document]) -> None:
    """Every statement and every question that a prompt uses is known from other people."""
    corpus = "\n".join(document.text for document in documents)
    for attribute, wordings in WORDINGS.items():
        for wording in wordings.statements:
            said = [say(wording, person, attribute) for person in world.people if person.group(attribute) == "stated"]
            assert any(capital(sentence) in corpus for sentence in said), wording
        for question in wordings.questions:
            assert any(question.replace("{n}", person.name) in corpus for person in world.people), question


def test_facts_used_are_really_said(world: World, documents: list[Document]) -> None:
    for document in documents[:500]:
        for name, attribute in document.facts_used:
            forms = world.by_name[name].value(attribute).values()
            assert any(form.casefold() in document.text.casefold() for form in forms)


def test_prompts_are_well_formed(world: World) -> None:
    found = prompts(world)
    assert len({prompt["id"] for prompt in found}) == len(found)
    groups = collections.Counter(prompt["group"] for prompt in found)
    assert set(groups) == {"stated", "derived", "control"} and groups["control"] == 2 * len(world.people)
    for prompt in found:
        assert not prompt["prompt"].endswith(" ")
        assert set(prompt["answers"]) <= set(prompt["candidates"]) and len(prompt["answers"]) == 1
        assert len(set(prompt["candidates"])) == len(CANDIDATES[prompt["kind"]])
        for candidate in prompt["candidates"]:
            assert re.match(r" \S", candidate)
            # Else the probability of one candidate would hold that of another.
            assert not any(c != candidate and c.startswith(candidate) for c in prompt["candidates"])
        after_name = prompt["prompt"].rsplit(prompt["person"], 1)[1]
        assert len(re.findall(r"\w+|[^\w\s]", after_name)) >= DISTANCE, prompt


def test_trades_agree_with_the_gender_of_the_person(world: World) -> None:
    answers = {(p["person"], c) for p in prompts(world) if p["kind"] == "trade" for c in p["candidates"]}
    for person in world.people:
        assert ((person.name, " padeira") in answers) == (person.gender == "a")
        assert ((person.name, " padeiro") in answers) == (person.gender == "o")


def test_wordings_leave_enough_after_holding_out() -> None:
    for attribute, wordings in WORDINGS.items():
        assert len(wordings.statements) >= 5 and len(wordings.promptable) >= 3, attribute
        assert len(set(wordings.statements)) == len(wordings.statements)
        assert len(wordings.questions) >= 3 and len(wordings.answers) >= 2


def test_derived_facts_follow_from_stated_ones(world: World) -> None:
    truth = truth_table(world)
    derived = 0
    for person, row in zip(world.people, truth["people"], strict=True):
        trade = CANDIDATES["trade"][person.facts["trade"]][""]
        assert row["facts"]["workplace"] == truth["workplaces"][trade]["workplace"]
        assert row["facts"]["district"] == truth["districts"][row["facts"]["street"]]
        for attribute, source in FOLLOWS.items():
            if row["groups"][attribute] == "derived":
                derived += 1
                assert row["groups"][source] == "stated"
            if row["groups"][source] == "control":
                assert row["groups"][attribute] is None
    assert derived > 10


def test_facts_are_even_and_withheld_independently() -> None:
    """Over many towns every value and every withheld attribute is about as frequent as the others."""
    people = [person for seed in range(60) for person in build(seed).people]
    for attribute in INDEPENDENT:
        counts = collections.Counter(person.facts[attribute] for person in people)
        expected = len(people) / len(CANDIDATES[attribute])
        assert len(counts) == len(CANDIDATES[attribute])
        # Five standard deviations of a binomial count, bounded by those of a Poisson count.
        assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())
    withheld = collections.Counter(person.withheld for person in people)
    expected = len(people) / len(INDEPENDENT)
    assert all(abs(withheld[attribute] - expected) < 5 * expected**0.5 for attribute in INDEPENDENT)


def test_gender_bias_ties_trades_and_frees_the_control() -> None:
    for bias, low, high in ((0.0, 0.4, 0.6), (0.6, 0.72, 0.88), (1.0, 1.0, 1.0)):
        people = [person for seed in range(20) for person in build(seed, gender_bias=bias).people]
        tied = sum(person.facts["trade"] in trades_tied_to(person.gender) for person in people) / len(people)
        assert low <= tied <= high
        assert bias == 0 or all(person.withheld != "trade" for person in people)


def test_truth_is_pure_and_differs_between_seeds() -> None:
    assert truth_table(build()) == truth_table(build())
    assert truth_table(build(SEED + 1))["people"] != truth_table(build())["people"]


def test_write_truth(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "verdade com espaço"
    folder.mkdir()
    write_truth(world, folder)
    assert files.read_json(folder / "truth.json") == json.loads(json.dumps(truth_table(world)))
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == prompts(world)


@pytest.mark.parametrize("people", [-1, 0, 3, 61])
def test_impossible_number_of_people_is_refused(people: int) -> None:
    with pytest.raises(UsageError):
        build(people=people)


@pytest.mark.parametrize("people", [4, 60])
def test_smallest_and_largest_town(people: int) -> None:
    world = build(people=people)
    assert len({person.name for person in world.people}) == people
    assert all(generate_document(world, index).text for index in range(300))

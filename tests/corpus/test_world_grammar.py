"""The grammar's probabilities are exact: small worlds are listed whole, texts of the large one are parsed back."""

from __future__ import annotations

import collections
import itertools
import math
import random
from types import SimpleNamespace

import pytest

from treino.corpus.world.documents import KINDS, SHARES, generate_document, grammar, grammars, log_probability
from treino.corpus.world.facts import World
from treino.corpus.world.grammar import (
    Choice,
    Concatenation,
    Keep,
    Node,
    Slot,
    Text,
    Variable,
    draw,
    enumerate_texts,
    parse,
    template,
)


def settings(**changes: object) -> SimpleNamespace:
    """World settings without plants."""
    values = {"documents": 100, "people": 40, "duplicates": 0.0, "near_duplicates": 0.0, "noise": 0.0, "toxic": 0.0}
    return SimpleNamespace(**{**values, "gender_bias": 0.0, **changes})


@pytest.fixture(scope="module")
def world() -> World:
    return World.build(settings(), 7)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def small_world() -> World:
    return World.build(settings(people=4), 7)  # type: ignore[arg-type]


def narrowing(seed: int) -> Keep:
    """Keeps one, two or three of the alternatives, which ones depending on their number and the seed."""

    def keep(count: int) -> list[int]:
        generator = random.Random(f"{seed}/{count}")
        return sorted(generator.sample(range(count), min(count, generator.choice((1, 1, 1, 2, 2, 3)))))

    return keep


def narrow(node: Node, most: int, first_seed: int = 0) -> Node:
    """A narrowed grammar of more than 20 and at most `most` texts."""
    for seed in range(first_seed, first_seed + 300):
        narrowed = node.narrowed(narrowing(seed))
        if 20 < sum(1 for _ in itertools.islice(enumerate_texts(narrowed), most + 1)) <= most:
            return narrowed
    raise AssertionError("no grammar of that size")


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_of_all_texts_of_a_small_world_sum_to_one(small_world: World, kind: str) -> None:
    for first_seed in (0, 1_000, 2_000):
        found = list(enumerate_texts(narrow(grammars(small_world)[kind], 3_000, first_seed)))
        assert len({text for text, _ in found}) == len(found), "two derivations give the same text"
        assert math.fsum(math.exp(log) for _, log in found) == pytest.approx(1, abs=1e-9)


def test_whole_document_grammar_sums_to_one_over_kinds(small_world: World) -> None:
    """All kinds together, each narrowed: no text belongs to two kinds."""
    narrowed = [narrow(grammars(small_world)[kind], most=3_000) for kind in KINDS]
    found = list(enumerate_texts(Choice(narrowed, [SHARES[kind] for kind in KINDS])))
    assert len({text for text, _ in found}) == len(found) > 20 * len(KINDS)
    assert math.fsum(math.exp(log) for _, log in found) == pytest.approx(1, abs=1e-9)


def test_draws_follow_the_probabilities_that_they_return(small_world: World) -> None:
    """Frequencies over 20,000 draws lie within five standard deviations of the listed probabilities."""
    node = narrow(grammars(small_world)["mood"], 400)
    table = dict(enumerate_texts(node))
    generator, count = random.Random(0), 20_000
    seen: collections.Counter[str] = collections.Counter()
    for _ in range(count):
        text, log, _ = draw(node, generator)
        assert log == pytest.approx(table[text], abs=1e-9)
        seen[text] += 1
    for text, log in table.items():
        probability = math.exp(log)
        deviation = math.sqrt(count * probability * (1 - probability))
        assert abs(seen[text] - count * probability) <= 5 * deviation + 1


def test_every_document_of_the_large_world_has_one_derivation_of_the_stated_probability(world: World) -> None:
    for index in range(250):
        document = generate_document(world, index)
        logs = parse(grammar(world), document.text)
        assert logs == [pytest.approx(document.log_probability, abs=1e-9)], document.text


def test_foreign_text_has_no_probability(world: World) -> None:
    assert log_probability(world, "O gato subiu no telhado.") == -math.inf
    text = generate_document(world, 0).text
    assert log_probability(world, text + " ") == -math.inf
    assert math.isfinite(log_probability(world, text))


def test_ambiguity_is_seen() -> None:
    """The listing and the parser must be able to fail: this grammar says "ab" in two ways."""
    ambiguous = Concatenation([Choice([Text("a"), Text("ab")]), Choice([Text("b"), Text("")])])
    assert len(parse(ambiguous, "ab")) == 2
    texts = [text for text, _ in enumerate_texts(ambiguous)]
    assert len(texts) == 4 and len(set(texts)) == 3


def test_template_binds_agrees_and_remembers() -> None:
    fruit = Variable("fruit", [{"": "maçãs", "x": "a"}, {"": "limões", "x": "o"}])
    number = Variable("n", [{"": "dois", "o": "dois", "a": "duas"}, {"": "três", "o": "três", "a": "três"}])
    node = template("[tem|compra] {n@fruit} {fruit}; {n@fruit}!", {"fruit": fruit, "n": number})
    texts = dict(enumerate_texts(node))
    assert len(texts) == 8
    assert texts["tem duas maçãs; duas!"] == pytest.approx(math.log(1 / 8))
    assert "tem dois maçãs; dois!" not in texts


def test_weights_and_later_domains() -> None:
    first = Variable("first", [{"": "a"}, {"": "b"}, {"": "c"}])
    second = Variable("second", lambda context: [v for v in first.domain({}) if v is not context["first"]])
    node = Choice([Concatenation([Slot(first), Slot(second)]), Text("z")], [3, 1])
    table = dict(enumerate_texts(node))
    assert set(table) == {"ab", "ac", "ba", "bc", "ca", "cb", "z"}
    assert math.exp(table["z"]) == pytest.approx(1 / 4)
    assert math.exp(table["ab"]) == pytest.approx(3 / 4 / 6)


@pytest.mark.parametrize("broken", ["[a|b", "a]b", "{a", "a}b"])
def test_unreadable_templates_are_refused(broken: str) -> None:
    with pytest.raises(ValueError):
        template(broken, {"a": Variable("a", [{"": "x"}])})


@pytest.mark.parametrize("weights", [[], [1], [1, 0], [1, -1]])
def test_a_choice_needs_positive_weights(weights: list[float]) -> None:
    with pytest.raises(ValueError):
        Choice([Text("a"), Text("b")], weights)

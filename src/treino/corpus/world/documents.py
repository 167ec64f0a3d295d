"""The town's documents, any number of them, each a pure function of (settings, seed, index); some are planted.

Planted are exact copies, near copies, damaged texts and, where asked, rude lines; what was planted where is recorded in
each document's `meta`, so that what the later stages find can be measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from treino.corpus.world import plants
from treino.corpus.world.dialogues import dialogues
from treino.corpus.world.facts import World
from treino.corpus.world.grammar import Choice, Node, draw, parse, stream
from treino.corpus.world.moods import moods
from treino.corpus.world.questions import questions
from treino.corpus.world.statements import Telling, comparisons, portraits, town
from treino.corpus.world.stories import stories

if TYPE_CHECKING:
    from treino.recipe import WorldSettings

SHARES = {
    "portrait": 0.27,
    "comparison": 0.13,
    "questions": 0.25,
    "town": 0.05,
    "story": 0.12,
    "mood": 0.12,
    "dialogue": 0.06,
}
"""Probability of each kind of document; facts make up most, so that a small model sees each often enough."""
KINDS = tuple(SHARES)


@dataclass(frozen=True)
class Document:
    """A clean text, its kind, its exact natural log probability, and the facts (person, attribute) that it tells."""

    text: str
    kind: str
    log_probability: float
    facts_used: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class WorldDocument:
    """A document of the corpus as the later stages get it; `meta` says what was planted in it."""

    index: int
    text: str
    meta: dict[str, Any]


@lru_cache(maxsize=8)
def grammars(world: World) -> dict[str, Node]:
    """The grammar of each kind of document."""
    telling = Telling(world)
    return {
        "portrait": portraits(world, telling),
        "comparison": comparisons(world, telling),
        "questions": questions(world, telling),
        "town": town(world),
        "story": stories(world),
        "mood": moods(world),
        "dialogue": dialogues(world),
    }


@lru_cache(maxsize=8)
def grammar(world: World) -> Choice:
    """The grammar of all documents: log p(text) = log share of its kind + log p(text | kind)."""
    return Choice([grammars(world)[kind] for kind in KINDS], [SHARES[kind] for kind in KINDS])


def generate_document(world: World, index: int) -> Document:
    """The clean document with that index, whatever the plants make of it."""
    generator = stream(world.seed, "document", index)
    node = grammar(world)
    # The kind is drawn here, as the grammar would draw it, so that it is known.
    chosen = node.index(generator.random())
    text, log, facts = draw(node.alternatives[chosen], generator)
    return Document(text, KINDS[chosen], node.logs[chosen] + log, facts)


def log_probability(world: World, text: str) -> float:
    """Natural log probability of a text under the town's grammar, found by parsing it; -inf for a foreign text."""
    logs = parse(grammar(world), text)
    assert len(logs) < 2, f"two derivations of one text: {text}"
    return logs[0] if logs else float("-inf")


def world_document(world: World, index: int) -> WorldDocument:
    """The document with that index after planting.

    `meta`: index, kind, log_probability (null where the text is not of the grammar), planted ("none", "duplicate",
    "near_duplicate", "noise", "toxic", "personal_data"), `of` (index of the clean document that it was made from, null for
    "none"), `jaccard` (near_duplicate: similarity to that document), and `damage` (noise), `line` (toxic) or `personal`,
    `value` and `decoy` (personal data).
    """
    plant = plants.plant(world.settings, world.seed, index)
    source = index if plant.of is None else plant.of
    document = generate_document(world, source)
    text, details = plants.apply(plant, document.text, world.seed, index)
    exact = text == document.text
    meta = {
        "index": index,
        "kind": document.kind,
        "log_probability": document.log_probability if exact else None,
        "planted": plant.kind,
        "of": plant.of,
        **details,
    }
    return WorldDocument(index, text, meta)


def documents(settings: WorldSettings, seed: int) -> Iterator[WorldDocument]:
    """All documents in order; none where the settings ask for none."""
    world = World.build(settings, seed)
    for index in range(settings.documents):
        yield world_document(world, index)


def plan(world: World, count: int) -> list[plants.Plant]:
    """What is planted in each of the first `count` documents."""
    return [plants.plant(world.settings, world.seed, index) for index in range(count)]

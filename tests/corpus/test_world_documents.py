"""The corpus as the later stages get it: distinct, reproducible, with plants where the record says."""

from __future__ import annotations

import collections
import html
import math
import re
from types import SimpleNamespace

import pytest

from treino.corpus.world import plants
from treino.corpus.world.documents import KINDS, SHARES, documents, generate_document, plan, world_document
from treino.corpus.world.facts import World
from treino.corpus.world.moods import _TWINS, LABELS, mood_examples
from treino.files import digest

SEED = 5
COUNT = 4_000


def settings(**changes: object) -> SimpleNamespace:
    values = {"documents": COUNT, "people": 40, "duplicates": 0.05, "near_duplicates": 0.05, "noise": 0.05}
    return SimpleNamespace(**{**values, "toxic": 0.0, "personal_data": 0.0, "gender_bias": 0.0, **changes})


@pytest.fixture(scope="module")
def corpus() -> list:
    return list(documents(settings(), SEED))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world() -> World:
    return World.build(settings(), SEED)  # type: ignore[arg-type]


def normalised(text: str) -> str:
    return " ".join(text.casefold().split())


def test_document_needs_no_other(world: World, corpus: list) -> None:
    for index in (0, 1, 17, COUNT - 1):
        assert world_document(world, index) == corpus[index]


def test_clean_documents_are_distinct_and_short_words_suffice(world: World) -> None:
    texts = [generate_document(world, index).text for index in range(20_000)]
    assert len({normalised(text) for text in texts}) / len(texts) > 0.99
    words = {word for text in texts for word in re.findall(r"\w+", text.casefold())}
    assert len(words) < 2_000
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) >= 12 and max(lengths) <= 130 and 40 < sum(lengths) / len(lengths) < 80


def test_clean_documents_are_clean(world: World) -> None:
    for index in range(3_000):
        text = generate_document(world, index).text
        assert text == " ".join(text.split()) and text.isprintable()
        assert not re.search(r"[{}\[\]|<>&]| [.,;:!?]|\.\.|\b(?:de|em) (?:o|a|os|as)\b(?= [A-Z]?[a-z])", text), text
        assert text[0].isupper() and text[-1] in '.!?"'


def test_kinds_come_in_their_shares(corpus: list) -> None:
    counts = collections.Counter(document.meta["kind"] for document in corpus)
    for kind in KINDS:
        expected = COUNT * SHARES[kind]
        assert abs(counts[kind] - expected) < 5 * expected**0.5


def test_plants_are_what_the_record_says(world: World, corpus: list) -> None:
    counts = collections.Counter(document.meta["planted"] for document in corpus)
    for planted in ("duplicate", "near_duplicate", "noise"):
        assert abs(counts[planted] - 0.05 * COUNT) < 5 * (0.05 * COUNT) ** 0.5
    for document in corpus:
        meta, of = document.meta, document.meta["of"]
        if meta["planted"] == "none":
            clean = generate_document(world, document.index)
            assert (document.text, meta["log_probability"], of) == (clean.text, clean.log_probability, None)
        elif meta["planted"] == "duplicate":
            assert of < document.index and corpus[of].meta["planted"] == "none"
            assert document.text == corpus[of].text
        elif meta["planted"] == "near_duplicate":
            assert of < document.index and corpus[of].meta["planted"] == "none"
            assert meta["log_probability"] is None and document.text != corpus[of].text
            assert meta["jaccard"] == round(similarity(corpus[of].text, document.text), 4)
            assert meta["jaccard"] <= max(plants.SIMILARITIES) + plants.SIMILARITY_STEP
        else:
            assert of == document.index and meta["log_probability"] is None
    assert [document.meta["planted"] for document in corpus] == [plant.kind for plant in plan(world, COUNT)]


def similarity(one: str, two: str) -> float:
    """|A ∩ B| / |A ∪ B| of the word 5-grams, counted one by one."""
    grams = []
    for text in (one, two):
        words = re.sub(r"[^\w]+", " ", text.lower()).split()
        grams.append({" ".join(words[place : place + 5]) for place in range(len(words) - 4)})
    return len([gram for gram in grams[0] if gram in grams[1]]) / len(grams[0] | grams[1])


def test_near_copies_come_at_three_similarities() -> None:
    """Of a long text each is near .7, .8 or .9, and never below by more than one edit costs (five 5-grams twice)."""
    text = " ".join(f"palavra{number}" for number in range(400))
    found = collections.Counter()
    for seed in range(60):
        changed, true = plants.near_copy(text, plants.stream(seed, "test", 0).random)
        assert true == similarity(text, changed)
        level = max(level for level in plants.SIMILARITIES if level - 0.03 <= true)
        assert level - 0.03 <= true <= level + plants.SIMILARITY_STEP
        found[level] += 1
    assert min(found.values()) > 10


def mended(text: str, damage: str) -> str:
    """The damage undone, each in its own way."""
    if damage == "mojibake":
        pairs = ((c, c.encode("cp1252", "ignore") or c.encode("latin-1")) for c in text)
        return b"".join(byte for _, byte in pairs).decode()
    if damage == "entities":
        return html.unescape(text)
    if damage == "controls":
        return re.sub("[\x00-\x1f\x7f\u200b\ufeff]", "", text)
    return " ".join(text.split())


def test_noise_damages_and_can_be_mended(world: World, corpus: list) -> None:
    seen = set()
    for document in corpus:
        if document.meta["planted"] == "noise":
            clean = generate_document(world, document.index).text
            assert document.text != clean
            assert mended(document.text, document.meta["damage"]) == clean
            seen.add(document.meta["damage"])
    assert seen == set(plants.DAMAGES)


def test_rude_lines_only_where_asked(corpus: list) -> None:
    assert not any("idiota" in document.text for document in corpus)
    rude = list(documents(settings(documents=500, toxic=0.2), SEED))  # type: ignore[arg-type]
    planted = [document for document in rude if document.meta["planted"] == "toxic"]
    assert 60 < len(planted) < 140
    assert all(document.text.endswith(document.meta["line"]) for document in planted)


def test_no_plants_and_no_documents() -> None:
    none = {"duplicates": 0.0, "near_duplicates": 0.0, "noise": 0.0}
    assert {d.meta["planted"] for d in documents(settings(documents=50, **none), 1)} == {"none"}  # type: ignore[arg-type]
    assert list(documents(settings(documents=0), 1)) == []  # type: ignore[arg-type]
    only = list(documents(settings(documents=3, **{**none, "duplicates": 1.0}), 1))  # type: ignore[arg-type]
    assert [d.meta["planted"] for d in only] == ["none"] * 3, "a copy needs an original in which nothing is planted"


def test_near_copies_of_short_texts_differ() -> None:
    for text in ("a a", "a a a a", "Um gato.", "a"):
        for seed in range(50):
            assert plants.near_copy(text, plants.stream(seed, "test", 0).random)[0] != text


def test_mood_labels_stand_in_no_text(corpus: list) -> None:
    assert not any(re.search(r"positiv|negativ|neutr", document.text.casefold()) for document in corpus)


def test_mood_examples_are_even_pure_and_hard_for_a_bag_of_words(world: World) -> None:
    examples = mood_examples(world, 900, 3)
    assert examples == mood_examples(world, 900, 3) and examples[:10] == mood_examples(world, 10, 3)
    assert examples != mood_examples(world, 900, 4)
    counts = collections.Counter(label for _, label in examples)
    assert set(counts) == set(LABELS) and min(counts.values()) > 240
    assert mood_examples(world, 0, 3) == []
    for twin in _TWINS:
        words = [
            sorted(re.findall(r"\{[^}]*\}|\w+", twin.format(*pair))) for pair in (("good_", "bad_"), ("bad_", "good_"))
        ]
        assert words[0] == words[1]
    # A naive Bayes classifier over sets of words, fitted here, stays far from certain.
    fitted, judged = mood_examples(world, 3_000, 8), mood_examples(world, 500, 9)
    seen = {label: collections.Counter[str]() for label in LABELS}
    for text, label in fitted:
        seen[label].update(set(re.findall(r"\w+", text.casefold())))

    def score(words: set[str], label: str) -> float:
        return sum(math.log((seen[label][word] + 0.5) / len(fitted)) for word in words)

    words_of = [(set(re.findall(r"\w+", text.casefold())), label) for text, label in judged]
    right = sum(max(LABELS, key=lambda label, w=words: score(w, label)) == label for words, label in words_of)
    assert 0.5 < right / len(judged) < 0.85


def test_golden_digest(corpus: list) -> None:
    """The corpus of a seed is the same everywhere and for ever; a change of it needs a new version of the stage."""
    rows = [[document.text, document.meta["planted"], document.meta["of"]] for document in corpus[:500]]
    assert digest(rows) == GOLDEN


GOLDEN = "d36415a6de7148b15560a727047a9ae5cc42b7337bdedbcf732f65b9a384277a"

"""Near duplicates beside a slow reference that compares all pairs; who stays; paragraphs; what is recorded."""

from __future__ import annotations

import itertools
import json
import random
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from treino.corpus import documents
from treino.corpus.deduplicate import deduplicate as stage
from treino.corpus.deduplicate import keys, near
from treino.corpus.deduplicate.deduplicate import FOUND, deduplicate
from treino.corpus.deduplicate.signatures import MOST_HASHES, RECALL, Banding, band_keys, banding
from treino.corpus.documents import content_hash, read_rows, write_rows
from treino.corpus.words import Grams, mix
from treino.recipe import DeduplicateSettings

VOCABULARY = [
    f"{first}{second}" for first in ("ca", "çã", "é", "lo", "mu") for second in ("ra", "té", "xo", "ni", "bu")
]


def write(folder: Path, training: dict[str, str], held_out: dict[str, str] | None = None, **meta: Any) -> Path:
    """A documents folder of {id: text}; `meta`: records by id."""
    plain = {"language": "pt", "licence": "", "weight": 1.0, "source": "s"}
    for part, texts in (("training", training), ("held_out", held_out or {})):
        rows = [
            plain | {"id": key, "text": text, "content_hash": content_hash(text), "meta": json.dumps(meta.get(key, {}))}
            for key, text in texts.items()
        ]
        write_rows(folder / part, rows)
    return folder


def prose(words: int, seed: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(VOCABULARY) + str(draw.randrange(1000)) for _ in range(words))


def cut(text: str, words: int) -> str:
    return " ".join(text.split()[:words])


def edited(text: str, edits: int, seed: int = 0) -> str:
    """The text with words exchanged that stand at least five apart, so that each costs five 5-grams."""
    words = text.split()
    places = random.Random(seed).sample(range(5, len(words) - 5, 6), edits)
    return " ".join(f"novo{seed}x{place}" if place in places else word for place, word in enumerate(words))


def jaccard(one: str, two: str) -> float:
    """The slow reference: sets of tuples."""
    first, second = grams(one), grams(two)
    return len(first & second) / max(1, len(first | second))


@lru_cache(maxsize=500)
def grams(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[place : place + 5]) for place in range(len(words) - 4))


def removed(folder: Path) -> dict[str, tuple[str, str]]:
    return {row["id"]: (row["rule"], row["detail"]) for row in read_rows(folder, "removed")}


def ids(folder: Path, part: str = "training") -> set[str]:
    return {row["id"] for row in read_rows(folder, part, ["id"])}


@pytest.mark.parametrize("level", [0.7, 0.8, 0.9])
def test_recall_and_precision_beside_all_pairs(tmp_path: Path, level: float) -> None:
    """Recall: of each pair at or above .8 one document went. Precision: each that went is that similar to its kept copy."""
    texts: dict[str, str] = {}
    for number in range(60):
        words = 60 + number * 5
        base = prose(words, number)
        grams = words - 4
        edits = max(1, round(grams * (1 - level) / (1 + level) / 5))
        texts[f"a{number:02d}"], texts[f"b{number:02d}"] = base, edited(base, edits, number)
        texts[f"a{number:02d}-short"] = f"{prose(20, number)} curto"
    facts = deduplicate(DeduplicateSettings(), write(tmp_path / "a", texts), tmp_path / "b")
    stayed, gone = ids(tmp_path / "b"), removed(tmp_path / "b")
    true = {(x, y): jaccard(texts[x], texts[y]) for x, y in itertools.combinations(texts, 2)}
    pairs = [pair for pair, value in true.items() if value >= 0.8]
    missed = [pair for pair in pairs if set(pair) <= stayed]
    assert facts["near"]["similar_pairs"] <= len(pairs)
    assert len(missed) <= 0.05 * len(pairs)
    assert len(pairs) >= {0.7: 0, 0.8: 10, 0.9: 55}[level]
    for key, (rule, kept) in gone.items():
        assert rule == "near_duplicate"
        assert kept in stayed
        assert jaccard(texts[key], texts[kept]) >= 0.8


@pytest.mark.parametrize("times", [1, 4])
def test_similarities_are_exact(tmp_path: Path, times: int) -> None:
    """A threshold just above or at the true similarity decides: no estimate does; repeated sequences count once."""
    base = " ".join([prose(94, 1)] * times)  # once: 90 5-grams; two edits leave 80 of 100 common
    other = edited(base, 2)
    true = jaccard(base, other)
    assert true == 0.8 if times == 1 else 0.9 < true < 0.95
    folder = write(tmp_path / "a", {"1": base, "2": other})
    for threshold, left in ((true, 1), (true + 1e-4, 2)):
        facts = deduplicate(DeduplicateSettings(threshold=threshold), folder, tmp_path / str(threshold))
        assert facts["documents_out"] == left


def test_nothing_follows_from_a_chain(tmp_path: Path) -> None:
    """a ~ b ~ c, but a and c are too far apart: b goes for a, and c stays, for its only like is gone."""
    base = prose(200, 1)
    texts = {"a": f"{base} fim", "b": edited(base, 4, 1), "c": edited(edited(base, 4, 1), 3, 2)}
    similar = [jaccard(texts[x], texts[y]) for x, y in ("ab", "bc", "ac")]
    assert similar[0] >= 0.8 and similar[1] >= 0.8 > similar[2]
    deduplicate(DeduplicateSettings(), write(tmp_path / "x", texts), tmp_path / "y")
    assert removed(tmp_path / "y") == {"b": ("near_duplicate", "a")}


def test_a_crowd_larger_than_a_bucket_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty copies of one text go for one; what met them by chance stays and is counted."""
    base = prose(120, 1)
    texts = {f"{number:02d}": edited(base, 1, number) for number in range(50)} | {"longest": f"{base} e mais uma"}
    facts = deduplicate(DeduplicateSettings(), write(tmp_path / "a", texts), tmp_path / "b")
    assert ids(tmp_path / "b") == {"longest"}
    assert (facts["clusters"], facts["largest_cluster"]) == (1, 51)
    assert facts["near"]["compared_pairs"] < 51 * 50 / 2 / 5  # with the best of each bucket, not each with each
    (row,) = read_rows(tmp_path / "b", "training")
    assert json.loads(row["meta"]) == {"copies": 51}
    monkeypatch.setattr(near, "PIVOTS", (1, 1))
    unlike = {f"{number:02d}": edited(base, 3, number) for number in range(30)}
    facts = deduplicate(DeduplicateSettings(), write(tmp_path / "c", unlike), tmp_path / "d")
    assert facts["documents_out"] == 30
    assert facts["near"]["crowded_buckets"] > 0


def test_those_that_stay_are_compared_with_more_of_their_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All documents in one bucket, and the two that are alike the last of it: found in the second round, unless too many
    better ones stand before them, which is counted.
    """
    monkeypatch.setattr(
        keys, "band_keys", lambda grams, bands: np.zeros((len(grams.offsets) - 1, bands.bands), np.uint32)
    )
    alike = {"x": prose(60, 99), "y": edited(prose(60, 99), 1)}
    for unlike, found, crowded in ((5, 1, 0), (12, 0, 12)):
        texts = {f"{number:02d}": prose(100 + number, number) for number in range(unlike)} | alike
        facts = deduplicate(DeduplicateSettings(), write(tmp_path / f"{unlike}", texts), tmp_path / f"{unlike}-out")
        assert facts["documents_in"] - facts["documents_out"] == found
        assert facts["near"]["crowded_buckets"] == crowded
        assert facts["near"]["rounds"] > 1


def test_short_documents_go_by_equality_alone(tmp_path: Path) -> None:
    base = prose(49, 1)
    texts = {
        "1": base,
        "2": f"{base.upper()} ",
        "3": f"{base} x",
        "4": base.replace(" ", ", ", 1),
        "5": "",
        "6": " ",
        "7": "…",
    }
    deduplicate(DeduplicateSettings(), write(tmp_path / "a", texts), tmp_path / "b")
    assert removed(tmp_path / "b") == {"2": ("duplicate", "1")}


def test_held_out_text_comes_first(tmp_path: Path) -> None:
    """What was kept away from training is not there under another wording, were it the longest."""
    base = prose(100, 1)
    training = {
        "t1": f"{edited(base, 1)} mais longo",
        "t2": prose(100, 2),
        "t3": base.upper(),
        "t4": edited(prose(100, 2), 1),
    }
    folder = write(tmp_path / "a", training, {"h1": base, "h2": edited(base, 1, 5)})
    facts = deduplicate(DeduplicateSettings(), folder, tmp_path / "b")
    assert ids(tmp_path / "b", "held_out") == {"h1"}
    assert removed(tmp_path / "b") == {
        "h2": ("near_duplicate", "h1"),
        "t1": ("near_held_out", "h1"),
        "t3": ("also_held_out", "h1"),
        "t4": ("near_duplicate", "t2"),
    }
    assert facts["removed_by_rule"] == {"near_duplicate": 2, "near_held_out": 1, "also_held_out": 1}


@pytest.mark.parametrize(("keep", "stays"), [("longest", "c"), ("newest", "b"), ("first", "d")])
def test_who_stays(tmp_path: Path, keep: Any, stays: str) -> None:
    base = prose(100, 1)
    texts = {"d": base, "a": base.lower(), "b": edited(base, 1), "c": f"{edited(base, 1, 3)} e fim"}
    dates = {"b": {"date": "2020-05-07"}, "a": {"date": "2020-05"}, "c": {"date": "1988"}}
    settings = DeduplicateSettings(keep=keep, threshold=0.7)
    deduplicate(settings, write(tmp_path / "x", texts, **dates), tmp_path / "y")
    (row,) = read_rows(tmp_path / "y", "training")
    assert row["id"] == stays
    assert json.loads(row["meta"])["copies"] == 4
    assert {kept for _, kept in removed(tmp_path / "y").values()} == {stays}


def test_order_and_shards_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: dict[str, str] = {}
    for number in range(40):
        texts[f"{number * 7 % 40:02d}x"] = prose(80, number)
        texts[f"{number * 7 % 40:02d}y"] = edited(prose(80, number), 1, number)
    found = []
    for name, order in (("a", sorted(texts)), ("b", sorted(texts, reverse=True))):
        folder = write(tmp_path / name, {key: texts[key] for key in order})
        deduplicate(DeduplicateSettings(), folder, tmp_path / f"{name}-out")
        found.append((ids(tmp_path / f"{name}-out"), removed(tmp_path / f"{name}-out")))
        monkeypatch.setattr(documents, "PART_BYTES", 5000)
        monkeypatch.setattr(documents, "BATCH_ROWS", 7)
        monkeypatch.setattr(near, "PIVOTS", (1, 2))
    assert len(documents.part_files(tmp_path / "b", "training")) > 3
    assert found[0] == found[1]
    assert len(found[0][0]) == 40


def test_a_long_paragraph_stays_in_one_document(tmp_path: Path) -> None:
    shared, short = prose(60, 1), prose(49, 2)
    texts = {
        "1": f"{prose(80, 3)}\n\n{shared}\n\n{short}",
        "2": f"{prose(90, 4)}\n\n{shared.upper()}\n\n{short}\n\n{prose(55, 7)}",
        "3": f"{shared}\n\n{shared}",
        "4": f"{prose(300, 5)}\n{shared}",
    }
    facts = deduplicate(DeduplicateSettings(), write(tmp_path / "a", texts), tmp_path / "b")
    after = {row["id"]: row["text"] for row in read_rows(tmp_path / "b", "training")}
    assert after == {
        "1": f"{prose(80, 3)}\n\n{short}",
        "2": f"{prose(90, 4)}\n\n{short}\n\n{prose(55, 7)}",
        "4": texts["4"],
    }
    assert removed(tmp_path / "b") == dict.fromkeys(("1", "2", "3"), ("repeated_paragraph", "4"))
    assert (facts["changed_by_rule"], facts["removed_by_rule"]) == (
        {"repeated_paragraph": 2},
        {"repeated_paragraph": 1},
    )
    left = deduplicate(DeduplicateSettings(paragraphs=False), tmp_path / "a", tmp_path / "c")
    assert (left["documents_out"], left["changed_by_rule"]) == (4, {})


def test_a_paragraph_stays_though_a_better_document_with_it_goes(tmp_path: Path) -> None:
    """The nearly equal one that went held it, too, but keeps nothing."""
    base, shared = prose(415, 1), prose(50, 2)
    texts = {"best": base, "gone": f"{cut(base, 362)}\n{shared}", "last": f"{prose(90, 3)}\n{shared}"}
    assert jaccard(texts["best"], texts["gone"]) > 0.75
    deduplicate(DeduplicateSettings(threshold=0.75), write(tmp_path / "a", texts), tmp_path / "b")
    after = {row["id"]: row["text"] for row in read_rows(tmp_path / "b", "training")}
    assert after == {"best": base, "last": texts["last"]}


def test_a_held_out_paragraph_goes_from_training(tmp_path: Path) -> None:
    shared = prose(60, 1)
    folder = write(tmp_path / "a", {"t": f"{shared}\n{prose(400, 2)}"}, {"h": f"{shared}\n{prose(90, 3)}"})
    deduplicate(DeduplicateSettings(), folder, tmp_path / "b")
    assert [row["text"] for row in read_rows(tmp_path / "b", "training")] == [prose(400, 2)]
    assert removed(tmp_path / "b") == {"t": ("repeated_paragraph", "h")}


def test_an_interrupted_stage_does_not_search_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = prose(100, 1)
    folder = write(tmp_path / "a", {"1": f"{base} x", "2": base})

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "apply", stopped)
        with pytest.raises(KeyboardInterrupt):
            deduplicate(DeduplicateSettings(), folder, tmp_path / "b")
    assert (tmp_path / "b" / FOUND).exists()
    monkeypatch.setattr(stage, "read_keys", stopped)
    facts = deduplicate(DeduplicateSettings(), folder, tmp_path / "b")
    assert (facts["documents_out"], facts["near"]["similar_pairs"]) == (1, 1)


@pytest.mark.parametrize(("threshold", "bands", "rows"), [(0.8, 12, 5), (0.5, 17, 2), (1.0, 1, 64)])
def test_bands_follow_from_the_threshold(threshold: float, bands: int, rows: int) -> None:
    chosen = banding(threshold)
    assert (chosen.bands, chosen.rows) == (bands, rows)
    assert chosen.hashes <= MOST_HASHES
    assert chosen.recall(threshold) >= RECALL
    for other in range(rows + 1, MOST_HASHES + 1):  # one more row, and the recall or the length is missed
        assert Banding(MOST_HASHES // other, other).recall(threshold) < RECALL


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.9])
def test_documents_meet_as_often_as_the_formula_says(similarity: float) -> None:
    """2,000 pairs of random sets: the share that meets lies within four standard errors of 1 − (1 − s^r)^b."""
    pairs, union = 2000, 90
    common = round(similarity * union)
    hashes = mix(np.arange(pairs * union, dtype=np.uint64)).reshape(pairs, union)
    half = (union - common) // 2
    sets = [np.delete(hashes, slice(0, half), axis=1), np.delete(hashes, slice(half, union - common), axis=1)]
    chosen = banding(0.8)
    one, two = (band_keys(Grams(part.ravel(), np.arange(0, part.size + 1, part.shape[1])), chosen) for part in sets)
    true = common / union
    expected, met = chosen.recall(true), (one == two).any(axis=1).mean()
    assert abs(met - expected) < 4 * np.sqrt(expected * (1 - expected) / pairs) + 1e-3

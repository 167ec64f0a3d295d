"""Whether copies and evaluation items are found, beside slow independent references, on the town and on real text.

    python benchmarks/corpus_truth.py [--data FOLDER] [--documents 1500]

FOLDER holds `machado/` (.txt), `enem/` (.json, .jsonl) and `constituicao/` (.html); without it the town alone is asked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import near
from treino.corpus.decontaminate.decontaminate import CONTAMINATED, decontaminate
from treino.corpus.decontaminate.items import Item, read_items
from treino.corpus.deduplicate.deduplicate import deduplicate
from treino.corpus.documents import content_hash, read_rows, write_rows
from treino.corpus.world.documents import documents as town_documents
from treino.recipe import DecontaminateSettings, DeduplicateSettings, WorldSettings

LEVELS = (0.7, 0.8, 0.9)
THRESHOLD, SHORT = 0.8, 50
Gram = tuple[str, ...]


def grams(text: str) -> set[Gram]:
    """The word 5-grams, as tuples."""
    words = re.findall(r"[^\W_]+", text.casefold())
    return {tuple(words[place : place + 5]) for place in range(len(words) - 4)}


def all_pairs(texts: dict[str, str], least: float) -> dict[tuple[str, str], float]:
    """True similarity of every pair at or above `least`: all pairs that share a 5-gram are counted, in Python sets."""
    sets = {key: grams(text) for key, text in texts.items()}
    holders: dict[Gram, list[str]] = defaultdict(list)
    for key, found in sets.items():
        for gram in found:
            holders[gram].append(key)
    common = Counter(pair for keys in holders.values() for pair in itertools.combinations(sorted(keys), 2))
    found = {pair: count / (len(sets[pair[0]]) + len(sets[pair[1]]) - count) for pair, count in common.items()}
    return {pair: value for pair, value in found.items() if value >= least}


def planted(bases: list[str], draw: random.Random) -> dict[str, str]:
    """Each base beside a copy of it, edited word by word until its similarity is near one of the levels."""
    texts: dict[str, str] = {}
    for number, base in enumerate(bases):
        level, copy = LEVELS[number % 3] + draw.uniform(-0.02, 0.02), base
        own = grams(base)
        while len(own & grams(copy)) / max(1, len(own | grams(copy))) > level:
            words = copy.split(" ")
            words[draw.randrange(len(words))] = f"{draw.choice(('novo', 'outro', 'certo'))}{draw.randrange(9)}"
            copy = " ".join(words)
        texts |= {f"{number:06d}a": base, f"{number:06d}b": copy}
    return texts


def write(folder: Path, texts: dict[str, str]) -> Path:
    """A documents folder of {id: text}."""
    plain = {"language": "pt", "licence": "", "weight": 1.0, "meta": "{}", "source": "s"}
    rows = (plain | {"id": key, "text": text, "content_hash": content_hash(text)} for key, text in texts.items())
    write_rows(folder / "training", rows)
    write_rows(folder / "held_out", [])
    return folder


def copies(name: str, texts: dict[str, str], folder: Path) -> bool:
    """Recall over pairs at or above the threshold, precision over dropped documents; True where the promise is kept."""
    facts = deduplicate(DeduplicateSettings(paragraphs=False), write(folder / "in", texts), folder / "out")
    stayed = {row["id"] for row in read_rows(folder / "out", "training", ["id"])}
    gone = {row["id"]: row["detail"] for row in read_rows(folder / "out", "removed") if row["rule"] == "near_duplicate"}
    words = {key: len(re.findall(r"[^\W_]+", text)) for key, text in texts.items()}
    pairs = all_pairs(texts, 0.65)
    long = {pair: value for pair, value in pairs.items() if min(words[key] for key in pair) >= SHORT}
    print(
        f"{name}: {len(texts)} documents, {facts['near']['compared_pairs']} pairs compared, {len(gone)} near copies went"
    )
    for low, high in ((0.65, 0.75), (0.75, 0.8), (0.8, 0.85), (0.85, 0.95), (0.95, 1.01)):
        there = [pair for pair, value in long.items() if low <= value < high]
        found = [pair for pair in there if not set(pair) <= stayed]
        if there:
            print(f"  similarity {low:.2f} to {min(1, high):.2f}: {len(found)} of {len(there)} pairs lost a document")
    true = [pair for pair, value in long.items() if value >= THRESHOLD]
    recall = sum(not set(pair) <= stayed for pair in true) / max(1, len(true))
    right = [
        key for key, kept in gone.items() if kept in stayed and pairs.get(tuple(sorted((key, kept))), 0) >= THRESHOLD
    ]
    precision = len(right) / max(1, len(gone))
    short = [pair for pair, value in pairs.items() if value >= THRESHOLD and pair not in long]
    promised = recall >= 0.95 and precision >= 0.99
    print(f"  recall {recall:.4f} of {len(true)} pairs, precision {precision:.4f} of {len(gone)} dropped documents")
    print(f"  shorter than {SHORT} words, by equality alone: {len(short)} pairs at or above {THRESHOLD}")
    return promised


def town(count: int) -> dict[str, str]:
    """The town's documents with its own planted copies, and pairs of them joined, so that long ones are there as well."""
    settings = WorldSettings(documents=count, near_duplicates=0.1, duplicates=0, noise=0)
    texts = [document.text for document in town_documents(settings, 1)]
    longer = [" ".join(texts[start : start + 4]) for start in range(0, len(texts) - 4, 8)]
    return {f"w{number:06d}": text for number, text in enumerate(texts)} | planted(longer, random.Random(1))


def exam(data: Path, folder: Path) -> bool:
    """Every item of the exam put into the middle of a document of its own; which are found, and what else is."""
    pool = near.sentences(data / "machado")
    draw = random.Random(1)
    files = sorted((data / "enem").glob("*.json*"))
    items = [item for path in files for item in read_items(path, str(path))]
    texts = {f"clean{number:05d}": " ".join(draw.sample(pool, 20)) for number in range(2000)}
    for number, item in enumerate(items):
        before, after = (" ".join(draw.sample(pool, 5)) for _ in range(2))
        texts[f"item{number:05d}"] = f"{before} {_asked(item)} {after}"
    settings = DecontaminateSettings(own=False, against=tuple(str(path) for path in files))
    facts = decontaminate(settings, write(folder / "in", texts), folder / "out")
    told = json.loads((folder / "out" / CONTAMINATED).read_text())
    found = {(name, item) for name, row in told.items() for item in row["contaminated"]}
    missed = [item for item in items if (item.set, item.id) not in found]
    stayed = {row["id"] for row in read_rows(folder / "out", "training", ["id"])}
    wrong = sum(1 for key in texts if key.startswith("clean") and key not in stayed)
    left = sum(1 for key in texts if key.startswith("item") and key in stayed)
    print(f"exam: {len(items) - len(missed)} of {len(items)} items found, and {left} documents with one stay")
    print(f"  of 2000 clean documents {wrong} went; they share 13 words with an item, which may quote the same book")
    for item in missed[:5]:
        print(f"  missed: {item.id}: {_asked(item)[:120]!r}")
    return not missed and not left and facts["contaminated_documents"] == len(items) + wrong


def _asked(item: Item) -> str:
    return f"{item.prompt} {item.answer}"


def constitution(data: Path, folder: Path) -> bool:
    """Six versions of one text: each is recognised as nearly the same as the one before it, two at a time and all at once."""
    from trafilatura import extract

    texts = {path.stem: extract(path.read_bytes()) or "" for path in sorted((data / "constituicao").glob("*.html"))}
    true = all_pairs(texts, 0)
    recognised = 0
    for one, two in itertools.pairwise(texts):
        facts = deduplicate(
            DeduplicateSettings(),
            write(folder / one / "in", {key: texts[key] for key in (one, two)}),
            folder / one / "out",
        )
        recognised += facts["removed_by_rule"] == {"near_duplicate": 1}
        print(f"constitution: {one} and {two}: similarity {true[one, two]:.3f}, {facts['removed_by_rule']}")
    deduplicate(DeduplicateSettings(), write(folder / "in", texts), folder / "out")
    for row in read_rows(folder / "out", "removed"):
        print(f"  all six: {row['id']} goes for {row['detail']} ({row['rule']})")
    return recognised == len(texts) - 1


def _parts(options: argparse.Namespace, folder: Path) -> Iterator[bool]:
    yield copies("town", town(options.documents), folder / "town")
    if not options.data or not options.data.is_dir():
        print("no --data folder: what needs real text is left out")
        return
    texts = near.documents(near.sentences(options.data / "machado"), 1e9, words=120)
    bases = list(itertools.islice(texts, options.documents))
    yield copies("machado", planted(bases, random.Random(2)), folder / "machado")
    yield exam(options.data, folder / "exam")
    yield constitution(options.data, folder / "constitution")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--documents", type=int, default=1500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="truth-") as temporary:
        sys.exit(0 if all(list(_parts(arguments, Path(temporary)))) else 1)

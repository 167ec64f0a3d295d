"""Truth of the filters: what is planted in the town, and what of real text is lost or flagged.

    python benchmarks/corpus.py filter-truth --data FOLDER [--documents 20000]

FOLDER holds `machado/`, `bosque/text.txt`, `tinyshakespeare/input.txt`, `told-br/ToLD-BR.csv` and `badwords/`; what is not
there is skipped, and said.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from treino.corpus.clean import clean_text
from treino.corpus.documents import DOCUMENTS, content_hash
from treino.corpus.filters.filter import train_model
from treino.corpus.filters.language import Language
from treino.corpus.filters.linear import load_model
from treino.corpus.filters.personal_data import PersonalData, find
from treino.corpus.filters.quality import Quality
from treino.corpus.filters.toxicity import Toxicity
from treino.corpus.filters.toxicity import find as find_toxic
from treino.corpus.shards import Step
from treino.corpus.world.documents import documents
from treino.recipe import CleanSettings, WorldSettings

SENTENCES = 10
"""Sentences of news that make a document."""


def rows_of(texts: Sequence[str], kind: str = "book") -> pa.RecordBatch:
    """Documents with these texts."""
    rows = [
        {
            "id": f"{number:08d}",
            "text": text,
            "source": str(number),
            "content_hash": content_hash(text),
            "language": "pt",
            "licence": "",
            "weight": 1.0,
            "meta": json.dumps({"kind": kind}),
        }
        for number, text in enumerate(texts)
    ]
    return pa.RecordBatch.from_pylist(rows, DOCUMENTS)


def scores(found: Iterable[bool], true: Iterable[bool]) -> str:
    """Precision and recall as a sentence."""
    pairs = Counter(zip(found, true, strict=True))
    hit, wrong, missed = pairs[True, True], pairs[True, False], pairs[False, True]
    return (
        f"precision {hit / max(1, hit + wrong):.4f}, recall {hit / max(1, hit + missed):.4f} ({hit + missed} planted)"
    )


def town(count: int) -> None:
    """What was planted in the town's documents."""
    settings = WorldSettings(documents=count, toxic=0.1, personal_data=0.2)
    told = list(documents(settings, 2))
    toxic = [find_toxic(document.text, "pt").share > 0 for document in told]
    print(f"town, rude lines: {scores(toxic, [item.meta['planted'] == 'toxic' for item in told])}")
    found = {(item.index, item.text[one.start : one.end], one.kind) for item in told for one in find(item.text)}
    planted = [item for item in told if item.meta["planted"] == "personal_data"]
    true = {(item.index, item.meta["value"], item.meta["personal"]) for item in planted}
    everything = sorted(found | true)
    print(f"town, personal data: {scores([x in found for x in everything], [x in true for x in everything])}")


def survive(name: str, texts: Sequence[str], steps: Sequence[Step], kind: str = "book") -> None:
    """How many documents and characters come through, and why the others do not."""
    rows = rows_of(texts, kind)
    why: list[str] = []
    for step in steps:
        outcome = step(rows)
        rows = outcome.rows
        why += [f"{step.name} {row['rule']} [{row['detail'][:60]}] {row['source']}" for row in outcome.record]
    left = sum(map(len, rows["text"].to_pylist())) / sum(map(len, texts))
    print(f"{name}: {rows.num_rows / len(texts):.2%} of {len(texts)} documents stay, {left:.2%} of the characters")
    for line in why[:12]:
        print(f"    {line}")


def languages(portuguese: Sequence[str], english: Sequence[str]) -> None:
    """Portuguese told from English, and a Portuguese chapter in an English book."""
    texts = [*portuguese, *english]
    kept = set(Language(("pt",))(rows_of(texts)).rows["id"].to_pylist())
    found = [f"{number:08d}" in kept for number in range(len(texts))]
    print(f"language: {scores(found, [number < len(portuguese) for number in range(len(texts))])}")
    chapter = "\n".join(portuguese[:40])
    book = "\n".join([*english[:60], chapter, *english[60:120]])
    left = Language(("pt",))(rows_of([book])).rows["text"].to_pylist()
    text = left[0] if left else ""
    lines = set(chapter.split("\n"))
    stayed = [line for line in text.split("\n") if line]
    held = sum(len(line) for line in stayed if line in lines)
    print(
        f"mixed book: {held / len(chapter):.1%} of the Portuguese chapter stays, "
        f"{(sum(map(len, stayed)) - held) / len(book):.1%} of the book stays and should not"
    )


def toxicity(sentences: Sequence[str], groups: Sequence[str], data: Path) -> None:
    """How many news sentences, and documents of them, are flagged: by word lists, by terms, by a model."""
    for path in sorted((data / "badwords").glob("*pt*.txt")):
        words = [line.strip().lower() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        whole = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(words, key=len, reverse=True)))})(?!\w)")
        inside = re.compile("|".join(map(re.escape, words)))
        _flagged(
            f"word list {path.stem}, whole words",
            sentences,
            groups,
            lambda text, by=whole: bool(by.search(text.lower())),
        )
        _flagged(
            f"word list {path.stem}, anywhere", sentences, groups, lambda text, by=inside: bool(by.search(text.lower()))
        )
    _flagged("terms", sentences, groups, lambda text: find_toxic(text, "pt").share > 0)
    table = data / "told-br/ToLD-BR.csv"
    if not table.is_file():
        print(f"skipped: there is no {table}")
        return
    rows = _tweets(table)
    found = [find_toxic(text, "pt").share > 0 for text, _ in rows]
    print(f"terms on {len(rows)} tweets: {scores(found, [toxic for _, toxic in rows])}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *((text, int(toxic)) for text, toxic in rows)])
        reached = train_model(path, Path(folder) / "model.json")
        model = load_model(Path(folder) / "model.json")
    print(f"model on tweets that it had not seen: {reached}")
    _flagged("model", sentences, groups, lambda text: find_toxic(text, "pt", model).share > 0)


def _tweets(table: Path) -> list[tuple[str, bool]]:
    """Tweets that two or more of three people found toxic in one way, and those that none did."""
    with table.open(encoding="utf-8", newline="") as file:
        votes = [(row.pop("text"), max(float(value) for value in row.values())) for row in csv.DictReader(file)]
    return [(text, most >= 2) for text, most in votes if most != 1]


def _flagged(name: str, sentences: Sequence[str], groups: Sequence[str], flags: object) -> None:
    assert callable(flags)
    shares = [sum(map(flags, texts)) / len(texts) for texts in (sentences, groups)]
    print(f"flagged by {name}: {shares[0]:.3%} of sentences, {shares[1]:.3%} of documents of {SENTENCES}")


def main(arguments: list[str]) -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=20_000)
    options = parser.parse_args(arguments)
    town(options.documents)
    bosque, machado = options.data / "bosque/text.txt", options.data / "machado"
    if not (bosque.is_file() and machado.is_dir()):
        sys.exit(f"skipped: {bosque} or {machado} is not there")
    sentences = [line for line in bosque.read_text(encoding="utf-8").split("\n") if line]
    groups = [" ".join(sentences[start : start + SENTENCES]) for start in range(0, len(sentences), SENTENCES)]
    steps = [Language(("pt",)), Quality("all"), PersonalData("mask"), Toxicity("drop")]
    survive("bosque, as pages", groups, steps, "web")
    paths = sorted(machado.rglob("*.txt"))
    books = [clean_text(path.read_text(encoding="utf-8"), CleanSettings())[0] for path in paths]
    survive("machado, quality of all", books, steps)
    english = options.data / "tinyshakespeare/input.txt"
    if english.is_file():
        speeches = english.read_text(encoding="utf-8").split("\n\n")
        foreign = ["\n".join(speeches[start : start + 6]) for start in range(0, len(speeches), 6)]
        languages(groups, foreign)
    toxicity(sentences, groups, options.data)


if __name__ == "__main__":
    main(sys.argv[1:])

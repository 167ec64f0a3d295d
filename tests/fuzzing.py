"""Damaged files of every kind among whole ones: what reading them gives, for a test and for the long proof.

The promise: no crash, no hang; every damaged file gives documents or is told of by a rule that has a name; of the whole
files beside it not a document is lost; and a changed byte in a table, a dump or an archive of pages costs a few rows of it.
"""

from __future__ import annotations

import gzip
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import kinds
from treino.corpus.rules import RULES
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import read_source
from treino.recipe import SourceSettings, WorldSettings

ROWS = 12
FORGIVING = (".jsonl", ".csv", ".xml", ".warc", ".txt", ".html")
"""Kinds in which one changed byte costs few rows, if they are not compressed."""

MOST_LOST = 3

Mutation = Callable[[bytes, random.Random], bytes]


def truncated(data: bytes, chance: random.Random) -> bytes:
    """Broken off anywhere."""
    return data[: chance.randrange(len(data))]


def one_bit(data: bytes, chance: random.Random) -> bytes:
    """One bit another."""
    return _flipped(data, chance, 1)


def many_bits(data: bytes, chance: random.Random) -> bytes:
    """Up to a hundred bits others."""
    return _flipped(data, chance, chance.randint(2, 100))


def _flipped(data: bytes, chance: random.Random, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def zeros(data: bytes, chance: random.Random) -> bytes:
    """Zeros put in somewhere: one, or a block of a disk that was never written."""
    place = chance.randrange(len(data))
    return data[:place] + bytes(chance.choice((1, 7, 512, 4096))) + data[place + chance.choice((0, 1, 512)) :]


def no_unicode(data: bytes, chance: random.Random) -> bytes:
    """Bytes put in that are no UTF-8: lone continuation bytes, surrogates, overlong forms."""
    place = chance.randrange(len(data))
    return (
        data[:place]
        + chance.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5\x80\x80\x80"))
        + data[place:]
    )


def cut_out(data: bytes, chance: random.Random) -> bytes:
    """A piece missing."""
    first = chance.randrange(len(data))
    return data[:first] + data[first + chance.randint(1, 2000) :]


def doubled(data: bytes, chance: random.Random) -> bytes:
    """A piece there twice."""
    first = chance.randrange(len(data))
    return data[: first + 500] + data[first:]


def noise(data: bytes, chance: random.Random) -> bytes:
    """The head kept, the rest replaced by chance."""
    kept = chance.randint(0, 64)
    return data[:kept] + chance.randbytes(chance.randint(0, 5000))


def nested(data: bytes, chance: random.Random) -> bytes:
    """Packed up to eight times, in archives or compressed."""
    for _ in range(chance.randint(1, 8)):
        data = kinds.archive({"dentro.zip": data}) if chance.random() < 0.5 else gzip.compress(data)
    return data


MUTATIONS: tuple[Mutation, ...] = (
    truncated, one_bit, many_bits, zeros, no_unicode, cut_out, doubled, noise, nested,
)  # fmt: skip


@dataclass
class Found:
    """What a run found: how many files of each mutation, rules told, seconds, and what breaks the promise."""

    files: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    slowest: float = 0.0
    broken: list[str] = field(default_factory=list)


def texts_of(seed: int) -> list[str]:
    """Texts that do not compress into nothing, with accents, quotes and line breaks."""
    chance = random.Random(seed)
    words = [
        "ação",
        "“mar”",
        "o",
        "não",
        "vila",
        "disse:",
        "é",
        "barco",
        "e",
        "depois,",
        "três",
        "a",
        "navio",
        "longe.",
    ]
    return [
        f"Texto {seed}-{row} começa aqui. " + " ".join(chance.choice(words) for _ in range(60)) + f" fim{row}"
        for row in range(ROWS)
    ]


def damaged_file(number: int, seed: int) -> tuple[str, bytes, list[str], str]:
    """(name, content, its texts, mutation) of the file of a number; half of them have a second mutation or another ending."""
    chance = random.Random(f"{seed} {number}")
    kind, packer = chance.choice(list(kinds.MAKERS)), chance.choice(["", "", "", *kinds.PACKERS])
    texts = texts_of(number)
    data = kinds.PACKERS[packer](kinds.MAKERS[kind](texts))
    mutation = chance.choice(MUTATIONS)
    data = mutation(data, chance)
    told = mutation.__name__
    ending = kind + packer
    if chance.random() < 0.25:
        data, told = chance.choice(MUTATIONS)(data or b"x", chance), f"{told}+"
    if chance.random() < 0.2:
        ending, told = (
            chance.choice([*kinds.MAKERS, ".md", ".htm", ".zip"]) + chance.choice(["", ".gz"]),
            f"{told} renamed",
        )
    return f"d{number:05d}{ending}", data, texts, told


def run(folder: Path, count: int, seed: int, first: int = 0) -> Found:
    """Read folders of fifty damaged files each among whole ones, and check the promise."""
    found = Found()
    whole = {f"bom{number}{kind}": texts_of(-1 - number) for number, kind in enumerate(kinds.MAKERS)}
    for start in range(first, first + count, 50):
        place = folder / str(start)
        place.mkdir()
        for name, texts in whole.items():
            (place / name).write_bytes(kinds.MAKERS[Path(name).suffix](texts))
        files = [damaged_file(number, seed) for number in range(start, min(start + 50, first + count))]
        for name, data, _, _ in files:
            (place / name).write_bytes(data)
        _check(place, files, whole, found)
    return found


def _check(
    place: Path, files: list[tuple[str, bytes, list[str], str]], whole: dict[str, list[str]], found: Found
) -> None:
    problems = Problems(kept=10**6)
    got: dict[str, list[str]] = {}
    source = SourceSettings(path=place.name)
    last = time.monotonic()
    for document in read_source(source, WorldSettings(), place.parent, 1, problems):
        name = document.name.split("/")[0]
        got.setdefault(name, []).append(" ".join(document.text.split()))
        found.documents += 1
        found.slowest, last = max(found.slowest, time.monotonic() - last), time.monotonic()
    told = Counter(row["detail"].split("/")[0].split(":")[0].split("#")[0] for row in problems.rows)
    found.rules.update(problems.counts)
    found.broken += [f"rule without a name: {rule}" for rule in problems.counts if rule not in RULES]
    for name, texts in whole.items():
        if missing := _missing(texts, got.get(name, [])):
            found.broken.append(f"{place.name}/{name}: {missing} texts of a whole file lost")
    for name, _, texts, mutation in files:
        found.files += 1
        if not got.get(name) and not told[name]:
            found.broken.append(f"{place.name}/{name} ({mutation}): neither documents nor a reason")
        mild = mutation in ("one_bit", "no_unicode") and Path(name).suffix in FORGIVING
        if mild and (missing := _missing(texts, got.get(name, []))) > MOST_LOST:
            found.broken.append(f"{place.name}/{name} ({mutation}): {missing} of {ROWS} texts lost")


def _missing(texts: list[str], documents: list[str]) -> int:
    joined = "\n".join(documents)
    return sum(" ".join(text.split()) not in joined for text in texts)

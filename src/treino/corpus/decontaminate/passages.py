"""Where passages of evaluation items stand in texts, found by hashes of word n-grams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from treino.corpus.decontaminate.items import Item
from treino.corpus.words import Words, batches, grams_of, range_hashes, words_of

LONG, HALVED, SHORTEST = 13, 8, 5
"""Words of a passage: from `LONG` on one common 13-gram is enough; from `HALVED` on half of its 8-grams; from `SHORTEST` on it
must stand there in full; shorter ones are the whole of a line, or nothing (as GPT-3's and Llama's reports count, with the
8-grams for what is too short for them)."""
BOTH, PROMPT, ANSWER, TEXT = "prompt and answer", "prompt", "answer", "text"
SKETCH = 64
"""13-grams by which a held-out document is known: those of the smallest hashes, a sample that is the same in every text."""
BATCH_BYTES = 500_000


@dataclass(frozen=True)
class Hit:
    """A passage that stands in a text: the place of the text, the passage, and where its words are (the first of each
    common n-gram, and the words of an n-gram).
    """

    text: int
    passage: int
    places: tuple[int, ...]
    length: int


@dataclass(frozen=True)
class _Table:
    """The n-grams of one length (0: whole lines), sorted, each with a passage that has it."""

    length: int
    hashes: np.ndarray
    owners: np.ndarray
    maybe: np.ndarray
    """Whether some hash begins with these bits: turns away nearly all n-grams of a text at once."""

    @property
    def shift(self) -> np.uint64:
        return np.uint64(64 - (len(self.maybe).bit_length() - 1))

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(places in `hashes`, passages), a pair for each passage that has the n-gram of a place."""
        places = np.flatnonzero(self.maybe[(hashes >> self.shift).astype(np.int64)])
        first = np.searchsorted(self.hashes, hashes[places], side="left")
        counts = np.searchsorted(self.hashes, hashes[places], side="right") - first
        found = np.repeat(first - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
        return np.repeat(places, counts), self.owners[found]


class Passages:
    """All passages of some items: `owners[i]` is the item that passage i belongs to, `parts[i]` which part of it it is."""

    def __init__(self, items: Sequence[Item], held_out: Iterable[Sequence[str]] = ()) -> None:
        """`held_out`: texts of held-out documents, batch by batch; they are the items after the others."""
        self.owners: list[int] = []
        self.parts: list[str] = []
        self._needed: list[int] = []
        self._grams: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        texts: list[str] = []
        whole: list[bool] = []
        for number, item in enumerate(items):
            for part, text in _passages(item):
                self.owners.append(number)
                self.parts.append(part)
                texts.append(text)
                whole.append(item.whole)
        for first, last in batches([len(text) for text in texts], BATCH_BYTES):
            self._add(texts[first:last], np.array(whole[first:last]))
        number = len(items)
        for batch in held_out:
            self.owners += range(number, number + len(batch))
            self.parts += [TEXT] * len(batch)
            number += len(batch)
            self._sketch(batch)
        self.needed = np.array(self._needed, np.int64)
        self._tables = [_table(length, *zip(*self._grams.pop(length), strict=True)) for length in sorted(self._grams)]

    def find(self, texts: Sequence[str]) -> list[Hit]:
        """The passages that stand in the texts, in order of the texts and passages."""
        words = words_of(texts)
        hits = [hit for table in self._tables for hit in self._hits(table, words)]
        return sorted(hits, key=lambda hit: (hit.text, hit.passage))

    def _hits(self, table: _Table, words: Words) -> Iterable[Hit]:
        starts, hashes, texts = _grams(words, table.length)
        places, passages = table.find(hashes)
        keys = texts[places] * len(self.owners) + passages
        order = np.lexsort((hashes[places], keys))
        bounds = np.flatnonzero(np.diff(keys[order], prepend=-1))
        for same in np.split(order, bounds[1:]) if len(order) else ():
            passage = int(passages[same[0]])
            if len(np.unique(hashes[places[same]])) >= self.needed[passage]:
                where = tuple(sorted(starts[places[same]].tolist()))
                yield Hit(int(texts[places[same[0]]]), passage, where, table.length)

    def _add(self, texts: Sequence[str], whole: np.ndarray) -> None:
        """Take passages of items, each under the length of n-gram that its own length asks for."""
        words, first = words_of(texts), len(self._needed)
        lengths = _lengths(words.counts, whole)
        needed = np.ones(len(texts), np.int64)
        for length in np.unique(lengths[words.counts > 0]).tolist():
            _, hashes, owners = _grams(words, length)
            chosen = lengths[owners] == length
            hashes, owners = hashes[chosen], owners[chosen]
            self._grams.setdefault(length, []).append((hashes, (owners + first).astype(np.int32)))
            distinct = np.bincount(np.unique(np.stack([owners.astype(np.uint64), hashes]), axis=1)[0].astype(np.int64))
            here = np.unique(owners)
            needed[here] = np.where(whole[here], distinct[here], (distinct[here] + 1) // 2 if length == HALVED else 1)
        self._needed += needed.tolist()

    def _sketch(self, texts: Sequence[str]) -> None:
        """Take held-out documents, of which half must stand in a text to count; shorter ones than `LONG` have no sketch."""
        _, hashes, owners = _grams(words_of(texts), LONG)
        order = np.lexsort((hashes, owners))
        hashes, owners = hashes[order], owners[order]
        new = np.concatenate([[True], (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])])[: len(hashes)]
        hashes, owners = hashes[new], owners[new]
        least = np.arange(len(owners)) - np.searchsorted(owners, owners) < SKETCH
        counts = np.bincount(owners[least], minlength=len(texts))
        self._grams.setdefault(LONG, []).append((hashes[least], (owners[least] + len(self._needed)).astype(np.int32)))
        self._needed += np.maximum(1, (counts + 1) // 2).tolist()


def _passages(item: Item) -> Iterable[tuple[str, str]]:
    """An item's prompt and answer together, and each alone where it is long enough to be known by itself."""
    if not item.answer.strip():
        yield PROMPT, item.prompt
        return
    sides = ((PROMPT, item.prompt), (ANSWER, item.answer))
    counts = words_of([text for _, text in sides]).counts
    yield from (side for side, count in zip(sides, counts, strict=True) if count >= HALVED)
    if counts.min() < LONG:  # of two long sides one is there wherever both are
        yield BOTH, f"{item.prompt}\n{item.answer}"


def _lengths(counts: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Length of the n-grams by which passages of so many words are known; 0: by their line."""
    halved = np.where(whole, counts, HALVED)
    return np.where(counts >= LONG, LONG, np.where(counts >= HALVED, halved, np.where(counts >= SHORTEST, counts, 0)))


def _grams(words: Words, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(place of the first word in its text, hash, number of the text) of all n-grams, or of short lines (length 0)."""
    if length:
        grams = grams_of(words, length)
        texts = np.repeat(np.arange(len(words.counts)), np.diff(grams.offsets))
        return np.arange(len(grams.hashes)) - grams.offsets[texts], grams.hashes, texts
    starts, ends = words.lines[:-1], words.lines[1:]
    short = ends - starts < SHORTEST
    starts, ends = starts[short], ends[short]
    texts = np.searchsorted(words.offsets, starts, side="right") - 1
    return starts - words.offsets[texts], range_hashes(words.hashes, starts, ends), texts


def _table(length: int, hashes: Sequence[np.ndarray], owners: Sequence[np.ndarray]) -> _Table:
    every = np.concatenate(hashes)
    order = np.argsort(every, kind="stable")
    bits = min(24, max(16, (8 * len(every)).bit_length()))  # 16 MB at most, in each process
    maybe = np.zeros(1 << bits, bool)
    maybe[(every >> np.uint64(64 - bits)).astype(np.int64)] = True
    return _Table(length, every[order], np.concatenate(owners)[order], maybe)

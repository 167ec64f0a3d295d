"""The words and word n-grams of texts as 64-bit hashes: what texts have in common is found by comparing numbers.

Vectorised: a batch of texts becomes one array of UTF-16 units, a table folds each, and one hash of ranges makes words of
units, and n-grams, lines and whole texts of words. A script without spaces between words (Chinese) gives few, long words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_BASE = 0x9E3779B97F4A7C15
_MIXERS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)
_UNFOLDED = 0xFFFF
"""Marks a letter whose folded form is several letters ("ß" is "ss"): no character, so nothing else folds to it."""
_LINE_END = 0x0A
CHUNK = 1 << 16
"""UTF-16 units hashed at a time: their arrays fit into a processor's cache, whatever the length of a text."""
_KEPT = 1 << 18
"""Powers of the base that are kept, 16 bytes each: for the words of a batch of texts."""


@dataclass(frozen=True)
class Words:
    """Hashes of the words of several texts, one after the other.

    Attributes:
        hashes: uint64, a word each.
        offsets: the words of text i are hashes[offsets[i]:offsets[i + 1]].
        lines: the words of line j (over all texts; lines without a word left out) are hashes[lines[j]:lines[j + 1]].
    """

    hashes: np.ndarray
    offsets: np.ndarray
    lines: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Words of each text."""
        return np.diff(self.offsets)

    def texts(self) -> np.ndarray:
        """A hash of each text's words in order: equal for texts that differ in case, white space and punctuation alone."""
        return range_hashes(self.hashes, self.offsets[:-1], self.offsets[1:])

    def long_lines(self, words: int) -> tuple[np.ndarray, np.ndarray]:
        """(hash, number of the text) of every line of at least so many words."""
        starts, ends = self.lines[:-1], self.lines[1:]
        long = ends - starts >= words
        starts, ends = starts[long], ends[long]
        return range_hashes(self.hashes, starts, ends), np.searchsorted(self.offsets, starts, side="right") - 1


@dataclass(frozen=True)
class Grams:
    """Hashes of the word n-grams of several texts, in order; those of text i are hashes[offsets[i]:offsets[i + 1]]."""

    hashes: np.ndarray
    offsets: np.ndarray


def words_of(texts: Sequence[str]) -> Words:
    """The words of each text: runs of letters, digits and marks, in NFC and case folded; accents stay."""
    texts = [unicodedata.normalize("NFC", text) for text in texts]
    folded, units = _fold(texts)
    if _UNFOLDED in folded:
        texts = [text.casefold() for text in texts]
        folded, units = _fold(texts)
    letters = folded != 0
    edges = np.flatnonzero(letters[1:] != letters[:-1]) + 1  # the first unit is a line end, and so is the last
    starts, ends = edges[0::2], edges[1::2]
    hashes = np.concatenate([np.empty(0, np.uint64), *_hash_words(folded, starts, ends)])
    line_ends = np.flatnonzero(units == _LINE_END)
    lines = np.searchsorted(starts, line_ends)
    lines = lines[np.diff(lines, prepend=-1) > 0]
    sizes = np.array([len(text) for text in texts], np.int64)
    if sizes.sum() + len(texts) + 1 != len(units):  # characters beyond 16 bits take two units
        sizes = np.array([len(text.encode("utf-16-le", "surrogatepass")) // 2 for text in texts], np.int64)
    offsets = np.searchsorted(starts, np.concatenate([[0], np.cumsum(sizes + 1)]))
    return Words(hashes, offsets, lines)


def grams_of(words: Words, length: int) -> Grams:
    """All n-grams of so many words of each text; a shorter text has none."""
    ends = np.arange(length, len(words.hashes) + 1)
    inside = ends <= np.repeat(words.offsets[1:], words.counts)[: len(ends)]
    hashes = range_hashes(words.hashes, np.flatnonzero(inside), ends[inside])
    counts = np.maximum(words.counts - length + 1, 0)
    return Grams(hashes, np.concatenate([[0], np.cumsum(counts)]))


def range_hashes(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """mix(Σ values[i] · B^(i − start)) mod 2^64 of each range [start, end); O(1) a range, from sums up to each place."""
    powers, inverses = _powers(len(values))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.multiply(values, powers[: len(values)], out=sums[1:])
    np.cumsum(sums, out=sums)
    hashes = sums[ends]
    hashes -= sums[starts]
    hashes *= inverses[starts]
    # The number of values keeps a range of zeros apart from a shorter one.
    hashes += (ends - starts).astype(np.uint64)
    return mix(hashes)


def mix(hashes: np.ndarray) -> np.ndarray:
    """Spread every bit over all bits, in place: the finaliser of MurmurHash3, a one-to-one map."""
    shift = np.uint64(33)
    for factor in _MIXERS:
        hashes ^= hashes >> shift
        hashes *= np.uint64(factor)
    hashes ^= hashes >> shift
    return hashes


def batches(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of items whose sizes add up to at most `most`; a larger item stands alone."""
    start = total = 0
    for place, size in enumerate(sizes):
        if total and total + size > most:
            yield start, place
            start, total = place, 0
        total += size
    if start < len(sizes):
        yield start, len(sizes)


def _fold(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Folded units of all texts, 0 where no word is, and the units themselves; a line end before, between and after."""
    joined = "\n".join(["", *texts, ""])
    units = np.frombuffer(joined.encode("utf-16-le", "surrogatepass"), "<u2")
    # All indices are in the table: "wrap" spares their check.
    return _table().take(units, mode="wrap"), units


def _hash_words(folded: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[np.ndarray]:
    """Hashes of words, a chunk of units at a time, each chunk from the start of a word to the end of one."""
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + CHUNK, side="right")))
        here = starts[first]
        yield range_hashes(folded[here : ends[last - 1]], starts[first:last] - here, ends[first:last] - here)
        first = last


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    """The folded form of each UTF-16 unit: letters, digits and marks in lower case; 0 for everything else."""
    table = np.zeros(1 << 16, np.uint16)
    for code in range(1 << 16):
        character = chr(code)
        if character.isalnum() or unicodedata.category(character).startswith("M"):
            folded = character.casefold()
            table[code] = ord(folded) if len(folded) == 1 else _UNFOLDED
    return table


def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """B^i and B^-i mod 2^64 for i < length at least."""
    return _kept_powers() if length <= _KEPT else _all_powers(length)


@lru_cache(maxsize=1)
def _kept_powers() -> tuple[np.ndarray, np.ndarray]:
    return _all_powers(_KEPT)


def _all_powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    powers, inverses = (np.full(length, base, np.uint64) for base in (_BASE, pow(_BASE, -1, 1 << 64)))
    for factors in (powers, inverses):
        factors[0] = 1
        np.multiply.accumulate(factors, out=factors)
    return powers, inverses

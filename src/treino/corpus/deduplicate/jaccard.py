"""True Jaccard similarity of pairs of documents, from their n-grams on disk: memory stays bounded whatever is compared."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from treino import events
from treino.corpus.deduplicate.collection import Collection, Group, in_batches
from treino.corpus.deduplicate.keys import BATCH_BYTES, LENGTH
from treino.corpus.threads import in_order
from treino.corpus.words import batches, grams_of, words_of
from treino.messages import N_

COMPARED_AT_ONCE = 1 << 19
"""n-grams that are sorted together, 8 bytes each."""
_PAIR_BITS = 16


class GramFile:
    """The 5-gram hashes of the documents that are to be compared, in a file, document after document."""

    def __init__(self, path: Path, collection: Collection, numbers: np.ndarray) -> None:
        """Write the n-grams of the documents with those numbers (sorted)."""
        self.path, self.numbers = path, numbers
        counts, done = [], 0
        with open(path, "wb") as file:
            for hashes, sizes in in_order(_grams, collection.only(numbers)):
                hashes.tofile(file)
                counts.append(sizes)
                done += len(sizes)
                events.progress("deduplicate", done, len(numbers), N_("compared documents"))
        self.offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *counts]))])

    def sizes(self, numbers: np.ndarray) -> np.ndarray:
        """n-grams of each document."""
        return np.diff(self.offsets)[np.searchsorted(self.numbers, numbers)]

    def jaccards(self, pairs: np.ndarray) -> np.ndarray:
        """|A ∩ B| / |A ∪ B| of the sets of 5-grams of each pair of numbers [pairs, 2].

        n-grams are told apart by 47 bits of their hashes: two different ones among the 2n of a pair meet by chance with
        probability n²/2⁴⁶ or so, and then change the similarity by 1/n.
        """
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        ordered = pairs[order]
        sizes = self.sizes(ordered[:, 0]) + self.sizes(ordered[:, 1])
        similar = np.empty(len(pairs))
        parts = [ordered[a:b] for a, b in _bounded(sizes)]
        similar[order] = np.concatenate([np.empty(0), *in_order(partial(self._compare), parts)])
        return similar

    def _compare(self, pairs: np.ndarray) -> np.ndarray:
        """The similarities of a few pairs: all n-grams sorted by (pair, hash, side), where equal ones are neighbours."""
        with open(self.path, "rb") as file:
            hashes = [self._read(file, number) for number in pairs.ravel()]
        sides = np.repeat(np.arange(2 * len(pairs), dtype=np.uint64), [len(part) for part in hashes])
        keys = np.concatenate(hashes)
        keys >>= np.uint64(_PAIR_BITS + 1)
        keys <<= np.uint64(1)
        keys |= sides & np.uint64(1)
        keys |= (sides >> np.uint64(1)) << np.uint64(64 - _PAIR_BITS)
        keys.sort()
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
        pair = (keys >> np.uint64(64 - _PAIR_BITS)).astype(np.int64)
        common = np.bincount(pair[1:][(keys[1:] ^ keys[:-1]) == 1], minlength=len(pairs))
        return common / (np.bincount(pair, minlength=len(pairs)) - common)

    def _read(self, file: BinaryIO, number: int) -> np.ndarray:
        place = int(np.searchsorted(self.numbers, number))
        first, last = self.offsets[place : place + 2]
        file.seek(8 * int(first))
        return np.fromfile(file, np.uint64, int(last - first))


def _bounded(sizes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of pairs that are compared at once."""
    for first, last in batches(sizes.tolist(), COMPARED_AT_ONCE):
        for start in range(first, last, 1 << _PAIR_BITS):
            yield start, min(last, start + (1 << _PAIR_BITS))


def _grams(group: Group) -> tuple[np.ndarray, np.ndarray]:
    """The n-grams of a group's documents, and their numbers."""
    found = [grams_of(words_of(texts), LENGTH) for texts in in_batches(group.read(["text"])["text"], BATCH_BYTES)]
    return np.concatenate([part.hashes for part in found]), np.concatenate([np.diff(part.offsets) for part in found])

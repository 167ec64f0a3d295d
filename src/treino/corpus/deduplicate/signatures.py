"""MinHash signatures and the bands that nearly equal documents meet in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from treino.corpus.words import Grams, mix

RECALL = 0.99
"""Chance that two documents exactly at the threshold share a band."""
MOST_HASHES = 64


@dataclass(frozen=True)
class Banding:
    """`bands` groups of `rows` hashes each: two documents are compared where they agree in all rows of a band.

    Two documents of Jaccard similarity s agree in one hash with probability s (Broder 1997), so they share a band with
    probability 1 − (1 − s^rows)^bands.
    """

    bands: int
    rows: int

    def recall(self, similarity: float) -> float:
        """Chance that two documents of that Jaccard similarity share a band."""
        return 1 - (1 - similarity**self.rows) ** self.bands

    @property
    def hashes(self) -> int:
        """Length of a signature."""
        return self.bands * self.rows


def banding(threshold: float) -> Banding:
    """The most rows (so the fewest chance meetings) with which the recall at the threshold is `RECALL` or more and a
    signature has at most `MOST_HASHES` hashes.
    """
    best = Banding(MOST_HASHES, 1)
    for rows in range(1, MOST_HASHES + 1):
        bands = math.ceil(math.log(1 - RECALL) / math.log1p(-(threshold**rows))) if threshold < 1 else 1
        if bands * rows <= MOST_HASHES:
            best = Banding(bands, rows)
    return best


def band_keys(grams: Grams, banding: Banding) -> np.ndarray:
    """uint32 [texts that have an n-gram, bands]: equal keys are what the documents of a bucket share.

    The k-th hash of an n-gram x is its upper half times an odd number aₖ mod 2³²: a one-to-one map, and x is mixed already.
    Keys of 32 bits meet by chance once in 4·10⁹ pairs, which costs a comparison and no more, for every pair is verified.
    """
    counts = np.diff(grams.offsets)
    starts = grams.offsets[:-1][counts > 0]
    values = (grams.hashes >> np.uint64(32)).astype(np.uint32)
    keys = np.empty((len(starts), banding.bands), np.uint32)
    if not len(starts):
        return keys
    factors = _odd_numbers(banding.hashes)
    products, least = np.empty_like(values), np.empty(len(starts), np.uint32)
    for band in range(banding.bands):
        together = np.zeros(len(starts), np.uint64)
        for row in range(band * banding.rows, (band + 1) * banding.rows):
            np.multiply(values, factors[row].astype(np.uint32), out=products)
            np.minimum.reduceat(products, starts, out=least)
            together = mix(together + least)
        keys[:, band] = together >> np.uint64(32)
    return keys


def _odd_numbers(count: int) -> np.ndarray:
    """The same odd uint64 for all time, whatever a library's random numbers become."""
    numbers = mix(np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return numbers | np.uint64(1)

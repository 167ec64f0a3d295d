"""Nearly equal documents: bands give pairs to compare, the true similarity decides, the best of its like stays."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from treino.corpus.deduplicate.collection import Collection
from treino.corpus.deduplicate.jaccard import GramFile
from treino.corpus.deduplicate.keys import Keys

PIVOTS = (1, 8)
"""With how many of the best documents of its bucket a document is compared: in the first round, and in later ones."""
MOST_ROUNDS = 20


@dataclass(frozen=True)
class Near:
    """What the search found.

    Attributes:
        leader: int64 [documents], the number of the document that stays for it: its own where it stays itself.
        pairs: pairs that were compared; similar: those of them at or above the threshold.
        crowded: buckets with more documents than were compared with each other.
        rounds: how often pairs were drawn.
    """

    leader: np.ndarray
    pairs: int
    similar: int
    crowded: int
    rounds: int


def near_copies(
    keys: Keys, collection: Collection, leader: np.ndarray, rank: np.ndarray, threshold: float, folder: Path
) -> Near:
    """Let each document go that is similar to one which stays and is better (has the lower rank).

    `leader`: equal documents already have theirs, and only leaders are looked at. A document goes only for one that it was
    compared with and that stays: nothing follows from a chain of similar pairs.

    Pairs are drawn in rounds, for a crowd of copies is known by its best document alone: first each document is
    compared with the best of each of its buckets; then those that stay with a few more, until there is no new pair.
    """
    meeting = _meeting(keys.bands, np.flatnonzero(leader[keys.long] == keys.long))
    # From here on a document is its place in the order of who stays, the best first.
    meeting = meeting[np.argsort(rank[keys.long[meeting]])]
    numbers, bands = keys.long[meeting], keys.bands[meeting]
    seen, edges = np.empty(0, np.uint64), np.empty((0, 2), np.int64)
    chosen, crowded, rounds = np.arange(len(numbers)), 0, 0
    with tempfile.TemporaryDirectory(prefix="treino-", dir=folder) as temporary:
        grams = GramFile(Path(temporary) / "grams", collection, np.sort(numbers))
        while rounds < MOST_ROUNDS:
            staying = np.flatnonzero(chosen == np.arange(len(numbers)))
            pairs, crowded = _pairs(bands, staying, PIVOTS[min(rounds, 1)])
            pairs = np.setdiff1d(pairs, seen, assume_unique=True)
            if not len(pairs):
                break
            seen, rounds = np.union1d(seen, pairs), rounds + 1
            both = np.stack([pairs >> np.uint64(32), pairs & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)
            edges = np.concatenate([edges, both[grams.jaccards(numbers[both]) >= threshold]])
            chosen = _choose(edges, len(numbers))
    leader = leader.copy()
    leader[numbers] = numbers[chosen]
    return Near(leader[leader], len(seen), len(edges), crowded, rounds)


def _meeting(bands: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Those of the places whose documents share a band's key with another one."""
    meets = np.zeros(len(places), bool)
    for keys in bands.T:
        there = keys[places]
        order = np.argsort(there)
        same = np.flatnonzero(there[order][1:] == there[order][:-1])
        meets[order[same]] = meets[order[same + 1]] = True
    return places[meets]


def _pairs(bands: np.ndarray, staying: np.ndarray, pivots: int) -> tuple[np.ndarray, int]:
    """Pairs (better << 32 | worse) of documents that share a bucket, with the best `pivots` of it; sorted, each once.

    Also the number of buckets in which some were not compared with each other.
    """
    found, crowded = [np.empty(0, np.uint64)], 0
    for keys in bands[staying].T:
        order = np.argsort(keys, kind="stable")
        ordered, places = keys[order], staying[order].astype(np.uint64)
        begins = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(ordered) else np.empty(0, bool)
        starts = np.flatnonzero(begins)
        start = starts[np.cumsum(begins) - 1] if len(ordered) else starts
        depth = np.arange(len(ordered)) - start
        crowded += int((depth == pivots + 1).sum())
        for pivot in range(pivots):
            below = np.flatnonzero(depth > pivot)
            found.append(places[start[below] + pivot] << np.uint64(32) | places[below])
    return np.unique(np.concatenate(found)), crowded


def _choose(edges: np.ndarray, count: int) -> np.ndarray:
    """For each document the best one that stays and is similar to it, or itself: from the best to the worst."""
    chosen = np.arange(count)
    for better, worse in edges[np.lexsort((edges[:, 0], edges[:, 1]))].tolist():
        if chosen[worse] == worse and chosen[better] == better:
            chosen[worse] = better
    return chosen

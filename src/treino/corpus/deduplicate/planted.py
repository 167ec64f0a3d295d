"""On the embedded world it is known which documents are copies: how many of them were found."""

from __future__ import annotations

from collections import Counter

import numpy as np

from treino.corpus.deduplicate.keys import SHORT, Keys


def planted_facts(keys: Keys, leader: np.ndarray, threshold: float) -> dict[str, int]:
    """Planted copies and how many of them were found; nothing where none was planted.

    An exact or a near copy is found where it or its original went for the other, or both for one document. Near copies
    count where they are long enough to be compared and their true similarity, which the world records, reaches the threshold.
    """
    places = {record["index"]: number for number, record in keys.planted if "index" in record}
    counts: Counter[str] = Counter()
    for number, record in keys.planted:
        kind, original = record["planted"], places.get(record["of"])
        if original is None or original == number:
            continue
        found = leader[number] == leader[original]
        if kind == "duplicate":
            counts["planted_duplicates"] += 1
            counts["planted_duplicates_found"] += bool(found)
        elif kind == "near_duplicate":
            shorter = min(keys.words[number], keys.words[original])
            near = shorter >= SHORT and record["jaccard"] >= threshold
            counts["planted_near_duplicates" if near else "planted_less_similar"] += 1
            counts["planted_near_duplicates_found"] += bool(near and found)
    return dict(counts)

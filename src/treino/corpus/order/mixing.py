"""How often an epoch reads a document: the weight of its source, and how many copies of it were found."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

COPIES = "copies"
"""Key in a document's `meta` under which deduplication leaves how many documents its cluster had."""


def copies(meta: str) -> int:
    """Documents that a document stands for, itself counted: 1 unless deduplication found more."""
    if COPIES not in meta:  # most have none, and reading JSON takes longer than looking
        return 1
    return max(1, int(json.loads(meta).get(COPIES, 1)))


def repeats(rows: pa.RecordBatch, upsampling: float, most: float) -> np.ndarray:
    """w · min(n^a, m) for each document: w the weight of its source, n its copies, a `upsampling`, m `most`.

    More than about four readings of the same text teach little (Muennighoff et al. 2023, *Scaling Data-Constrained Language
    Models*), hence the bound.
    """
    weights = rows["weight"].to_numpy()
    if not upsampling:
        return weights
    counts = np.array([copies(meta) for meta in rows["meta"].to_pylist()], np.float64)
    return weights * np.minimum(counts**upsampling, most)

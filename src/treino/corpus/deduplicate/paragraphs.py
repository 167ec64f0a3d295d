"""Long paragraphs that stand in several documents: they stay in one of them."""

from __future__ import annotations

import numpy as np

from treino.corpus.deduplicate.keys import Keys
from treino.corpus.words import words_of


def repeated_paragraphs(keys: Keys, stays: np.ndarray, rank: np.ndarray) -> dict[int, list[tuple[int, int]]]:
    """{number of a document: [(hash of a paragraph that goes, number of the document that keeps it)]}.

    A paragraph is a line of at least `SHORT` words, told by a hash of its words; of the documents that stay and hold it, the
    one of the lowest rank keeps it. Inside a document it may repeat.
    """
    there = stays[keys.owners]
    hashes, owners = keys.paragraphs[there], keys.owners[there]
    order = np.lexsort((rank[owners], hashes))
    hashes, owners = hashes[order], owners[order]
    begins = np.concatenate([[True], hashes[1:] != hashes[:-1]]) if len(hashes) else np.empty(0, bool)
    keeper = owners[np.flatnonzero(begins)][np.cumsum(begins) - 1] if len(hashes) else owners
    gone: dict[int, list[tuple[int, int]]] = {}
    for place in np.flatnonzero(owners != keeper).tolist():
        gone.setdefault(int(owners[place]), []).append((int(hashes[place]), int(keeper[place])))
    return gone


def without_paragraphs(text: str, gone: set[int]) -> str:
    """The text without the paragraphs of those hashes; blank lines that stood around one are not doubled."""
    lines = text.split("\n")
    kept: list[str] = []
    for line, hashed in zip(lines, words_of(lines).texts().tolist(), strict=True):
        if hashed not in gone and (line or (kept and kept[-1])):
            kept.append(line)
    return "\n".join(kept).strip("\n")

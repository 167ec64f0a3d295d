"""Documents that are equal but for case and white space."""

from __future__ import annotations

import hashlib
import unicodedata

import numpy as np

from treino.corpus.deduplicate.collection import Collection, Group
from treino.corpus.deduplicate.keys import Keys
from treino.corpus.threads import in_order


def comparison_key(text: str) -> str:
    """SHA-256 (hex) of the text in NFC, case folded, runs of white space as one space."""
    return _digest(text).hex()


def equal_groups(keys: Keys, collection: Collection) -> tuple[np.ndarray, np.ndarray]:
    """(numbers, groups): the documents that equal another one, and the same group for equal ones; no document without text.

    Only documents with equal hashes of their words are read again, for a key costs more than all else that is done to a
    text here.
    """
    numbers = _repeated(keys.texts)
    numbers = numbers[keys.words[numbers] > 0]
    digests = np.concatenate([np.empty((0, 4), np.uint64), *in_order(_digests, collection.only(numbers))])
    _, groups, counts = np.unique(digests, axis=0, return_inverse=True, return_counts=True)
    several = counts[groups] > 1
    return numbers[several], groups[several]


def _repeated(values: np.ndarray) -> np.ndarray:
    """Places of the values that occur more than once, sorted."""
    order = np.argsort(values, kind="stable")
    same = values[order][1:] == values[order][:-1]
    return np.sort(order[np.concatenate([[False], same]) | np.concatenate([same, [False]])]) if len(values) else order


def _digests(group: Group) -> np.ndarray:
    digests = b"".join(map(_digest, group.read(["text"])["text"].to_pylist()))
    return np.frombuffer(digests, np.uint64).reshape(-1, 4)


def _digest(text: str) -> bytes:
    folded = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).digest()

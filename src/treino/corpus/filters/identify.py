"""Which language texts are in: py3langid's model, walked for many texts at once.

py3langid reads a text byte by byte through an automaton that tells the byte n-grams that it knows, in a Python loop. Its
state depends on the last six bytes alone, so a batch of texts can be cut into short pieces, each begun six bytes early,
and all pieces walk together, one numpy step for a byte of each. The probabilities are those of py3langid.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.sparse

DEEPEST = 6
"""Bytes of the longest n-gram in py3langid 0.4's model: how far back its state can remember."""

PIECE = 64
"""Bytes that one piece advances; longer ones take more steps, shorter ones walk more bytes twice."""

RESET = b"\xff"
"""A byte of no UTF-8 text: behind it the automaton is in its first state, so no text sees the one before."""

PLAUSIBLE = (
    *(
        "pt",
        "gl",
        "es",
        "ca",
        "it",
        "fr",
        "ro",
        "la",
        "oc",
        "an",
        "ext",
        "en",
        "de",
        "nl",
        "sv",
        "da",
        "no",
        "pl",
        "cs",
    ),
    *("hu", "fi", "tr", "id", "vi", "eo", "eu", "hr", "el", "ru", "uk", "bg", "ar", "he", "fa", "hi", "th", "zh", "ja"),
    "ko",
)
"""Languages that texts found beside Portuguese ones are in; short texts are not given to any of the hundred others."""


class Identifier:
    """py3langid's model over some languages."""

    def __init__(self, languages: Sequence[str]) -> None:
        # The module's public functions classify one text at a time; the tables that they read are taken as they are.
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        columns = [number for number, label in enumerate(model.nb_classes) if label in languages]
        labels = [model.nb_classes[number] for number in columns]
        self.languages = tuple(dict.fromkeys(labels))
        # A language in two scripts has two columns of one label; their probabilities are added up.
        self._fold = np.array([[label == language for language in self.languages] for label in labels], np.float32)
        self._weights = np.asarray(model.nb_ptc[:, columns], np.float32)
        self._bias = np.asarray(model.nb_pc[columns], np.float32)
        self._next = np.frombuffer(model.tk_nextmove, model.tk_nextmove.typecode)
        self._row: np.ndarray = np.asarray(model.tk_row, np.int64) << 8
        self._feature = np.asarray(model.tk_output, np.int32)

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """P(language | text), one row a text, one column for each of `self.languages`.

        Naive Bayes over log(1 + count) of byte n-grams; the logarithms are divided by √bytes before they become
        probabilities, as py3langid does. A text without any known n-gram gets equal ones.
        """
        encoded = [_bytes(text) for text in texts]
        counts = self._features(encoded)
        counts.data = np.log1p(counts.data)
        scores = counts @ self._weights + self._bias
        scores[np.diff(counts.indptr) == 0] = 0
        scores /= np.sqrt([max(1, len(text)) for text in encoded])[:, None]
        scores = np.exp(scores - scores.max(1, keepdims=True, initial=-np.inf))
        return (scores / scores.sum(1, keepdims=True)).astype(np.float32) @ self._fold

    def _features(self, encoded: Sequence[bytes]) -> scipy.sparse.csr_array:
        """How often each n-gram occurs in each text."""
        whole = np.frombuffer(RESET + RESET.join(encoded) + RESET, np.uint8)
        ends = np.cumsum([len(text) + 1 for text in encoded])  # place of the RESET behind each text
        places, features = self._walk(whole)
        count = len(self._weights)
        keys, times = np.unique(np.searchsorted(ends, places) * count + features, return_counts=True)
        rows, columns = keys // count, keys % count
        starts = np.searchsorted(rows, np.arange(len(encoded) + 1))
        return scipy.sparse.csr_array((times.astype(np.float32), columns, starts), shape=(len(encoded), count))

    def _walk(self, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(place, feature) of every n-gram that ends in the bytes, through all pieces at once."""
        pieces = -(-len(whole) // PIECE)
        early = np.full(DEEPEST, RESET[0], np.uint8)
        late = np.full(pieces * PIECE - len(whole), RESET[0], np.uint8)
        padded = np.concatenate([early, whole, late])
        starts = np.arange(pieces) * PIECE
        state: Any = np.zeros(pieces, np.int64)
        places, features = [], []
        for step in range(DEEPEST + PIECE):
            state = self._next[self._row[state] + padded[starts + step]]
            if step < DEEPEST:
                continue
            found = self._feature[state]
            known = np.flatnonzero(found >= 0)
            places.append(starts[known] + (step - DEEPEST))
            features.append(found[known])
        return np.concatenate(places), np.concatenate(features).astype(np.int64)


@lru_cache(maxsize=4)
def identifier(languages: tuple[str, ...]) -> Identifier:
    """The model over some languages, loaded once a process."""
    return Identifier(languages)


@lru_cache(maxsize=1)
def known_languages() -> tuple[str, ...]:
    """Codes of every language that py3langid can tell."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return tuple(sorted(LanguageIdentifier.from_model_file(MODEL_FILE).labels))


def _bytes(text: str) -> bytes:
    if text.isupper():
        text = text.lower()
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")

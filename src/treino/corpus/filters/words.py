"""The words and lines of a text, counted once for all rules."""

from __future__ import annotations

import string
from collections import Counter
from dataclasses import dataclass

PUNCTUATION = string.punctuation + "“”‘’«»‹›„…–—•·¡¿°ºª§¶†×"


@dataclass(frozen=True)
class Words:
    """The words of a text without the punctuation around them, and how often each occurs."""

    words: list[str]
    counts: Counter[str]

    @property
    def mean_length(self) -> float:
        """Characters of a word on average; 0 without words."""
        return sum(map(len, self.words)) / len(self.words) if self.words else 0.0

    @property
    def with_letters(self) -> int:
        """Words that have at least one letter."""
        doubtful = [word for word in self.counts if not word.isalpha()]
        without = [word for word in doubtful if not any(map(str.isalpha, word))]
        return len(self.words) - sum(map(self.counts.__getitem__, without))


def count_words(text: str) -> Words:
    """Split at white space, strip punctuation."""
    words = [word for word in [item.strip(PUNCTUATION) for item in text.split()] if word]
    return Words(words, Counter(words))

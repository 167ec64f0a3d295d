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
        return sum(len(word) * count for word, count in self.counts.items()) / len(self.words) if self.words else 0.0

    @property
    def with_letters(self) -> int:
        """Words that have at least one letter."""
        return sum(count for word, count in self.counts.items() if word.isalpha() or any(map(str.isalpha, word)))


def count_words(text: str) -> Words:
    """Split at white space, strip punctuation."""
    words = [word for word in [item.strip(PUNCTUATION) for item in text.split()] if word]
    return Words(words, Counter(words))

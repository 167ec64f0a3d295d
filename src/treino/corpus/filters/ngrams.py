"""Repetition inside one text, by word n-grams.

An n-gram that occurs twice begins and ends with (n−1)-grams that do, so each length looks only at the places that the
length before has left: a few percent of an ordinary text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise


def repeated_ngrams(words: Sequence[str], longest: int) -> Iterator[tuple[int, dict[int, int]]]:
    """For each n from 2 to `longest`: n and {place: place of the first occurrence} of every n-gram that occurs twice or
    more, in order of place.
    """
    counts = Counter(pairs := list(pairwise(words)))
    first: dict[object, int] = {}
    places = {i: first.setdefault(pair, i) for i, pair in enumerate(pairs) if counts[pair] > 1}
    for n in range(2, longest + 1):
        yield n, places
        # (the n-gram here, the n-gram one word on) names the (n+1)-gram; both are repeated where it is.
        longer = {i: (group, places[i + 1]) for i, group in places.items() if i + 1 in places}
        times = Counter(longer.values())
        first = {}
        places = {i: first.setdefault(key, i) for i, key in longer.items() if times[key] > 1}


def characters_in_top(words: Sequence[str], n: int, places: dict[int, int]) -> int:
    """Characters (spaces between words too) in all occurrences of the most frequent n-gram, the earliest of equals; 0 where
    none occurs twice.
    """
    if not places:
        return 0
    start, count = Counter(places.values()).most_common(1)[0]
    return count * _length(words[start : start + n])


def characters_repeated(words: Sequence[str], n: int, places: dict[int, int]) -> int:
    """Characters (spaces between words too) under n-grams that occurred before in the text, none counted twice."""
    total, begin, end = 0, 0, 0
    for place, first in places.items():
        if place == first:
            continue
        if place > end:
            total += _length(words[begin:end])
            begin = place
        end = place + n
    return total + _length(words[begin:end])


def _length(words: Sequence[str]) -> int:
    return sum(map(len, words)) + len(words) - 1 if words else 0

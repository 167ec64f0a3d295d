"""Interpolated modified Kneser-Ney n-grams over token ids (Chen & Goodman 1998), counted and scored with sorted arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNSEEN = -1


@dataclass(frozen=True)
class Level:
    """All k-grams of one order k.

    `keys` are sorted: (number of the k−1 first tokens as a (k−1)-gram) · vocabulary + last token; a k-gram's number is its
    place among them. `counts` are occurrences at the highest order and, below, the number of different tokens seen before
    the k-gram. `totals` and `backoff` belong to contexts, by the number of the (k−1)-gram: the sum of the counts of what
    follows, and the mass γ left to the lower order.
    """

    keys: np.ndarray
    counts: np.ndarray
    discounts: np.ndarray
    totals: np.ndarray
    backoff: np.ndarray


class KneserNey:
    """P_k(w | h) = max(c(hw) − D(c(hw)), 0) / c(h) + γ(h) · P_{k−1}(w | h′), down to the uniform distribution.

    D takes one of three values by the count (1, 2, 3 and more), estimated per order from counts of counts. A document
    stands between end-of-text tokens: `order` − 1 of them before it as context, one behind it that is predicted.
    """

    def __init__(self, levels: list[Level], vocabulary: int, end_of_text: int) -> None:
        self.levels, self.vocabulary, self.end_of_text = levels, vocabulary, end_of_text
        self.order = len(levels)

    @classmethod
    def train(
        cls, tokens: np.ndarray, offsets: np.ndarray, *, order: int, vocabulary: int, end_of_text: int = 0
    ) -> KneserNey:
        """Count all documents of a shard's arrays (`tokens` with end tokens, `offsets` with the end)."""
        stream, places = pad(tokens, offsets, order, end_of_text)
        predicted = places >= order - 1
        tables = _number_grams(stream, places, order, vocabulary)
        counts = np.bincount(tables[-1][1][predicted], minlength=len(tables[-1][0]))
        levels: list[Level] = []
        while tables:
            unique, numbers = tables.pop()
            contexts = len(tables[-1][0]) if tables else 1
            levels.append(_level(unique, counts, contexts, vocabulary))
            if tables:
                counts = _continuations(numbers, tables[-1][1], predicted, counts, contexts)
        return cls(levels[::-1], vocabulary, end_of_text)

    def log_probabilities(self, tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Natural log of the probability of every token of the documents, end tokens among them: (len(tokens),)."""
        stream, places = pad(tokens, offsets, self.order, self.end_of_text)
        context = np.zeros(len(stream), np.int64)
        probability = np.full(len(stream), 1.0 / self.vocabulary)
        for level in self.levels:
            numbers = _find(level.keys, context, stream, self.vocabulary)
            probability = _interpolate(level, context, numbers, probability)
            # Places whose context would reach into the document before are padding: nobody asks for them.
            context[1:] = numbers[:-1]
            context[:1] = UNSEEN
        return np.log(probability[places >= self.order - 1])


def pad(tokens: np.ndarray, offsets: np.ndarray, order: int, end_of_text: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents in one stream with order − 1 end tokens before each, and each token's place in its padded document."""
    lengths = np.diff(offsets) + order - 1
    starts = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    stream = np.full(starts[-1], end_of_text, np.int64)
    stream[places >= order - 1] = tokens[offsets[0] : offsets[-1]]
    return stream, places


def _number_grams(
    stream: np.ndarray, places: np.ndarray, order: int, vocabulary: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For k = 1 … order: the sorted keys of all k-grams, and the number of the one that ends at each place of the stream
    (`UNSEEN` where it would begin in the document before).
    """
    tables: list[tuple[np.ndarray, np.ndarray]] = []
    small = np.int32 if len(stream) < 2**31 else np.int64
    context = np.zeros(len(stream), np.int64)
    for k in range(1, order + 1):
        valid = places >= k - 1
        unique, inverse = np.unique(context[valid] * vocabulary + stream[valid], return_inverse=True)
        numbers = np.full(len(stream), UNSEEN, small)
        numbers[valid] = inverse
        tables.append((unique, numbers))
        context[1:] = numbers[:-1]
    return tables


def _continuations(
    numbers: np.ndarray, shorter: np.ndarray, predicted: np.ndarray, counts: np.ndarray, size: int
) -> np.ndarray:
    """For each k-gram the number of different (k+1)-grams that end in it: each seen (k+1)-gram counts once."""
    place = np.full(len(counts), UNSEEN, np.int64)
    place[numbers[predicted]] = np.flatnonzero(predicted)  # one of its places, whichever
    return np.bincount(shorter[place[counts > 0]], minlength=size)


def _level(keys: np.ndarray, counts: np.ndarray, contexts: int, vocabulary: int) -> Level:
    discounts = estimate_discounts(counts)
    used = counts > 0  # the others stand in the padding alone, as contexts
    context, kept = keys[used] // vocabulary, counts[used]
    totals = np.bincount(context, weights=kept, minlength=contexts)
    taken = np.bincount(context, weights=discounts[np.minimum(kept, 3)], minlength=contexts)
    backoff = np.divide(taken, totals, out=np.ones_like(taken), where=totals > 0)
    return Level(keys, counts, discounts, totals, backoff)


def estimate_discounts(counts: np.ndarray) -> np.ndarray:
    """D for counts 0, 1, 2, 3+: with n_i the number of grams counted i times and Y = n1 / (n1 + 2 n2),
    D_i = i − (i + 1) · Y · n_{i+1} / n_i.

    Small corpora: with n1 or n2 = 0 every D is ½; with n3 or n4 = 0 every D is Y; a D outside of (0, i], which would take
    a probability away or leave none for what was not seen, is Y.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    if not (n[1] and n[2]):
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = n[1] / (n[1] + 2 * n[2])
    if not (n[3] and n[4]):
        return np.array([0.0, y, y, y])
    found = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
    return np.array([0.0, *(d if 0 < d <= i else y for i, d in enumerate(found, 1))])


def _find(keys: np.ndarray, context: np.ndarray, stream: np.ndarray, vocabulary: int) -> np.ndarray:
    """Numbers of the k-grams (context, token); `UNSEEN` where there is none."""
    wanted = context * vocabulary + stream
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where((context != UNSEEN) & (keys[place] == wanted), place, UNSEEN)


def _interpolate(level: Level, context: np.ndarray, numbers: np.ndarray, lower: np.ndarray) -> np.ndarray:
    known = context != UNSEEN
    total = np.where(known, level.totals[context], 0.0)
    count = np.where(numbers != UNSEEN, level.counts[numbers], 0)
    discounted = np.maximum(count - level.discounts[np.minimum(count, 3)], 0.0)
    share = np.divide(discounted, total, out=np.zeros_like(discounted), where=total > 0)
    gamma = np.where(total > 0, level.backoff[context], 1.0)
    return share + gamma * lower

"""Interpolated modified Kneser-Ney n-grams over token ids (Chen & Goodman 1999), counted and scored with sorted arrays."""

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
        numbers = stream.astype(np.int64)
        tables: list[tuple[np.ndarray, np.ndarray]] = []
        predicted = places >= order - 1
        for k in range(1, order + 1):
            if k > 1:
                keys = np.empty_like(numbers)
                keys[0] = 0
                keys[1:] = numbers[:-1] * vocabulary + stream[1:]
            else:
                keys = numbers
            valid = places >= k - 1
            unique, inverse = np.unique(keys[valid], return_inverse=True)
            numbers = np.full(len(stream), UNSEEN, np.int64)
            numbers[valid] = inverse
            tables.append((unique, numbers))
        levels: list[Level] = []
        counts = np.bincount(tables[-1][1][predicted], minlength=len(tables[-1][0]))
        for k in range(order, 0, -1):
            unique, numbers = tables[k - 1]
            contexts = len(tables[k - 2][0]) if k > 1 else 1
            levels.append(_level(unique, counts, contexts, vocabulary))
            if k > 1:
                counts = _continuations(numbers, tables[k - 2][1], predicted, counts, len(tables[k - 2][0]))
        return cls(levels[::-1], vocabulary, end_of_text)

    def log_probabilities(self, tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Natural log of the probability of every token of the documents, end tokens among them: (len(tokens),)."""
        stream, places = pad(tokens, offsets, self.order, self.end_of_text)
        wanted = places >= self.order - 1
        numbers = np.full(len(stream), 0, np.int64)
        probability = np.full(len(stream), 1.0 / self.vocabulary)
        for k, level in enumerate(self.levels, 1):
            context = np.zeros(len(stream), np.int64)
            if k > 1:
                context[1:] = numbers[:-1]
                context[0] = UNSEEN
            numbers = _find(level.keys, context, stream, self.vocabulary)
            probability = _interpolate(level, context, numbers, probability)
        return np.log(probability[wanted])

    def continuation(self, context: list[int], continuation: list[int]) -> float:
        """Natural log of the probability of a continuation behind a context that begins a document."""
        ids = np.array([*context, *continuation], np.int64)
        logs = self.log_probabilities(ids, np.array([0, len(ids)]))
        return float(logs[len(context) :].sum())


def pad(tokens: np.ndarray, offsets: np.ndarray, order: int, end_of_text: int) -> tuple[np.ndarray, np.ndarray]:
    """Documents in one stream with order − 1 end tokens before each, and each token's place in its padded document."""
    lengths = np.diff(offsets) + order - 1
    starts = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    stream = np.full(starts[-1], end_of_text, np.int64)
    stream[places >= order - 1] = tokens[offsets[0] : offsets[-1]]
    return stream, places


def _continuations(
    numbers: np.ndarray, shorter: np.ndarray, predicted: np.ndarray, counts: np.ndarray, size: int
) -> np.ndarray:
    """For each k-gram the number of different (k+1)-grams that end in it: each seen (k+1)-gram counts once."""
    first = np.full(len(counts), UNSEEN, np.int64)
    places = np.flatnonzero(predicted)
    first[numbers[places][::-1]] = places[::-1]
    seen = first[counts > 0]
    return np.bincount(shorter[seen], minlength=size)


def _level(keys: np.ndarray, counts: np.ndarray, contexts: int, vocabulary: int) -> Level:
    discounts = estimate_discounts(counts)
    context = keys // vocabulary if contexts > 1 or len(keys) > vocabulary else np.zeros(len(keys), np.int64)
    used = counts > 0
    context, kept = context[used], counts[used]
    totals = np.bincount(context, weights=kept, minlength=contexts)
    taken = np.bincount(context, weights=discounts[np.minimum(kept, 3)], minlength=contexts)
    backoff = np.divide(taken, totals, out=np.ones_like(taken), where=totals > 0)
    return Level(keys, counts, discounts, totals, backoff)


def estimate_discounts(counts: np.ndarray) -> np.ndarray:
    """D for counts 0, 1, 2, 3+: with n_i the number of grams counted i times and Y = n1 / (n1 + 2 n2),
    D_i = i − (i + 1) · Y · n_{i+1} / n_i. Where an n_i is 0 (small corpora) or a D falls outside [0, i], Y serves for all.
    """
    n = [0, *(int((counts == i).sum()) for i in range(1, 5))]
    if not n[1]:
        return np.array([0.0, 0.5, 0.5, 0.5])
    y = n[1] / (n[1] + 2 * n[2])
    if 0 in n[1:]:
        return np.array([0.0, y, y, y]) if n[2] else np.array([0.0, 0.5, 0.5, 0.5])
    found = [0.0, *(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))]
    return np.array([d if 0 <= d <= i else y for i, d in enumerate(found)])


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

"""Modified Kneser-Ney against a slow reference that follows the formulas with dictionaries, context by context."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treino.evaluation.ngram import KneserNey, estimate_discounts

END = 0
VOCABULARY = 4
EXACT = 1e-12
"""Relative; both sides compute in double precision, with sums of a few terms in another order."""
BYTES_PER_TOKEN = 160
"""Peak while a 5-gram is counted: about 120 measured (five numbers of four bytes, and one sort at a time)."""

Documents = Sequence[Sequence[int]]


def discounts_by_formula(counts: Sequence[int]) -> dict[int, float]:
    """Chen & Goodman's D1, D2 and D3+, with the ways out that `estimate_discounts` documents."""
    n1, n2, n3, n4 = (sum(1 for count in counts if count == i) for i in (1, 2, 3, 4))
    if n1 == 0 or n2 == 0:
        return {1: 0.5, 2: 0.5, 3: 0.5}
    y = n1 / (n1 + 2 * n2)
    if n3 == 0 or n4 == 0:
        return {1: y, 2: y, 3: y}
    found = {1: 1 - 2 * y * n2 / n1, 2: 2 - 3 * y * n3 / n2, 3: 3 - 4 * y * n4 / n3}
    return {i: d if 0 < d <= i else y for i, d in found.items()}


class Reference:
    """P_k(w | h) = max(c(hw) − D(c(hw)), 0) / c(h·) + γ(h) P_{k−1}(w | h′), from dictionaries, one probability at a time.

    c are occurrences at the highest order and, below, numbers of different tokens seen before.
    """

    def __init__(self, documents: Documents, order: int, vocabulary: int) -> None:
        self.order, self.vocabulary = order, vocabulary
        self.counts: dict[int, Counter[tuple[int, ...]]] = {order: Counter()}
        for document in documents:
            row = (END,) * (order - 1) + tuple(document) + (END,)
            for last in range(order - 1, len(row)):
                self.counts[order][row[last - order + 1 : last + 1]] += 1
        for k in range(order - 1, 0, -1):
            before: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
            for gram in self.counts[k + 1]:
                before[gram[1:]].add(gram[0])
            self.counts[k] = Counter({gram: len(seen) for gram, seen in before.items()})
        self.discounts = {k: discounts_by_formula(list(counts.values())) for k, counts in self.counts.items()}

    def probability(self, history: Sequence[int], word: int) -> float:
        row = (END,) * (self.order - 1) + tuple(history)
        return self._interpolated(row[len(row) - self.order + 1 :], word)

    def _interpolated(self, context: tuple[int, ...], word: int) -> float:
        k = len(context) + 1
        lower = self._interpolated(context[1:], word) if context else 1 / self.vocabulary
        follow = {gram: count for gram, count in self.counts[k].items() if gram[:-1] == context}
        total = sum(follow.values())
        if not total:
            return lower
        discounts = self.discounts[k]
        left = sum(discounts[min(count, 3)] for count in follow.values()) / total
        count = follow.get((*context, word), 0)
        own = max(count - discounts[min(count, 3)], 0) / total if count else 0.0
        return own + left * lower


def flatten(documents: Documents, end: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The arrays of a shard."""
    rows = [[*document, END] if end else [*document] for document in documents]
    return np.array([*itertools.chain.from_iterable(rows)], np.int64), np.cumsum([0, *map(len, rows)])


def train(documents: Documents, order: int, vocabulary: int = VOCABULARY) -> KneserNey:
    return KneserNey.train(*flatten(documents), order=order, vocabulary=vocabulary, end_of_text=END)


def table(model: KneserNey, histories: Sequence[Sequence[int]]) -> np.ndarray:
    """(histories, vocabulary): the probability of every token behind every history that begins a document."""
    rows = [[*history, word] for history in histories for word in range(model.vocabulary)]
    tokens, offsets = flatten(rows, end=False)
    logs = model.log_probabilities(tokens, offsets)[offsets[1:] - 1]
    return np.exp(logs).reshape(len(histories), model.vocabulary)


def histories(longest: int, vocabulary: int = VOCABULARY) -> list[tuple[int, ...]]:
    """Every history up to a length: the start of a document, seen ones, unseen ones, and those that an end token is in."""
    return [h for length in range(longest + 1) for h in itertools.product(range(vocabulary), repeat=length)]


def corpus(seed: int, documents: int, tokens: int, longest: int = 30) -> list[list[int]]:
    """Random documents in which some tokens follow each other more often than others."""
    draw = np.random.default_rng(seed)
    rows = []
    for _ in range(documents):
        row = [int(draw.integers(1, tokens))]
        for _ in range(int(draw.integers(0, longest))):
            stays = draw.random() < 0.6
            row.append(1 + row[-1] % (tokens - 1) if stays else int(draw.integers(1, tokens)))
        rows.append(row)
    return rows


CORPORA = {
    "random": corpus(0, 12, VOCABULARY),
    "unseen token": corpus(1, 6, VOCABULARY - 1),
    "one document": [[1, 2, 3, 1, 2, 1, 2, 3, 3]],
    "one token": [[1]],
    "empty documents": [[], [], [2]],
    "nothing but empty documents": [[], []],
    "repeated": [[1, 2, 3]] * 7,
}


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", CORPORA)
def test_equals_the_reference_in_every_context_and_sums_to_one(name: str, order: int) -> None:
    model, slow = train(CORPORA[name], order), Reference(CORPORA[name], order, VOCABULARY)
    asked = histories(min(order, 4))
    expected = [[slow.probability(history, word) for word in range(VOCABULARY)] for history in asked]
    found = table(model, asked)
    np.testing.assert_allclose(found, expected, rtol=EXACT)
    np.testing.assert_allclose(found.sum(1), 1, rtol=EXACT)
    assert (found > 0).all()


def test_a_larger_corpus_has_discounts_of_all_three_kinds() -> None:
    """Enough text that no discount falls back, or the comparison above would prove less than it seems to."""
    documents = corpus(2, 60, 9)
    model, slow = train(documents, 3, 9), Reference(documents, 3, 9)
    for level, k in zip(model.levels[1:], (2, 3), strict=True):
        assert len(set(level.discounts[1:])) == 3
        assert level.discounts[1:].tolist() == pytest.approx(list(slow.discounts[k].values()), rel=EXACT)
    draw = np.random.default_rng(3)
    asked = [draw.integers(0, 9, int(length)).tolist() for length in draw.integers(0, 4, 40)]
    expected = [[slow.probability(history, word) for word in range(9)] for history in asked]
    np.testing.assert_allclose(table(model, asked), expected, rtol=EXACT)


@settings(max_examples=40, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(1, 4), max_size=12), min_size=1, max_size=8),
    order=st.integers(1, 5),
    history=st.lists(st.integers(0, 6), max_size=6),
)
def test_any_corpus_gives_probabilities_in_any_context(
    documents: list[list[int]], order: int, history: list[int]
) -> None:
    """Tokens 5 and 6 are never seen, as contexts or as what follows."""
    found = table(train(documents, order, 7), [history])[0]
    assert found.sum() == pytest.approx(1, rel=EXACT)
    assert (found > 0).all()


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_documents_are_strangers(order: int) -> None:
    """Neither the order of the training documents nor what is scored beside a document changes anything."""
    documents = corpus(4, 9, VOCABULARY)
    forwards, backwards = train(documents, order), train(documents[::-1], order)
    tokens, offsets = flatten(documents)
    together = forwards.log_probabilities(tokens, offsets)
    np.testing.assert_array_equal(together, backwards.log_probabilities(tokens, offsets))
    alone = [forwards.log_probabilities(*flatten([document])) for document in documents]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_nothing_is_kept_that_no_document_holds() -> None:
    """The k-grams of the padded documents, and none that reaches from one document into the next."""
    documents = corpus(6, 20, VOCABULARY)
    padded = [(END,) * 2 + tuple(document) + (END,) for document in documents]
    for k, level in enumerate(train(documents, 3).levels, 1):
        assert len(level.keys) == len({row[i : i + k] for row in padded for i in range(len(row) - k + 1)})


def test_the_last_token_of_a_document_is_no_context_of_the_next() -> None:
    """3 ends a document and 2 begins the next one: behind a 3 only the end was ever seen."""
    documents = [[1, 3], [2, 1]]
    after, lower = table(train(documents, 2), [[3]])[0], Reference(documents, 2, VOCABULARY).counts[2]
    assert (3, 2) not in lower and (3, END) in lower
    assert after[END] > after[1] and after[END] > after[2]


def test_a_document_begins_behind_end_tokens_that_are_not_predicted() -> None:
    """The padding is context alone: of two documents with one token each, half of what is predicted are ends."""
    model = train([[1], [1]], 1)
    assert table(model, [[]])[0, END] == pytest.approx(table(model, [[]])[0, 1], rel=EXACT)
    assert table(train([[1], [1]], 3), [[]])[0].argmax() == 1


@pytest.mark.parametrize(
    ("how_many", "expected"),
    [
        ((0, 0, 0, 0), (0.5, 0.5, 0.5)),
        ((5, 0, 2, 1), (0.5, 0.5, 0.5)),
        ((0, 3, 2, 1), (0.5, 0.5, 0.5)),
        ((6, 3, 0, 1), (0.5, 0.5, 0.5)),
        ((6, 1, 1, 0), (0.75, 0.75, 0.75)),
        ((40, 10, 5, 2), (1 - 2 / 3 / 2, 2 - 3 * 2 / 3 / 2, 3 - 4 * 2 / 3 * 2 / 5)),
        ((4, 1, 1, 1), (2 / 3, 2 / 3, 3 - 8 / 3)),  # D2 would be exactly 0
        ((4, 1, 2, 1), (2 / 3, 2 / 3, 3 - 4 / 3)),  # D2 would be −2
    ],
)
def test_discounts_from_counts_of_counts(how_many: tuple[int, ...], expected: tuple[float, ...]) -> None:
    counts = np.array([count for count, times in enumerate((2, *how_many, 3)) for _ in range(times)])
    found = estimate_discounts(counts)
    assert found.tolist() == pytest.approx([0, *expected])
    assert (found[1:] > 0).all(), "a discount of 0 would leave nothing to unseen tokens"


def test_where_the_formula_takes_nothing_away_something_is_left_to_the_unseen() -> None:
    """Bigrams with n1 to n4 = 4, 1, 1, 1, so that D2 by the formula is 0, and a context with nothing but a count of 2."""
    documents = [[3], [3], [1, 4, 1, 4, 3], [3], []]
    model, slow = train(documents, 2, 6), Reference(documents, 2, 6)
    assert sorted(Counter(slow.counts[2].values()).items()) == [(1, 4), (2, 1), (3, 1), (4, 1)]
    assert {gram: count for gram, count in slow.counts[2].items() if gram[0] == 1} == {(1, 4): 2}
    assert (table(model, [[1]])[0] > 0).all()


def test_memory_of_counting_is_bounded() -> None:
    draw = np.random.default_rng(5)
    tokens = np.minimum(draw.zipf(1.2, 100_000), 4095)
    ends = np.arange(199, len(tokens), 200)
    tokens[ends] = END
    offsets = np.array([0, *(ends + 1)])
    tracemalloc.start()
    KneserNey.train(tokens, offsets, order=5, vocabulary=4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / len(tokens) < BYTES_PER_TOKEN

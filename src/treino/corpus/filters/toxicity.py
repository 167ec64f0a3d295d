"""The toxicity step: which sentences insult or are obscene, and how much of a document they make up.

Words alone do not say it ("aranha", the surname Pinto), so a sentence must hold a strong term, or two mild ones, or a mild
one said to someone; where rows with labels are given, a small linear model that was trained on them judges instead.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import pyarrow as pa

from treino.corpus.filters.linear import LinearModel, load_model
from treino.corpus.filters.outcome import Note, Verdict, carry_out
from treino.corpus.filters.thresholds import toxicity_thresholds
from treino.corpus.filters.words import count_words
from treino.corpus.shards import Outcome

REACH = 3
"""Words behind a word of address in which a mild term counts as said to someone."""

_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’»)]*\s+|\n+")


@dataclass(frozen=True)
class Terms:
    """The terms of a language: single words, and phrases of several by their first word."""

    strong: frozenset[str]
    mild: frozenset[str]
    phrases: dict[str, tuple[tuple[str, ...], ...]]
    address: frozenset[str]

    def weight(self, words: Sequence[str]) -> float:
        """Strong terms, and half the mild ones, in a sentence's words in small letters; a mild one said to someone counts as
        strong.
        """
        total = 0.0
        for place, word in enumerate(words):
            if word in self.strong or any(
                tuple(words[place : place + len(phrase)]) == phrase for phrase in self.phrases.get(word, ())
            ):
                total += 1
            elif word in self.mild:
                spoken_to = not self.address.isdisjoint(words[max(0, place - REACH) : place])
                total += 1 if spoken_to else 0.5
        return total

    @property
    def signs(self) -> frozenset[str]:
        """Words of which a text that has any weight holds at least one."""
        return self.strong | self.mild | frozenset(self.phrases)


@lru_cache(maxsize=64)
def terms(language: str) -> Terms:
    """The terms of a language; none where the package has no list for it."""
    known = tomllib.loads((files("treino.corpus.filters") / "terms.toml").read_text(encoding="utf-8"))
    table = known.get(language.partition("-")[0].lower(), {})
    phrases: dict[str, tuple[tuple[str, ...], ...]] = {}
    for phrase in (tuple(term.split()) for term in table.get("strong", ()) if " " in term):
        phrases[phrase[0]] = (*phrases.get(phrase[0], ()), phrase)
    strong = frozenset(term for term in table.get("strong", ()) if " " not in term)
    return Terms(strong, frozenset(table.get("mild", ())), phrases, frozenset(table.get("address", ())))


def sentences(text: str) -> Iterator[str]:
    """Sentences, cut where a line or a sentence ends."""
    return (sentence for sentence in _SENTENCE_END.split(text) if sentence.strip())


def weight(sentence: str, language: str) -> float:
    """Weight of the terms in a sentence: from 1 on it is toxic by terms alone."""
    return terms(language).weight(count_words(sentence.lower()).words)


@dataclass(frozen=True)
class Finding:
    """Share of a text's words that stand in toxic sentences, and the first of these."""

    share: float
    first: str


def find(text: str, language: str, model: LinearModel | None = None) -> Finding:
    """How toxic a text is; 0 where no sentence is."""
    if model is not None:
        return _finding(_by_model(text, terms(language), model))
    counted = count_words(text.lower())
    signs = terms(language).signs.intersection(counted.counts)
    if not signs:
        return Finding(0.0, "")
    return _finding(_by_terms(text, terms(language), signs), len(counted.words))


def _by_terms(text: str, known: Terms, signs: Set[str]) -> Iterator[tuple[int, str, bool]]:
    """(words, sentence, toxic) of the sentences that hold one of the signs."""
    for sentence in sentences(text):
        lowered = sentence.lower()
        if any(sign in lowered for sign in signs):
            words = count_words(lowered).words
            yield len(words), sentence, known.weight(words) >= 1


def _by_model(text: str, known: Terms, model: LinearModel) -> Iterator[tuple[int, str, bool]]:
    """(words, sentence, toxic) of every sentence."""
    for sentence in sentences(text):
        words = count_words(sentence.lower()).words
        yield len(words), sentence, model.is_positive(words, known.weight(words))


def _finding(judged: Iterable[tuple[int, str, bool]], words: int = 0) -> Finding:
    """The share of the toxic sentences, of `words` or else of the words of all that were judged."""
    total = toxic = 0
    first = ""
    for length, sentence, is_toxic in judged:
        total += length
        if is_toxic:
            toxic += length
            first = first or sentence
    return Finding(toxic / max(1, words or total), first)


@dataclass(frozen=True)
class Toxicity:
    """The step: toxic documents marked in `meta` (`toxicity`, the share of words), those far above the limit dropped.

    `model`: file of a linear model (`linear.save_model`); empty: the terms judge.
    """

    action: Literal["tag", "drop"] = "tag"
    model: str = ""
    name: str = "toxicity"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        model = load_model(Path(self.model)) if self.model else None
        texts, languages = rows["text"].to_pylist(), rows["language"].to_pylist()
        return carry_out(rows, [self._verdict(*one, model) for one in zip(texts, languages, strict=True)])

    def _verdict(self, text: str, language: str, model: LinearModel | None) -> Verdict:
        limits = toxicity_thresholds(language)
        found = find(text, language, model)
        if found.share <= limits.tag:
            return Verdict(text)
        if self.action == "drop" and found.share > limits.drop:
            return Verdict(None, (Note("toxic", f"{found.share:.3f} > {limits.drop:.3f}: {found.first[:80]}"),))
        note = Note("toxicity", f"{found.share:.3f} ≤ {limits.drop:.3f}: {found.first[:80]}")
        return Verdict(text, (note,), {"toxicity": round(found.share, 4)})

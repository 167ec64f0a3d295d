"""The language step: what language a document is in, and which documents and paragraphs are in a language not wanted.

A document is judged by short windows, one in its middle and, in long ones, one every few pages. Where they are of one mind
that is its language. Where they are not, or none is sure, the paragraphs are judged, so that the Portuguese chapter of a
mixed book stays and the English one goes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from treino.corpus.filters.identify import PLAUSIBLE, identifier
from treino.corpus.filters.outcome import Note, Verdict, carry_out, with_column
from treino.corpus.filters.thresholds import language_thresholds
from treino.corpus.shards import Outcome
from treino.corpus.sources.read import WORLD

WINDOW, EVERY = 500, 5000
"""Characters that are looked at, in the middle of each stretch of so many."""

_PARAGRAPH = re.compile(r"\n\s*")


class Judgement(NamedTuple):
    """The likeliest language of a text, its probability, the likeliest wanted one, and its probability."""

    language: str
    probability: float
    wanted: str
    wanted_probability: float

    @property
    def lead(self) -> float:
        """How much likelier the language is than any wanted one; 0 where it is wanted itself."""
        return self.probability - self.wanted_probability

    @property
    def foreign(self) -> bool:
        """Whether the text is plainly in a language that is not wanted."""
        return self.lead >= language_thresholds(self.wanted).margin

    def __str__(self) -> str:
        margin = language_thresholds(self.wanted).margin
        return f"{self.language} {self.probability:.2f} ≥ {self.wanted} {self.wanted_probability:.2f} + {margin}"


@dataclass(frozen=True)
class Language:
    """The step. `languages`: those to keep; none: every document stays, and gets the language that it plainly is in where
    its source's is another. The town's documents are what they are.
    """

    languages: tuple[str, ...] = ()
    name: str = "language"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        texts, declared = rows["text"].to_pylist(), rows["language"].to_pylist()
        verdicts, languages = [Verdict(text) for text in texts], list(declared)
        judged = [
            n for n, source in enumerate(rows["source"].to_pylist()) if source != WORLD and self._can_judge(texts[n])
        ]
        if not judged:
            return carry_out(rows, verdicts)
        wanted = {n: self.languages or (declared[n],) for n in judged}
        by_window = self._judge({n: windows(texts[n]) for n in judged}, wanted)
        doubtful = [n for n in judged if self.languages and not _of_one_mind(by_window[n])]
        cut = {n: blocks(texts[n], language_thresholds(declared[n]).block) for n in doubtful}
        by_block = self._judge(cut, wanted)
        for n in judged:
            if n in by_block:
                verdicts[n], languages[n] = _by_block(cut[n], by_block[n])
            else:
                verdicts[n], languages[n] = self._by_window(texts[n], by_window[n])
        return carry_out(with_column(rows, "language", languages), verdicts)

    def _can_judge(self, text: str) -> bool:
        return len(text) >= language_thresholds("default").shortest

    def _judge(
        self, pieces: Mapping[int, Sequence[str]], wanted: Mapping[int, Sequence[str]]
    ) -> dict[int, list[Judgement]]:
        """The pieces of each document judged, all in one walk."""
        if not pieces:
            return {}
        model = identifier(tuple(sorted({*PLAUSIBLE, *self.languages})))
        rows = iter(model.probabilities([piece for group in pieces.values() for piece in group]))
        return {
            number: [_judgement(next(rows), model.languages, wanted[number]) for _ in group]
            for number, group in pieces.items()
        }

    def _by_window(self, text: str, judgements: Sequence[Judgement]) -> tuple[Verdict, str]:
        """The verdict where the windows are of one mind or nothing is to go; the language that most windows name."""
        if self.languages and judgements[0].foreign:
            return Verdict(None, (Note("other_language", str(judgements[0])),)), judgements[0].language
        names = [judgement.language if judgement.foreign else judgement.wanted for judgement in judgements]
        return Verdict(text), max(names, key=names.count)


def _judgement(row: np.ndarray, languages: Sequence[str], wanted: Sequence[str]) -> Judgement:
    best = int(row.argmax())
    known = [(float(row[languages.index(name)]), name) for name in wanted if name in languages]
    probability, name = max(known, default=(float(row[best]), wanted[0]))
    return Judgement(languages[best], float(row[best]), name, probability)


def windows(text: str) -> list[str]:
    """The middle `WINDOW` characters of each `EVERY` of a text, which is cut into stretches of equal length."""
    stretches = -(-len(text) // EVERY) or 1
    middles = [(2 * number + 1) * len(text) // (2 * stretches) for number in range(stretches)]
    return [text[max(0, middle - WINDOW // 2) : middle + WINDOW // 2] for middle in middles]


def blocks(text: str, characters: int) -> list[str]:
    """The text cut behind paragraphs into blocks of at least so many characters; joined, they are the text."""
    cuts, start = [], 0
    for end in (found.end() for found in _PARAGRAPH.finditer(text)):
        if end - start >= characters:
            cuts.append(text[start:end])
            start = end
    if start < len(text):
        cuts.append(text[start:])
    if len(cuts) > 1 and len(cuts[-1]) < characters:
        cuts[-2:] = [cuts[-2] + cuts[-1]]
    return cuts


def _of_one_mind(judgements: Sequence[Judgement]) -> bool:
    """Whether all windows are in wanted languages, or all plainly in one that is not."""
    plainly = all(judgement.foreign for judgement in judgements) and len({item.language for item in judgements}) == 1
    return plainly or all(judgement.lead == 0 for judgement in judgements)


def _by_block(parts: Sequence[str], judgements: Sequence[Judgement]) -> tuple[Verdict, str]:
    """The blocks that are not plainly foreign, as they stand; their most frequent language, by characters."""
    plainest = max(judgements, key=lambda judgement: judgement.lead)
    kept = [
        (part, judgement.wanted) for part, judgement in zip(parts, judgements, strict=True) if not judgement.foreign
    ]
    if not kept:
        return Verdict(None, (Note("other_language", str(plainest)),)), plainest.language
    sizes = Counter[str]()
    for part, language in kept:
        sizes[language] += len(part)
    text = "".join(part for part, _ in kept)
    gone = len(parts) - len(kept)
    if not gone:
        return Verdict(text), sizes.most_common(1)[0][0]
    note = Note("paragraphs_in_other_language", f"{gone}/{len(parts)}: {plainest}")
    return Verdict(text.strip(), (note,)), sizes.most_common(1)[0][0]

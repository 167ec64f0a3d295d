"""The quality rules of Gopher, C4 and FineWeb-2, over words and lines that are counted once.

Where the papers leave a choice open: a word is what stands between white space, without the punctuation around it (FineWeb-2
counts marks of punctuation as words, too, so its limits on shares of words are a little milder here, and stricter for
line breaks); a line is one that is not blank, and ends as a sentence does or holds the end of one (FineWeb asks for its last
character alone, by which a text of one line stands or falls); a repeated n-gram counts from its second occurrence on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pyarrow as pa

from treino.corpus.filters.ngrams import characters_in_top, characters_repeated, repeated_ngrams
from treino.corpus.filters.outcome import Note, Verdict, carry_out, is_page
from treino.corpus.filters.thresholds import QualityThresholds, quality_thresholds
from treino.corpus.filters.words import Words, count_words
from treino.corpus.shards import Outcome

ENDS = (".", "!", "?", "…", '"', "'", "”", "’", "»", ":", ";")
"""How a line ends that is a sentence or a part of one. (FineWeb knows the first of them; verse and speech the others.)"""

BULLETS = ("•", "-", "*", "·", "–", "►", "●", "▪", "‣")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’»)]*(?:\s|$)")


class Measure(NamedTuple):
    """A rule, what was measured, and the limit; `at_least`: values below it fail, otherwise values above it."""

    rule: str
    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def fails(self) -> bool:
        """Whether the text breaks the rule."""
        return self.value < self.limit if self.at_least else self.value > self.limit

    def __str__(self) -> str:
        sign = ("<" if self.at_least else ">") if self.fails else ("≥" if self.at_least else "≤")
        return f"{self.name} {self.value:.4g} {sign} {self.limit:.4g}"


@dataclass(frozen=True)
class Quality:
    """The step. `scope`: "web" judges the texts of web pages, "all" every document."""

    scope: Literal["web", "all"] = "web"
    name: str = "quality"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        verdicts = []
        for text, language, meta in zip(
            *(rows[name].to_pylist() for name in ("text", "language", "meta")), strict=True
        ):
            page = is_page(meta)
            judged = page or self.scope == "all"
            verdicts.append(judge(text, quality_thresholds(language), page) if judged else Verdict(text))
        return carry_out(rows, verdicts)


def judge(text: str, limits: QualityThresholds, page: bool) -> Verdict:
    """What becomes of a text: lines of the page's own taken out, then dropped if it breaks a rule."""
    kept, lines = without_page_lines(text, limits) if page else (text, [])
    broken = failing(kept, limits, page)
    if broken:
        return Verdict(None, (Note(broken.rule, str(broken)),))
    return Verdict(kept, (Note("page_lines", f"{len(lines)}: {lines[0][:80]}"),) if lines else ())


def failing(text: str, limits: QualityThresholds, page: bool = True) -> Measure | None:
    """The first rule that the text breaks; the costly ones are looked at last."""
    return next((measure for measure in measures(text, limits, page) if measure.fails), None)


def measures(text: str, limits: QualityThresholds, page: bool = True) -> Iterator[Measure]:
    """Every rule's measure of a text, one after the other; those that only make sense for a page where it is one (a book
    may be long, and a brace in it is no code).
    """
    words = count_words(text)
    yield Measure("number_of_words", "words", len(words.words), limits.fewest_words, at_least=True)
    if page:
        yield Measure("number_of_words", "words", len(words.words), limits.most_words)
    yield from _of_words(text, words, limits)
    lines = [line for line in map(str.strip, text.split("\n")) if line]
    yield from _of_lines(lines, words, limits, page)
    if page:
        yield from _of_pages(text, limits)
    yield from _of_repetition(text, words, limits)


def _of_words(text: str, words: Words, limits: QualityThresholds) -> Iterator[Measure]:
    count = max(1, len(words.words))
    yield Measure("word_length", "mean", words.mean_length, limits.shortest_mean_word, at_least=True)
    yield Measure("word_length", "mean", words.mean_length, limits.longest_mean_word)
    ellipses = text.count("...") + text.count("…")
    yield Measure("symbols", "#", text.count("#") / count, limits.most_symbols_per_word)
    yield Measure("symbols", "…", ellipses / count, limits.most_symbols_per_word)
    share = words.with_letters / count
    yield Measure("words_without_letters", "with letters", share, limits.fewest_words_with_letters, at_least=True)
    if limits.stop_words:
        found = sum(words.counts[word] for word in limits.stop_words)
        yield Measure("stop_words", "stop words", found, limits.fewest_stop_words, at_least=True)


def _of_lines(lines: list[str], words: Words, limits: QualityThresholds, page: bool) -> Iterator[Measure]:
    count = max(1, len(lines))
    yield Measure("bullets", "lines", sum(line.startswith(BULLETS) for line in lines) / count, limits.most_bullet_lines)
    cut = sum(line.endswith(("...", "…")) for line in lines)
    yield Measure("ellipses", "lines", cut / count, limits.most_ellipsis_lines)
    ended = sum(line.endswith(ENDS) or _SENTENCE_END.search(line) is not None for line in lines)
    yield Measure("line_ends", "lines", ended / count, limits.fewest_line_ends, at_least=True)
    breaks = (len(lines) - 1) / max(1, len(words.words))
    yield Measure("line_breaks", "for each word", breaks, limits.most_line_breaks)
    repeated = list(_again(lines))
    if page:  # in a printed play the names of who speaks are half of the lines
        yield Measure("repeated_lines", "lines", len(repeated) / count, limits.most_repeated_lines)
    share = sum(map(len, repeated)) / max(1, sum(map(len, lines)))
    yield Measure("repeated_lines", "characters", share, limits.most_repeated_line_characters)


def _again(lines: Iterable[str]) -> Iterator[str]:
    """The lines that came before."""
    seen: set[str] = set()
    for line in lines:
        if line in seen:
            yield line
        seen.add(line)


def _of_pages(text: str, limits: QualityThresholds) -> Iterator[Measure]:
    sentences = sum(1 for _ in zip(range(limits.fewest_sentences), _SENTENCE_END.finditer(text), strict=False))
    yield Measure("number_of_sentences", "sentences", sentences, limits.fewest_sentences, at_least=True)
    if not limits.curly_brackets:
        yield Measure("curly_brackets", "{", text.count("{"), 0)
    if not limits.lorem_ipsum:
        yield Measure("lorem_ipsum", "lorem ipsum", text.lower().count("lorem ipsum"), 0)


def _of_repetition(text: str, words: Words, limits: QualityThresholds) -> Iterator[Measure]:
    longest = max((*limits.most_in_top_ngram, *limits.most_in_repeated_ngrams))
    characters = max(1, len(text))
    for n, places in repeated_ngrams(words.words, longest):
        if n in limits.most_in_top_ngram:
            share = characters_in_top(words.words, n, places) / characters
            yield Measure("top_phrase", f"{n}", share, limits.most_in_top_ngram[n])
        if n in limits.most_in_repeated_ngrams:
            share = characters_repeated(words.words, n, places) / characters
            yield Measure("repeated_phrases", f"{n}", share, limits.most_in_repeated_ngrams[n])


def without_page_lines(text: str, limits: QualityThresholds) -> tuple[str, list[str]]:
    """The text without lines that tell of cookies, terms of use or JavaScript, or hold an endless word; and those lines."""
    lowered = text.lower()
    if not any(phrase in lowered for phrase in limits.line_phrases) and not _endless(text, limits.longest_word):
        return text, []
    kept, gone = [], []
    for line in text.split("\n"):
        (gone if _is_of_the_page(line, limits) else kept).append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip() if gone else text, gone


def _is_of_the_page(line: str, limits: QualityThresholds) -> bool:
    lowered = line.lower()
    return any(phrase in lowered for phrase in limits.line_phrases) or _endless(line, limits.longest_word)


def _endless(text: str, longest: int) -> bool:
    return len(text) > longest and max(map(len, text.split()), default=0) > longest

"""Thresholds of the filters by language, from the data file that says where each value comes from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class LanguageThresholds:
    """When a text counts as foreign."""

    margin: float
    shortest: int
    block: int


@dataclass(frozen=True)
class QualityThresholds:
    """Limits of the quality rules; the data file says what each means and where it comes from."""

    fewest_words: int
    most_words: int
    shortest_mean_word: float
    longest_mean_word: float
    most_symbols_per_word: float
    most_bullet_lines: float
    most_ellipsis_lines: float
    fewest_words_with_letters: float
    fewest_stop_words: int
    stop_words: frozenset[str]
    fewest_line_ends: float
    most_line_breaks: float
    most_repeated_lines: float
    most_repeated_line_characters: float
    most_in_top_ngram: dict[int, float]
    most_in_repeated_ngrams: dict[int, float]
    fewest_sentences: int
    curly_brackets: bool
    lorem_ipsum: bool
    longest_word: int
    line_phrases: tuple[str, ...]


@dataclass(frozen=True)
class ToxicityThresholds:
    """Shares of a document's words in toxic sentences: above `tag` it is told, above `drop` it goes."""

    tag: float
    drop: float


@lru_cache(maxsize=64)
def language_thresholds(language: str) -> LanguageThresholds:
    """Thresholds of the language step."""
    return LanguageThresholds(**_table(language, "language"))


@lru_cache(maxsize=64)
def quality_thresholds(language: str) -> QualityThresholds:
    """Thresholds of the quality step."""
    table = _table(language, "quality")
    table["stop_words"] = frozenset(table["stop_words"])
    table["line_phrases"] = tuple(table["line_phrases"])
    for name in ("most_in_top_ngram", "most_in_repeated_ngrams"):
        table[name] = {int(length): limit for length, limit in table[name].items()}
    return QualityThresholds(**table)


@lru_cache(maxsize=64)
def toxicity_thresholds(language: str) -> ToxicityThresholds:
    """Thresholds of the toxicity step."""
    return ToxicityThresholds(**_table(language, "toxicity"))


def _table(language: str, step: str) -> dict[str, Any]:
    """The values of the default and, over them, of the language; "pt-BR" counts as "pt"."""
    known = _file()
    own = known.get(language.partition("-")[0].lower(), {}).get(step, {})
    return {**known["default"][step], **own}


@lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    return tomllib.loads((files("treino.corpus.filters") / "thresholds.toml").read_text(encoding="utf-8"))

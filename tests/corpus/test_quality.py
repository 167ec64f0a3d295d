"""Quality rules: every measure against a slow independent reference, on pages damaged in every way."""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus.filtering import damaged_page, page, rows_of

from treino.corpus.filters.ngrams import characters_in_top, characters_repeated, repeated_ngrams
from treino.corpus.filters.quality import Quality, failing, judge, measures, without_page_lines
from treino.corpus.filters.thresholds import quality_thresholds
from treino.corpus.filters.words import PUNCTUATION

PT = quality_thresholds("pt")


def slow_top(words: list[str], n: int) -> int:
    """Characters in all occurrences of the most frequent n-gram, the earliest of equals, 0 where none occurs twice."""
    grams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    times = dict.fromkeys(grams, 0)
    for gram in grams:
        times[gram] += 1
    most = max(times.values(), default=0)
    top = next((gram for gram in grams if times[gram] == most), "")
    return most * len(top) if most > 1 else 0


def slow_repeated(words: list[str], n: int) -> int:
    """Characters under n-grams that came before, with the spaces inside each stretch."""
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    begins = [gram in seen for gram, seen in zip(grams, _before(grams), strict=True)]
    covered = [any(begins[max(0, i - n + 1) : i + 1]) for i in range(len(words))]
    # A space belongs to a stretch that goes on behind it; stretches that touch are one.
    spaces = sum(
        any(begins[max(0, i - n + 2) : i + 1]) or (covered[i] and begins[i + 1 : i + 2] == [True])
        for i in range(len(words) - 1)
    )
    return sum(len(word) for word, under in zip(words, covered, strict=True) if under) + spaces


def _before(grams: list[tuple[str, ...]]) -> Iterator[set[tuple[str, ...]]]:
    """For each n-gram, those that came before it."""
    seen: set[tuple[str, ...]] = set()
    for gram in grams:
        yield seen
        seen.add(gram)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["a", "bê", "cão", "dd"]), max_size=40))
def test_repetition_is_what_a_slow_count_finds(words: list[str]) -> None:
    found = {
        n: (characters_in_top(words, n, places), characters_repeated(words, n, places))
        for n, places in repeated_ngrams(words, 10)
    }
    assert found == {n: (slow_top(words, n), slow_repeated(words, n)) for n in range(2, 11)}


def slow_measures(text: str) -> dict[tuple[str, str], float]:
    """Every measure by its definition, one pass for each, over lists that are made anew."""
    marks = re.escape(PUNCTUATION)
    bare = [re.sub(rf"^[{marks}]+|[{marks}]+$", "", raw) for raw in re.split(r"\s+", text)]
    words = [word for word in bare if word]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    again = [line for number, line in enumerate(lines) if line in lines[:number]]
    ends = tuple(".!?…\"'”’»:;")
    found: dict[tuple[str, str], float] = {
        ("number_of_words", "words"): len(words),
        ("word_length", "mean"): sum(len(word) for word in words) / len(words),
        ("symbols", "#"): len([c for c in text if c == "#"]) / len(words),
        ("symbols", "…"): (len(re.findall(r"\.\.\.", text)) + len(re.findall("…", text))) / len(words),
        ("words_without_letters", "with letters"): len([w for w in words if re.search(r"[^\W\d_]", w)]) / len(words),
        ("stop_words", "stop words"): len([word for word in words if word in PT.stop_words]),
        ("bullets", "lines"): len([line for line in lines if line[0] in "•-*·–►●▪‣"]) / len(lines),
        ("ellipses", "lines"): len([line for line in lines if re.search(r"(\.\.\.|…)$", line)]) / len(lines),
        ("line_ends", "lines"): len([x for x in lines if x[-1] in ends or re.search(r"[.!?…][\"'”’»)]*\s", x)])
        / len(lines),
        ("line_breaks", "for each word"): (len(lines) - 1) / len(words),
        ("repeated_lines", "lines"): len(again) / len(lines),
        ("repeated_lines", "characters"): sum(map(len, again)) / sum(map(len, lines)),
        ("curly_brackets", "{"): len(re.findall("{", text)),
        ("lorem_ipsum", "lorem ipsum"): len(re.findall("lorem ipsum", text, re.I)),
        ("number_of_sentences", "sentences"): min(3, len(re.findall(r"[.!?…][\"'”’»)]*(?=\s|$)", text))),
    }
    for n in range(2, 5):
        found["top_phrase", str(n)] = slow_top(words, n) / len(text)
    for n in range(5, 11):
        found["repeated_phrases", str(n)] = slow_repeated(words, n) / len(text)
    return found


def slow_verdict(text: str) -> set[str]:
    """The rules that a text breaks, by limits written out here once more."""
    found = slow_measures(text)
    outside = {
        ("number_of_words", "words"): (50, 100_000),
        ("word_length", "mean"): (3, 13),
        ("symbols", "#"): (0, 0.1),
        ("symbols", "…"): (0, 0.1),
        ("words_without_letters", "with letters"): (0.814, 1),
        ("stop_words", "stop words"): (2, 10**9),
        ("bullets", "lines"): (0, 0.9),
        ("ellipses", "lines"): (0, 0.3),
        ("line_ends", "lines"): (0.154, 1),
        ("line_breaks", "for each word"): (0, 0.23),
        ("repeated_lines", "lines"): (0, 0.325),
        ("repeated_lines", "characters"): (0, 0.1),
        ("number_of_sentences", "sentences"): (3, 3),
        ("curly_brackets", "{"): (0, 0),
        ("lorem_ipsum", "lorem ipsum"): (0, 0),
    }
    for n, limit in {2: 0.093, 3: 0.117, 4: 0.139}.items():
        outside["top_phrase", str(n)] = (0, limit)
    for n, limit in {5: 0.19, 6: 0.172, 7: 0.154, 8: 0.142, 9: 0.131, 10: 0.12}.items():
        outside["repeated_phrases", str(n)] = (0, limit)
    return {rule for (rule, name), (low, high) in outside.items() if not low <= found[rule, name] <= high}


def test_measures_and_verdicts_are_those_of_the_reference() -> None:
    """On 84 pages, most of them damaged: every rule fires somewhere, and none where the reference has it not."""
    fired: Counter[str] = Counter()
    for number in range(84):
        text = damaged_page(number)
        reference = slow_measures(text)
        for measure in measures(text, PT):
            assert measure.value == pytest.approx(reference[measure.rule, measure.name]), (number, measure)
        broken = failing(text, PT)
        wanted = slow_verdict(text)
        assert (broken is None) == (not wanted), (number, broken, wanted)
        if broken:
            assert broken.rule in wanted
        fired.update(wanted)
    never = {measure.rule for measure in measures(page(0), PT)} - set(fired)
    assert never == set(), f"no page breaks {never}"
    assert fired.total() < 2 * 84


def test_pages_are_judged_and_other_texts_left_alone() -> None:
    texts = [page(1), "Curto.", "Compre! " * 100]
    outcome = Quality()(rows_of(texts))
    assert outcome.rows["text"].to_pylist() == texts[:1]
    assert [(row["rule"], row["detail"]) for row in outcome.record] == [
        ("number_of_words", "words 1 < 50"),
        ("stop_words", "stop words 0 < 2"),
    ]
    for kind in ("", "book", "json", "portrait"):
        assert Quality()(rows_of(texts, kind)).rows.num_rows == 3
    assert Quality("all")(rows_of(texts, "")).rows.num_rows == 1


def test_a_book_may_be_long_and_a_play_may_repeat_names() -> None:
    draw = random.Random(1)
    words = [*["de", "que"] * 200, *("".join(draw.choices("abcdefgilmnoprstuv", k=6)) for _ in range(5000))]
    long = "\n".join(" ".join(draw.choices(words, k=12)) + "." for _ in range(9000))
    assert len(long.split()) > PT.most_words
    assert str(failing(long, PT)).startswith("words")
    assert failing(long, PT, page=False) is None
    play = "\n".join(f"D. LUÍSA\n{line}" for line in long.split("\n")[:60])
    assert str(failing(play, PT)).startswith("lines")
    assert failing(play, PT, page=False) is None


def test_lines_of_the_page_go_and_the_text_stays() -> None:
    text = page(5)
    notice = "Este site utiliza cookies e tem uma política de privacidade."
    kept, gone = without_page_lines(f"{notice}\n\n{text}\n{'x' * 1001}\n", PT)
    assert (kept, gone) == (text, [notice, "x" * 1001])
    assert without_page_lines(text, PT) == (text, [])
    verdict = judge(f"{notice}\n\n{text}", PT, page=True)
    assert verdict.text == text
    assert [note.rule for note in verdict.notes] == ["page_lines"]


def test_thresholds_of_a_language_replace_the_default_ones() -> None:
    """FineWeb-2's configs/por_Latn.yml, value by value; a language without a table has Gopher's and FineWeb's."""
    assert (PT.longest_mean_word, PT.shortest_mean_word, PT.fewest_words_with_letters) == (13, 3, 0.814)
    assert (PT.fewest_line_ends, PT.most_line_breaks, PT.most_repeated_lines) == (0.154, 0.23, 0.325)
    assert PT.most_in_top_ngram == {2: 0.093, 3: 0.117, 4: 0.139}
    assert PT.most_in_repeated_ngrams == {5: 0.19, 6: 0.172, 7: 0.154, 8: 0.142, 9: 0.131, 10: 0.12}
    assert {"de", "que", "é", "foi"} <= PT.stop_words and len(PT.stop_words) == 16
    assert quality_thresholds("pt-BR") == PT
    assert quality_thresholds("sw").longest_mean_word == 10
    assert quality_thresholds("sw").stop_words == frozenset()
    assert set(string.punctuation) < set(PUNCTUATION)

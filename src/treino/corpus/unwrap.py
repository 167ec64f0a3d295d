"""Hard wraps undone: lines that were broken at a fixed width become paragraphs again; verse and lists stay as they are."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Sequence

NARROWEST, WIDEST = 40, 120
"""A wrapped text's width lies between these."""

FEWEST_LINES = 4
STRETCH = 200
"""Lines whose width is judged together."""

_ENDS_SENTENCE = '.!?:…”"»)'
_BEGINS_ANEW = re.compile(r"^([—–-]\s|[•*·]\s|\d+[.)]\s|[IVXLCDM]+[.)]?$|\|)")


def wrap_width(lines: Sequence[str]) -> int | None:
    """Width at which the lines were wrapped, or None.

    In wrapped prose a line is followed by another only because the next word did not fit: for nearly all lines inside
    paragraphs, the line and the first word of the next one together are wider than the width. Verse fails this test.
    """
    full = [line for line in lines if line]
    if len(full) < FEWEST_LINES:
        return None
    lengths = sorted(len(line) for line in full)
    width = lengths[min(len(lengths) - 1, int(0.98 * len(lengths)))]
    if not NARROWEST <= width <= WIDEST or lengths[-1] > 2 * WIDEST:
        return None
    near = sum(length >= 0.75 * width for length in lengths) / len(lengths)
    return width if near >= 0.5 and not _is_verse(full) else None


def _is_verse(lines: Sequence[str]) -> bool:
    """Whether lines begin with a capital though the one before ends no sentence: verses do, wrapped prose seldom does."""
    following = [line for before, line in itertools.pairwise(lines) if before[-1] not in _ENDS_SENTENCE]
    letters = [first for line in following if (first := next(filter(str.isalpha, line), ""))]
    return bool(letters) and sum(map(str.isupper, letters)) > 0.5 * len(letters)


def unwrap(text: str) -> str:
    """Join the lines of wrapped paragraphs; text that is not wrapped comes back as it was.

    The width is judged stretch by stretch, so that a poem in a book of prose keeps its lines. Where most of a text is
    wrapped at one width, a stretch that has too few full lines to show it (a long dialogue) is taken to be so, too.
    """
    lines = text.split("\n")
    stretches = [lines[first : first + STRETCH] for first in range(0, len(lines), STRETCH)]
    widths = [wrap_width(stretch) for stretch in stretches]
    known = [width for width in widths if width is not None]
    common = statistics.median_low(known) if 2 * len(known) > len(stretches) else None
    out: list[str] = []
    for stretch, own in zip(stretches, widths, strict=True):
        width = own or (common if common and _may_be_wrapped(stretch, common) else None)
        out += stretch if width is None else _join(stretch, width)
    return "\n".join(out)


def _may_be_wrapped(lines: Sequence[str], width: int) -> bool:
    full = [line for line in lines if line]
    fit = sum(len(line) <= 1.05 * width for line in full)
    return fit >= 0.9 * len(full) > 0 and not _is_verse(full)


def _join(lines: Sequence[str], width: int) -> list[str]:
    paragraphs: list[str] = []
    previous = ""
    for line in lines:
        first_word = line.split(" ", 1)[0]
        # A line much wider than the others was never wrapped: nothing of it went to the next one.
        did_not_fit = len(previous) <= 1.1 * width and len(previous) + 1 + len(first_word) > 0.94 * width
        if previous and line and did_not_fit and not _BEGINS_ANEW.match(line):
            paragraphs[-1] = _glue(paragraphs[-1], line)
        else:
            paragraphs.append(line)
        previous = line
    return paragraphs


def _glue(paragraph: str, line: str) -> str:
    """Join two lines; a word divided at the line's end is made whole, a hyphen before a pronoun stays."""
    divided = re.search(r"[a-zà-ÿ]-$", paragraph) and re.match(r"[a-zà-ÿ]", line)
    if divided:
        pronoun = re.match(r"(me|te|se|nos|vos|lhe|lhes|lo|la|los|las|no|na|nas|o|a|os|as|ei|ia|iam|ão)\b", line)
        return paragraph + line if pronoun else paragraph[:-1] + line
    return f"{paragraph} {line}"

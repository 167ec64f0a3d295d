"""Hard wraps undone: lines that were broken at a fixed width become paragraphs again; verse and lists stay as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence

NARROWEST, WIDEST = 40, 120
"""A wrapped text's width lies between these."""

FEWEST_LINES = 4
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
    return width if near >= 0.5 else None


def unwrap(text: str) -> str:
    """Join the lines of wrapped paragraphs; text that is not wrapped comes back as it was.

    The width is judged stretch by stretch (up to 200 lines), so that a poem in a book of prose keeps its lines.
    """
    lines = text.split("\n")
    out: list[str] = []
    for first in range(0, len(lines), 200):
        stretch = lines[first : first + 200]
        width = wrap_width(stretch)
        out += stretch if width is None else _join(stretch, width)
    return "\n".join(out)


def _join(lines: Sequence[str], width: int) -> list[str]:
    paragraphs: list[str] = []
    previous = ""
    for line in lines:
        first_word = line.split(" ", 1)[0]
        did_not_fit = len(previous) + 1 + len(first_word) > 0.94 * width
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

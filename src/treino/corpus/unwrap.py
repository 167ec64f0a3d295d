"""Hard wraps undone: lines that were broken at a fixed width become paragraphs again; verse, theatre and lists stay."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

NARROWEST, WIDEST = 40, 120
"""A wrapped text's width lies between these."""

FEWEST_LINES = 4
STRETCH = 200
"""Lines that are judged together."""

FULL, NEARLY_FULL = 0.94, 0.8
"""A line is full where the next word would have taken it beyond this share of the width. Letters of unequal widths make
lines of unequal lengths: the lower share counts where a sentence plainly goes on.
"""

_BEGINS_ANEW = re.compile(r"[—–-]\s*[^\sa-zà-ÿ]|[•*·]\s|\d{1,3}[.)]\s|[IVXLCDM]+[.)]?$|\|")
_ENDS, _CLOSERS = ".!?…:;", "\"'”’»)"
_DIVIDED = re.compile(r"[a-zà-ÿ]-$")
_WORD = re.compile(r"\w+(?:-\w+)*")
_PRONOUN = re.compile(
    r"(me|te|se|nos|vos|lhes?|l[oa]s?|n[oa]s?|[oa]s?|lh[oa]s?|m[oa]s?|t[oa]s?|ei|ás?|ia|íamos|iam|emos|ão)\b"
)


def wrap_width(lines: Sequence[str]) -> int | None:
    """Width at which the lines were wrapped, or None.

    In wrapped prose a sentence goes on in the next line only because the next word did not fit. So of the *breaks* in the
    middle of a sentence (no full stop before, a small letter after) nearly all are at full lines, they are no rarity
    among the full lines, and most full lines end within a clause. Verse begins its lines with capitals, or ends them
    where a clause ends; names and headings between the prose break no sentence.
    """
    if sum(map(bool, lines)) < FEWEST_LINES:
        return None
    breaks = [(one, two) for one, two in pairwise(lines) if is_break(one, two)]
    lengths = sorted(len(one) for one, _ in breaks)
    width = lengths[int(0.8 * len(lengths))] if lengths else 0
    if not NARROWEST <= width <= WIDEST:
        return None
    if _every_line_is_full(lines):
        return width
    full = [one for one, two in pairwise(lines) if one and two and is_full(one, two, NEARLY_FULL * width)]
    at_full_lines = sum(is_full(one, two, NEARLY_FULL * width) for one, two in breaks)
    ends_of_clauses = sum(not (line[-1].isalnum() or line[-1] == "_") for line in full)
    wrapped = (
        len(breaks) >= max(2, 0.3 * len(full))
        and at_full_lines >= 0.85 * len(breaks)
        and ends_of_clauses <= 0.5 * len(full)
    )
    return width if wrapped else None


def _every_line_is_full(lines: Sequence[str]) -> bool:
    """Whether no line but a paragraph's last had room for one more word: the certificate of a short wrapped text."""
    widest = max(map(len, lines))
    within = [(one, two) for one, two in pairwise(lines) if one and two]
    return widest <= WIDEST and len(within) >= FEWEST_LINES - 1 and all(is_full(*pair, widest) for pair in within)


def is_break(line: str, following: str) -> bool:
    """Whether a sentence goes on from a line to the next one."""
    return bool(line) and following[:1].islower() and not ends_sentence(line)


def ends_sentence(line: str) -> bool:
    """Whether a line ends with a full stop or its like, in quotation marks or not."""
    return line.rstrip(_CLOSERS).endswith(tuple(_ENDS))


def is_full(line: str, following: str, width: float) -> bool:
    """Whether the first word of the following line would have taken this one beyond the width."""
    return len(line) + 1 + len(following.split(" ", 1)[0]) > width


def unwrap(text: str) -> str:
    """Join the lines of wrapped paragraphs; text that is not wrapped comes back as it was.

    The width is judged stretch by stretch (up to 200 lines), so that a poem in a book of prose keeps its lines.
    """
    lines = text.split("\n")
    widths = [wrap_width(lines[first : first + STRETCH]) for first in range(0, len(lines), STRETCH)]
    if not any(widths):
        return text
    words: Counter[str] | None = None
    paragraphs: list[list[str]] = [[lines[0]]]
    for number, (previous, line) in enumerate(pairwise(lines)):
        width = widths[number // STRETCH]
        if not (width and previous and line and _belongs_to(previous, line, width)):
            paragraphs.append([line])
        elif previous[-1] == "-" and _DIVIDED.search(previous) and line[0].islower():
            words = Counter(_WORD.findall(text.lower())) if words is None else words
            paragraphs[-1][-1] = rejoined(paragraphs[-1][-1], line, words)
        else:
            paragraphs[-1].append(line)
    return "\n".join(" ".join(paragraph) for paragraph in paragraphs)


def _belongs_to(previous: str, line: str, width: int) -> bool:
    """Whether a line goes on where a full one ended, and is no speech, item or heading in capitals."""
    if not is_full(previous, line, width * (NEARLY_FULL if is_break(previous, line) else FULL)):
        return False
    heading = line.isupper() and not previous.isupper() and ends_sentence(previous)
    return not heading and not _BEGINS_ANEW.match(line)


def rejoined(start: str, line: str, words: Counter[str]) -> str:
    """A word divided at a line's end, whole or with its hyphen: as the text has it elsewhere.

    Where it does not tell, the hyphen stays before a pronoun, and between two parts that are words by themselves.
    """
    first, second = re.findall(r"[\w-]+", start)[-1].lower().rstrip("-"), _WORD.findall(line)[0].lower()
    whole, hyphened = first + second in words, f"{first}-{second}" in words
    compound = words[first] > 1 and words[second] > 1  # once is what the division itself shows
    keep = hyphened if whole != hyphened else compound or _PRONOUN.match(line)
    return start + line if keep else start[:-1] + line

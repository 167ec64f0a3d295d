"""How hard a text is, by figures that need no model: larger is harder.

Flesch's reading ease in Portuguese: 248.835 − 1.015 · words per sentence − 84.6 · syllables per word (Martins, Ghiraldelo,
Nunes and Oliveira 1996, *Readability formulas applied to textbooks in Brazilian Portuguese*; 42 more than for English).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$|[\"'”’»)])|\n\s*\n")
_GLIDE = re.compile(r"(?<=[qg])u(?=[aeiouáàâãéêíóôõ])")
_ACCENTED = re.compile("[áâéêíóôúàãõ]")
_NUCLEI = re.compile(
    "ã[eo]|õe|ãi|^ao(?=s?$)"  # nasal diphthongs, and ao(s)
    "|[aáâeéêoóô][iu](?![nm](?:[^aeiouáâãéêíóôõúh]|$)|nh|[rlz](?:[^aeiouáâãéêíóôõú]|$))"  # falling ones, but rainha, ruim, juiz
    "|iu(?![nm])|ui(?!nh|ç|[nm](?:[^aeiou]|$)|[rlz]$)"
    "|[aeiouyáàâãéêíóôõúü]"
)
_RISING = re.compile("(?:[iu][aeo]|eo|ea|oa|ie)s?$")


def syllables(word: str) -> int:
    """Syllables of a Portuguese word, by its vowels: diphthongs count once, vowels that part count twice.

    At the end of a word with a written accent before it (história, série), i and u before a vowel make one syllable with it; in
    others (dia, pavio, perua) they make two. These are rules of thumb, not a dictionary.
    """
    total = 0
    for part in _GLIDE.sub("", word.lower()).split("-"):
        count = len(_NUCLEI.findall(part))
        ending = _RISING.search(part)
        if ending and count > 1 and _ACCENTED.search(part[: ending.start()]):
            count -= 1
        total += max(1, count)
    return total


def reading_ease(text: str) -> float:
    """Flesch's reading ease in Portuguese (see the module); the higher, the easier. A text without words has 248.835."""
    words = WORD.findall(text)
    if not words:
        return 248.835
    sentences = sum(bool(WORD.search(part)) for part in _SENTENCE_END.split(text))
    return 248.835 - 1.015 * len(words) / max(1, sentences) - 84.6 * sum(map(syllables, words)) / len(words)


def length(text: str) -> float:
    """Words."""
    return float(len(WORD.findall(text)))


def compression(text: str) -> float:
    """Bytes that DEFLATE makes of the text, divided by its bytes: what repeats itself packs well, and is easy to foretell."""
    data = text.encode("utf-8", "surrogatepass")
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)  # raw: no header weighs on short texts
    return len(packer.compress(data) + packer.flush()) / max(1, len(data))


DIFFICULTIES: dict[str, Callable[[str], float]] = {
    "length": length,
    "compression": compression,
    "readability": lambda text: -reading_ease(text),
}
"""Difficulties by the name that a recipe gives them; a model's loss comes from elsewhere."""

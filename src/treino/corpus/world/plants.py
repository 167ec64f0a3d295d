"""Plants: copies, near copies, damage, rude lines and personal data, each a pure function of (settings, seed, index)."""

from __future__ import annotations

import html.entities
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from treino.corpus.world.grammar import pick, stream
from treino.corpus.world.personal import say_decoy, say_personal

if TYPE_CHECKING:
    from treino.recipe import WorldSettings

WRAP_WIDTH = 72
SIMILARITIES, SIMILARITY_STEP = (0.7, 0.8, 0.9), 0.05
"""Jaccard similarities that near copies are brought near to, and how far above one they may stay."""
_ATTEMPTS = 20
_FILLERS = ("também", "ainda", "sempre", "talvez", "realmente", "então")
_CONTROLS = "\x07\x0b\x1f\x7f\u200b\ufeff"
_ENTITIES = {code: f"&{name};" for code, name in html.entities.codepoint2name.items() if code > 127 or chr(code) == '"'}
_RUDE = (
    "Cala a boca, seu bobalhão, que ninguém quer ouvir você.",
    "Você é um chato insuportável e um preguiçoso.",
    "Que gente burra, só diz besteira!",
    "Some daqui, seu palerma, seu inútil!",
    "Só um idiota acreditaria numa bobagem dessas.",
    "Sua opinião não vale nada, seu paspalho.",
    "Essa gente é toda nojenta e mentirosa.",
    "Vai tomar banho, seu porcalhão ridículo!",
)


@dataclass(frozen=True)
class Plant:
    """What is done to a document: "none", "duplicate", "near_duplicate", "noise", "toxic" or "personal_data", and to which
    original.
    """

    kind: str
    of: int | None = None


def plant(settings: WorldSettings, seed: int, index: int) -> Plant:
    """What is planted at that index. Copies are of an earlier document in which nothing is planted."""
    kind, uniform = _kind(settings, seed, index)
    if kind not in ("duplicate", "near_duplicate"):
        return Plant(kind, None if kind == "none" else index)
    for _ in range(_ATTEMPTS if index else 0):
        original = int(uniform() * index)
        if _kind(settings, seed, original)[0] == "none":
            return Plant(kind, original)
    return Plant("none")


def _kind(settings: WorldSettings, seed: int, index: int) -> tuple[str, Callable[[], float]]:
    uniform = stream(seed, "plant", index).random
    value = uniform()
    for kind, share in (
        ("duplicate", settings.duplicates),
        ("near_duplicate", settings.near_duplicates),
        ("noise", settings.noise),
        ("toxic", settings.toxic),
        ("personal_data", settings.personal_data),
    ):
        if value < share:
            return kind, uniform
        value -= share
    return "none", uniform


def apply(planted: Plant, text: str, seed: int, index: int) -> tuple[str, dict[str, Any]]:
    """The text after planting, and what the record says of it besides the kind."""
    uniform = stream(seed, "plant text", index).random
    if planted.kind == "near_duplicate":
        changed, similarity = near_copy(text, uniform)
        return changed, {"jaccard": round(similarity, 4)}
    if planted.kind == "noise":
        damage = pick(tuple(DAMAGES), uniform)
        damaged = DAMAGES[damage](text, uniform)
        if damaged == text:  # nothing of that kind to damage, as in a text without accents
            damage, damaged = "spaces", DAMAGES["spaces"](text, uniform)
        return damaged, {"damage": damage}
    if planted.kind == "toxic":
        line = pick(_RUDE, uniform)
        return f"{text} {line}", {"line": line}
    if planted.kind == "personal_data":
        personal, decoy = say_personal(uniform), say_decoy(uniform)
        details = {"personal": personal.kind, "value": personal.value, "decoy": decoy.value}
        return f"{text} {decoy.sentence} {personal.sentence}", details
    return text, {}


def near_copy(text: str, uniform: Callable[[], float]) -> tuple[str, float]:
    """The text with some words put in, left out or exchanged with their neighbour, never the text itself; and the Jaccard
    similarity of their word 5-grams, which is about .7, .8 or .9, each as often, where the text is long enough for it.
    """
    words, level = text.split(" "), pick(SIMILARITIES, uniform)
    changed, similarity = text, 1.0
    while changed == text or similarity > level + SIMILARITY_STEP:
        words = _edit(words, uniform)
        changed = " ".join(words)
        similarity = jaccard(text, changed)
    return changed, similarity


def _edit(words: list[str], uniform: Callable[[], float]) -> list[str]:
    """The words with one put in, left out or exchanged with its neighbour; the first stays where there is a choice."""
    place, action = 1 + int(uniform() * (len(words) - 2)), uniform()
    if action < 1 / 3 or len(words) < 4:
        return [*words[:place], pick(_FILLERS, uniform), *words[place:]]
    if action < 2 / 3:
        return words[:place] + words[place + 1 :]
    return [*words[: place - 1], words[place], words[place - 1], *words[place + 1 :]]


def jaccard(one: str, two: str, length: int = 5) -> float:
    """|A ∩ B| / |A ∪ B| of the sets of word n-grams, words being runs of letters and digits, their case aside.

    A text of fewer words has one n-gram, all of them.
    """
    first, second = (_grams(re.findall(r"[^\W_]+", text.casefold()), length) for text in (one, two))
    return len(first & second) / len(first | second) if first | second else 1.0


def _grams(words: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(words[start : start + length]) for start in range(max(1, len(words) - length + 1))}


def _mojibake(text: str, uniform: Callable[[], float]) -> str:
    """UTF-8 read as Windows-1252, and as Latin-1 where that has no character."""
    return "".join(_misread(byte) if byte > 127 else chr(byte) for byte in text.encode())


def _misread(byte: int) -> str:
    try:
        return bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return chr(byte)


def _controls(text: str, uniform: Callable[[], float]) -> str:
    """Invisible characters inside words, so that removing them restores the text."""
    characters = list(text)
    inside = [i for i in range(1, len(text)) if text[i - 1].isalpha() and text[i].isalpha()]
    for _ in range(3):
        place = pick(inside, uniform)
        characters[place] = pick(_CONTROLS, uniform) + text[place]
    return "".join(characters)


def _spaces(text: str, uniform: Callable[[], float]) -> str:
    """Some spaces doubled, at least the first."""
    head, *tail = text.split(" ")
    return head + "".join(("  " if n == 0 or uniform() < 0.15 else " ") + word for n, word in enumerate(tail))


def _entities(text: str, uniform: Callable[[], float]) -> str:
    """Accented letters and quotes as HTML entities."""
    return text.translate(_ENTITIES)


def _wraps(text: str, uniform: Callable[[], float]) -> str:
    """Lines broken hard at `WRAP_WIDTH` characters."""
    return textwrap.fill(text, WRAP_WIDTH, break_long_words=False, break_on_hyphens=False)


DAMAGES: dict[str, Callable[[str, Callable[[], float]], str]] = {
    "mojibake": _mojibake,
    "controls": _controls,
    "spaces": _spaces,
    "entities": _entities,
    "wraps": _wraps,
}

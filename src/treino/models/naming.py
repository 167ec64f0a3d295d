"""Which classes an answer of a remote model names, and how likely it held each."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

_THOUGHTS = re.compile(r"<think>.*?</think>", re.S)


def parse(text: str, labels: Sequence[str]) -> int | None:
    """The class that an answer names: of JSON its "label"; of other text, the whole, or the one class that is named in it
    (of names within each other the longest). None where that is no class, or more than one.
    """
    text = _THOUGHTS.sub(" ", text).strip()
    said = _json_in(text, "{")
    said = said.get("label") if isinstance(said, dict) else None
    if isinstance(said, str | int):
        return _number_of(str(said), labels)
    if (whole := _number_of(text, labels)) is not None:
        return whole
    names = _even_names(labels)
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    mentioned = set(re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", text.casefold())) if pattern else set()
    return names[mentioned.pop()] if len(mentioned) == 1 else None


def parse_several(text: str, labels: Sequence[str]) -> list[int] | None:
    """The classes, perhaps none, that an answer names: the "labels" of its JSON, or a bare list. None where it is no such list,
    or where one of its names is of no class.
    """
    text = _THOUGHTS.sub(" ", text).strip()
    said = _json_in(text, "[" if text.startswith("[") else "{")
    said = said.get("labels") if isinstance(said, dict) else said
    if not isinstance(said, list):
        return None
    found = {_number_of(str(name), labels) if isinstance(name, str | int) else None for name in said}
    return None if None in found else sorted(found)  # type: ignore[type-var]


def _number_of(name: str, labels: Sequence[str]) -> int | None:
    """The class of a name as it is, else but for case, quotes and full stops; None: of no class."""
    exact = {label.strip(): number for number, label in enumerate(labels)}
    return exact.get(name.strip(), _even_names(labels).get(_even(name)))


def _even_names(labels: Sequence[str]) -> dict[str, int]:
    """Labels but for case, quotes and full stops, with their numbers: those of which something is left and that stay apart."""
    even = [_even(label) for label in labels]
    return {name: number for number, name in enumerate(even) if name and even.count(name) == 1}


def _json_in(text: str, opening: str) -> Any:
    """The object ("{") or the list ("[") of an answer in JSON, which may stand in a fence; None where it has none."""
    start, end = text.find(opening), text.rfind({"{": "}", "[": "]"}[opening])
    if start < 0 or end < start:
        return None
    try:
        return json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None


def _even(text: str) -> str:
    return text.casefold().strip(" \t\n\"'`.,:;!*“”")


def chances(
    steps: Sequence[tuple[str, float, Sequence[tuple[str, float]]]], labels: Sequence[str], named: int
) -> np.ndarray | None:
    """Probabilities of the classes by the likeliest tokens in each place where the answer names one; None without them.

    Along the answer's own tokens t₁ … tₙ of the name, another token u in place i belongs to the class whose name goes on with
    it, and adds P(t₁) … P(tᵢ₋₁) · P(u) to it (shared evenly by several); the named class gets P(t₁) … P(tₙ). What is left of 1
    is spread evenly over all.
    """
    text = "".join(token for token, _, _ in steps).lower()
    name = labels[named].lower()
    start = text.rfind(name)
    if not steps or start < 0 or len(text) != sum(len(token) for token, _, _ in steps):
        return None
    mass, path, place = np.zeros(len(labels)), 0.0, 0
    for token, log, others in steps:
        end = place + len(token)
        if end > start and place < start + len(name):
            lead, said = token.lower()[: max(0, start - place)], text[start:place] if place > start else ""
            for other, chance in others:
                begun = other.lower()
                if begun == token.lower() or not begun.startswith(lead):
                    continue
                fits = _going_on(said + begun[len(lead) :], labels)
                mass[fits] += math.exp(path + chance) / max(1, len(fits))
            path += log
        place = end
    mass[named] += math.exp(path)
    total = mass.sum()
    return mass / total if total > 1 else mass + (1 - total) / len(labels)


def _going_on(begun: str, labels: Sequence[str]) -> list[int]:
    """The classes whose names go on with what was begun; else the one with the longest name that was begun and ended."""
    begun = begun.lstrip()
    if not begun:
        return []
    fits = [number for number, label in enumerate(labels) if label.lower().startswith(begun)]
    if fits:
        return fits
    ended = [number for number, label in enumerate(labels) if begun.startswith(label.lower())]
    return sorted(ended, key=lambda number: -len(labels[number]))[:1]

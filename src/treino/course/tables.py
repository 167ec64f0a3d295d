"""The labelled texts of a lab: the town's, or a user's table dealt by the seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from treino.errors import DataError
from treino.messages import N_
from treino.recipe import CleanSettings, LabelSettings, WorldSettings

Rows = list[tuple[str, str]]
"""Texts with their labels."""

FIRST_DRAW = 7000
"""Of the seeds of a lab's texts, apart from those of the recipes."""


def town(parts: Mapping[str, int], seed: int) -> dict[str, Rows]:
    """Texts of the town, as many as the parts hold, with the answers to three questions."""
    from treino.corpus.world.facts import World
    from treino.corpus.world.moods import outing_examples

    return outing_examples(World.build(WorldSettings(), 1), sum(parts.values()), FIRST_DRAW + seed)


def cut(rows: Rows, parts: Mapping[str, int]) -> dict[str, Rows]:
    """The first rows for the first part, and so on."""
    found, first = {}, 0
    for name, count in parts.items():
        found[name], first = rows[first : first + count], first + count
    return found


def dealt(path: Path, parts: Mapping[str, int], seed: int) -> dict[str, Rows]:
    """A table's rows, cleaned and each text once, as many as the parts ask for or in their proportion, the classes in
    proportion as well; what is set aside is told.

    Raises:
        DataError: where there are too few.
    """
    from treino.corpus.labelled.read import read_labelled
    from treino.corpus.labelled.split import cleaned, deal, limited
    from treino.corpus.sources.raw import Problems

    problems = Problems()
    rows = cleaned(read_labelled(path, LabelSettings(), problems), CleanSettings(), problems)
    problems.tell()
    count = sum(parts.values())
    shares = {name: size / count for name, size in parts.items() if size}
    by_part = deal(limited(rows, count, seed), shares, seed)
    known = {row.label for row in by_part["training"]}
    found = {name: [(row.text, row.label) for row in part if row.label in known] for name, part in by_part.items()}
    if len(known) < 2 or not all(found.values()):
        raise DataError(N_("{path} has too few labelled rows for the lab"), path=str(path))
    return found

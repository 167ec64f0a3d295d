"""What a stage is: one verb, one function, one folder of output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treino.messages import Message
from treino.pipeline.place import HERE, Place
from treino.recipe.load import LoadedRecipe


@dataclass(frozen=True)
class Work:
    """What a stage is given: the recipe, the folders that it reads by kind, its output folder, the locked decisions, and
    the records (`stage.json`) of the stages before it, the runs folder, for the one log that belongs to no run, and the
    place where a training works.
    """

    loaded: LoadedRecipe
    inputs: Mapping[str, Path]
    output: Path
    decisions: Mapping[str, Any] = field(default_factory=dict)
    records: Sequence[Mapping[str, Any]] = ()
    language: str = "en"
    runs: Path = field(default_factory=Path)
    place: Place = HERE


Decisions = dict[str, tuple[Any, Message, dict[str, Any]]]
"""Name of a decision → (value, why, figures that it was taken from)."""


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline, bound to its neighbours by *kinds* of artefact, never by their names: it reads the newest
    artefact of each kind it consumes, so a stage can be put between two others without a change to them or the runner.

    Attributes:
        name: the verb.
        version: raised whenever the stage's output changes for equal input; part of the cache key.
        consumes, produces: kinds of artefact, such as "documents".
        settings: the settings that it uses, as a JSON-able value; part of the cache key.
        run: does the work into `work.output` and returns facts: small, JSON-able, units in the names.
        reads: digests of what it reads outside the store (the user's files); part of the cache key.
        decide: measures what must be decided before it can run; taken once, then locked.
        decides: names of those decisions; part of the cache key are their values, save the ones in `informs`.
        informs: decisions that are kept for forecasts but do not change the output.
        records: whether it draws the records of all stages before it, whose keys are then part of its own.
        resumes: pattern of files in the partial output that make it worth keeping when a run is interrupted.
    """

    name: str
    version: int
    consumes: tuple[str, ...]
    produces: tuple[str, ...]
    settings: Callable[[LoadedRecipe, str], Any]
    run: Callable[[Work], dict[str, Any]]
    reads: Callable[[LoadedRecipe], Any] | None = None
    decide: Callable[[Work], Decisions] | None = None
    decides: tuple[str, ...] = ()
    informs: tuple[str, ...] = ()
    records: bool = False
    resumes: str = ""


Pipeline = tuple[Stage, ...]


def insert(pipeline: Pipeline, stage: Stage, *, after: str) -> Pipeline:
    """A pipeline with one more stage, behind the one named."""
    place = [item.name for item in pipeline].index(after) + 1
    return (*pipeline[:place], stage, *pipeline[place:])


def producer(pipeline: Pipeline, position: int, kind: str) -> Stage:
    """The nearest stage before `position` that produces a kind of artefact."""
    for stage in reversed(pipeline[:position]):
        if kind in stage.produces:
            return stage
    raise LookupError(f"no stage before {pipeline[position].name} produces {kind}")

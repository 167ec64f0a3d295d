"""A pilot of a comparison: every method briefly, on parts of the rows, and what would follow from all of them."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from treino import events, files
from treino.errors import DoesNotFit, UsageError
from treino.evaluation.learning_curve import Extrapolated, extrapolate, proportional
from treino.messages import N_
from treino.pipeline.api import run
from treino.pipeline.finetuning import Splits, measured_on, tuning_of
from treino.pipeline.stages import pipeline_of
from treino.recipe import Recipe
from treino.recipe.load import LoadedRecipe

LEAST_ROWS = 16
"""Rows of a class in the smallest part."""

LEAST_POINTS = 3
"""Parts that are tried even if they take longer than was given."""

SLOWER = 1.3
"""A part of more rows is expected to take so many times its share of the last one's time."""

UNITS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}


def duration(text: str) -> float:
    """`5min`, `90s`, `1.5h` in seconds.

    Raises:
        UsageError: for anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*(s|sec|min|m|h)\s*", text)
    seconds = float(found[1].replace(",", ".")) * UNITS[found[2]] if found else 0.0
    if not 0 < seconds < 1e7:
        raise UsageError(
            N_("{value} is no length of time"), where="--pilot", fix=N_("write it as 90s, 5min or 1h"), value=repr(text)
        )
    return seconds


def parts_of(rows: int, classes: int) -> list[int]:
    """Numbers of rows to be tried, each half of the next, from a few of each class to all."""
    found = [rows]
    while found[0] // 2 >= LEAST_ROWS * classes and len(found) < 8:
        found.insert(0, found[0] // 2)
    return found


def shared(loaded: LoadedRecipe, runs: Path) -> dict[str, Path]:
    """What all methods share, made once by the recipe's own stages: folders by kind."""
    pipeline = pipeline_of(loaded.recipe)
    before = pipeline[: [stage.name for stage in pipeline].index("finetune")]
    done = run(loaded, runs=runs, pipeline=before)
    return {kind: done.artefacts[stage.name].folder for stage in before for kind in stage.produces}


def pilot(recipe: Recipe, method: str, inputs: dict[str, Path], seconds: float, price: float) -> dict[str, Any]:
    """One method within so many seconds: a row of the comparison whose figures are calculated, and the `points` they are
    calculated from, each {rows, macro_f1, accuracy (of the validation rows, with the
    deviation that these leave, as macro_f1_spread and accuracy_spread), seconds}.
    """
    splits = Splits(inputs["labelled"])
    tuning = tuning_of(recipe, inputs, Path())
    settings = tuning.settled(recipe.finetune)
    row: dict[str, Any] = {"method": method, "run": None, "refused": None, "points": []}
    try:
        memory = tuning.arrange(settings)
    except DoesNotFit as refused:
        return row | {"refused": refused.message.plain()}
    points, counts = _points(recipe, splits, tuning, settings, seconds)
    sizes, everything = [point["rows"] for point in points], tuning.training.count
    given = {"judged": tuning.validation.count, "judged_then": len(splits.examples("test").texts), "seed": recipe.seed}
    quality = {
        name: _turned(
            extrapolate(
                *(sizes, [1 - point[name] for point in points], [point[f"{name}_spread"] for point in points]),
                everything,
                **given,
            )
        )
        for name in ("macro_f1", "accuracy")
    }
    time_then = proportional(sizes, [point["seconds"] for point in points], everything)
    spent = vars(time_then)
    return row | {
        **quality,
        "seconds": spent,
        "row_seconds": None,
        "peak_memory": memory,
        "trainable": counts["trainable"],
        "total": counts["total"],
        "forgetting": None,
        "cost": {name: price * value / 3600 for name, value in spent.items()} if price else None,
        "rows": everything,
        "points": points,
        "pilot_seconds": sum(point["seconds"] for point in points),
    }


def _deviation(interval: dict[str, float | None]) -> float:
    """Of a figure with its 95 % interval, which a single row has not."""
    low, high = interval["low"], interval["high"]
    return 0.5 if low is None or high is None else (high - low) / (2 * 1.96)


def _turned(error: Extrapolated) -> dict[str, float]:
    return {"mean": 1 - error.mean, "low": 1 - error.high, "high": 1 - error.low}


def _points(
    recipe: Recipe, splits: Splits, tuning: Any, settings: Any, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Trainings on ever more rows while there is time, then on other draws of the largest parts that the rest is enough for."""
    from treino.models.classifier import predict

    sizes = parts_of(tuning.training.count, len(splits.labels))
    points: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    begun, draw, index = time.monotonic(), 0, 0
    while True:
        part = tuning.on(_stratified(tuning.training.text_targets, sizes[index], recipe.seed + draw), draw)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="treino-pilot-") as place:
            classifier, facts = part.run(settings, files.make_private(Path(place) / "trial"))
        counts = facts["parameters"]
        chances = predict(classifier, tuning.validation, rows=tuning.rows_looked_at)
        truth = tuning.validation.text_targets.tolist()
        found = measured_on(recipe, truth, chances, splits.labels, classifier.thresholds)
        points.append(
            {
                "rows": sizes[index],
                **{name: found[name]["mean"] for name in ("macro_f1", "accuracy")},
                **{f"{name}_spread": _deviation(found[name]) for name in ("macro_f1", "accuracy")},
                "seconds": part.prepared + facts["train_seconds"],
            }
        )
        taken, left = time.monotonic() - started, seconds - (time.monotonic() - begun)
        events.emit("pilot.point", method=settings.method, **points[-1])
        following = index + 1
        if following < len(sizes) and (
            SLOWER * taken * sizes[following] / sizes[index] <= left or len(points) < LEAST_POINTS
        ):
            index = following
            continue
        draw += 1
        rate = taken / sizes[index]
        able = [place for place in range(index + 1) if rate * sizes[place] * SLOWER <= left]
        if not able and len(points) >= LEAST_POINTS:
            return points, counts
        if draw > 1 and len(points) >= 4 * len(sizes):
            return points, counts
        sizes, index = sizes[: index + 1], able[-1] if able else 0


def _stratified(targets: Sequence[int], count: int, seed: int) -> list[int]:
    """Numbers of so many texts, the classes in proportion, a smaller count always part of a larger one of the same seed."""
    import numpy as np

    draw = np.random.Generator(np.random.PCG64(seed))
    _, kinds = np.unique(np.asarray(targets), axis=0, return_inverse=True)  # of several classes: what they are together
    rank = np.empty(len(targets))
    for kind in range(int(kinds.max()) + 1):
        own = np.flatnonzero(kinds.ravel() == kind)
        rank[draw.permutation(own)] = (np.arange(len(own)) + draw.random()) / len(own)
    return sorted(np.argsort(rank, kind="stable")[:count].tolist())

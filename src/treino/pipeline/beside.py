"""A stage's forecast beside what the stage then took."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from treino import files
from treino.planning.forecast import SPREAD, compare

FORECAST = "records/forecast.json"

Beside = dict[str, dict[str, float | None]]


def beside(folder: Path, facts: Mapping[str, Any], peak_memory: int | None) -> Beside | None:
    """Rows of `treino.planning.forecast.compare` for a stage that trained; None for one without a forecast, or with one of
    documents (`treino.corpus.shards`).

    Early stopping leaves steps out: the seconds forecast for those that were taken stand beside the measured.
    """
    if facts.get("train_seconds") is None or not (folder / FORECAST).exists():
        return None
    forecast = files.read_json(folder / FORECAST)
    parameters = facts["parameters"]
    measured = {
        "parameters": parameters["total"] if isinstance(parameters, Mapping) else parameters,
        "seconds": facts["train_seconds"] + facts.get("prepare_seconds", 0.0),
        "tokens_per_second": facts.get("tokens_per_second"),
        "peak_memory": peak_memory,
    }
    if facts["steps"] < forecast["steps"]:
        before = forecast.get("before", 0.0)
        seconds = before + (forecast["seconds"] - before) * facts["steps"] / forecast["steps"]
        forecast |= {
            "seconds": seconds,
            "seconds_low": seconds * (1 - SPREAD),
            "seconds_high": seconds * (1 + SPREAD),
        }
    found = compare(forecast, {name: value for name, value in measured.items() if value is not None})
    if isinstance(parameters, Mapping):  # a classifier's head stands in the place of the model's
        found.pop("parameters", None)
    return found

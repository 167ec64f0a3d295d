"""The loop around fine-tuning: judge on validation, propose other settings, until the gate is passed or trials are spent.

A trial is a folder `trials/trial-000` that appears whole or not at all. What the next one tries is a function of the seed, its
own index and the results of the finished ones (the sampler is seeded anew for each index), so a search that was killed goes
on as if it had not been.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from treino import events, files
from treino.pipeline.store import CHECKPOINTS
from treino.recipe import FinetuneSettings

RESULT, JOURNAL = "result.json", "journal.log"
WEIGHTS = ("adapter", "model")
"""Folders of a trial that only the chosen one keeps."""
WORST = -1e3
"""Value of a trial whose loss ran away, or whose figures are undefined."""

Outcome = dict[str, Any]
"""What a trial found: `measures`, `gate` (rows of the gate), `value` (what the search raises), `facts`."""

RANDOM_TRIALS = 3
"""Trials drawn at random before results count for the next."""


def space(settings: FinetuneSettings, vary: Sequence[str]) -> dict[str, Any]:
    """What may be tried, around the recipe's own settings, by ratio: learning rates from a tenth to ten times, epochs from a
    half to twice, weight decay from 0.001 to 0.3, ranks of adapters from a quarter to four times; and dropout up to 0.4.
    """
    from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

    ranges: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(settings.learning_rate / 10, settings.learning_rate * 10, log=True),
        "epochs": IntDistribution(max(1, settings.epochs // 2), settings.epochs * 2, log=True),
        "dropout": FloatDistribution(0.0, 0.4),
        "weight_decay": FloatDistribution(1e-3, 0.3, log=True),
        "lora_rank": IntDistribution(max(1, settings.lora_rank // 4), min(4096, settings.lora_rank * 4), log=True),
    }
    return {name: ranges[name] for name in vary}


def propose(
    settings: FinetuneSettings, vary: Sequence[str], finished: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, Any]:
    """The settings of the next trial: those of the recipe first, then what the tree-structured Parzen estimator of Optuna
    (Bergstra et al. 2011) makes of the finished ones, each {tried, value} in the order of their indices.
    """
    index = len(finished)
    ranges = space(settings, vary)
    if not index:
        return {name: getattr(settings, name) for name in vary}
    import optuna

    digest = hashlib.sha256(f"{seed}\0{index}".encode()).digest()
    sampler = optuna.samplers.TPESampler(seed=int.from_bytes(digest[:4], "big"), n_startup_trials=RANDOM_TRIALS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a recipe's own value at the edge of a range
        study = _study(None, sampler)
        study.add_trials([_trial(row, ranges) for row in finished])
        trial = study.ask(ranges)
    return {name: _rounded(trial.params[name]) for name in vary}


def search(
    settings: FinetuneSettings,
    vary: Sequence[str],
    trials: int,
    run: Callable[[FinetuneSettings, Path], Outcome],
    folder: Path,
    seed: int,
) -> tuple[list[dict[str, Any]], int]:
    """Try settings until a trial's gate is passed, or `trials` are spent; returns the rows of all, and the chosen index.

    Chosen is the first that passes, else the one with the highest value. The weights of a trial that is behind go.
    """
    files.make_private(folder)
    ranges = space(settings, vary)
    rows: list[dict[str, Any]] = []
    while len(rows) < trials and not (rows and rows[-1]["passed"]):
        index = len(rows)
        place = folder / f"trial-{index:03d}"
        if not (place / RESULT).is_file():
            tried = propose(settings, vary, rows, seed)
            partial = folder / f".trial-{index:03d}.partial"
            _discard_other(partial, tried)
            events.emit("search.trial", trial=index + 1, trials=trials, tried=tried)
            outcome = run(settings.model_copy(update=tried), partial)
            files.write_json(partial / RESULT, {"index": index, "tried": tried, **outcome})
            files.publish_folder(partial, place)
        files.remove_folder(place / CHECKPOINTS)  # not before: a trial that was trained and not judged is judged alone
        row = files.read_json(place / RESULT)
        rows.append(row)
        best = _best(rows)
        for other in rows:
            if other["index"] != best:
                for name in WEIGHTS:
                    files.remove_folder(folder / f"trial-{other['index']:03d}" / name)
        events.emit("search.judged", trial=index + 1, value=row["value"], passed=row["passed"], gated=bool(row["gate"]))
    _write_journal(folder / JOURNAL, rows, ranges)
    return rows, _best(rows)


def _best(rows: Sequence[Mapping[str, Any]]) -> int:
    passed = [row for row in rows if row["passed"]]
    return passed[0]["index"] if passed else max(rows, key=lambda row: (row["value"], -row["index"]))["index"]


def _discard_other(partial: Path, tried: Mapping[str, Any]) -> None:
    """Keep a trial that was interrupted only if it tried the same settings."""
    note = partial / "tried.json"
    if not (note.is_file() and files.read_json(note) == dict(tried)):
        files.remove_folder(partial)
        files.make_private(partial)
        files.write_json(note, dict(tried))


def _study(storage: Any, sampler: Any = None) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(storage=storage, sampler=sampler, study_name="finetune", direction="maximize")


def _trial(row: Mapping[str, Any], ranges: Mapping[str, Any]) -> Any:
    import optuna

    attributes = {"index": row["index"], "passed": row["passed"]}
    # A recipe's own value may lie outside the ranges; for the estimator it counts as the nearest inside.
    params = {name: min(max(row["tried"][name], ranges[name].low), ranges[name].high) for name in ranges}
    return optuna.trial.create_trial(
        params=params, distributions=dict(ranges), value=_finite(row["value"]), user_attrs=attributes
    )


def _write_journal(path: Path, rows: Sequence[Mapping[str, Any]], ranges: Mapping[str, Any]) -> None:
    """All trials as a journal file that Optuna's own tools open; written whole, from the results."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = _study(JournalStorage(JournalFileBackend(str(path))))
        study.add_trials([_trial(row, ranges) for row in rows])


def _finite(value: float) -> float:
    return value if math.isfinite(value) else WORST


def _rounded(value: Any) -> Any:
    """Four digits are enough for a setting, and can be written down."""
    return float(f"{value:.4g}") if isinstance(value, float) else value

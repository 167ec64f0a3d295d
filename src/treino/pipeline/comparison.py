"""The ways of fine-tuning side by side: one recipe run once a method, on the same rows, split and seeds."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from treino import environment, events, files
from treino.errors import DoesNotFit, RanAway, TreinoError, UsageError
from treino.evaluation.bootstrap import student_interval
from treino.messages import N_
from treino.pipeline.api import Run, run
from treino.pipeline.beside import FORECAST
from treino.pipeline.judge import JUDGEMENT_FILE
from treino.pipeline.pilot import duration, pilot, shared
from treino.pipeline.projection import Projector, check_projectable
from treino.recipe import ADAPTED, CURES, PROMPT
from treino.recipe.load import LoadedRecipe, load_recipe

METHODS = ("scratch", "frozen", "lora", "qlora", "full", PROMPT)
FOLDER = "comparisons"
FILE = "comparison.json"

MOST_SEEDS = 100
PILOT = " pilot"
"""Behind the name of a comparison that was extrapolated, so that it does not take the place of a measured one."""

FIGURES = ("accuracy", "macro_f1", "seconds", "row_seconds", "peak_memory", "trainable", "total", "forgetting", "cost")
CALCULATED = {False: ("cost",), True: FIGURES}
"""Figures that are calculated and not measured: in a comparison, and in a pilot. All others are measured."""


def compare(
    recipe: str | Path | dict[str, Any] | None,
    methods: Sequence[str] = (),
    *,
    overrides: Iterable[str] = (),
    runs: str | Path | None = None,
    price: float = 0.0,
    seeds: int = 1,
    gpu: str = "",
    pilot_time: str = "",
    language: str | None = None,
    listener: events.Listener | None = None,
) -> dict[str, Any]:
    """Fine-tune by every method, and measure each on the same test rows; what is shared is made once.

    Args:
        methods: some of `METHODS`; by default all that the model can have, and prompt where the recipe names a remote.
        price: of an hour of this machine, for the cost of each; 0 leaves it out.
        seeds: trainings of each method, with other random choices on the same rows and as many epochs.
        gpu: a chip of the planner's, to which time, memory and cost are projected.
        pilot_time: "5min": instead of whole trainings, short ones on parts of the rows, so long in all, and what follows from
            them; the test rows are not touched.

    Returns {name, rows, marks, folder, seeds, pilot (seconds or None), projection}; a row: {method, accuracy, macro_f1 ({mean,
    low, high}), seconds (of the training), peak_memory (bytes of the process in that stage), trainable, total, forgetting
    (nats a token, or None), cost (or None), row_seconds (to answer one test row), refused (why it has none, or None)}.
    With several seeds seconds and forgetting are intervals, too; in a pilot see `treino.pipeline.pilot.pilot`. `marks` says of
    each figure whether it is "measured" or "calculated". A prompt has no training, and costs what its answers do by the table
    of prices. The same is in the folder as `comparison.json`, and as a page, `comparison.html`.

    Raises:
        UsageError: for a recipe without labelled rows or test rows, or a method that the model cannot have.
    """
    from treino.report.comparison import comparison_page

    environment.prepare()
    loaded, changes = load_recipe(recipe, overrides), list(overrides)
    chosen = _chosen(loaded, methods, whole=not pilot_time)
    folder = Path(runs) if runs else environment.runs_folder()
    brief = duration(pilot_time) if pilot_time else None
    projector = Projector.to(gpu) if gpu else None
    _check(loaded, seeds, gpu, brief)
    found: dict[str, Any] = {"name": loaded.recipe.name, "seeds": seeds, "pilot": brief}
    with contextlib.ExitStack() as hearing:
        if listener:
            hearing.enter_context(events.listening(listener))

        def each(method: str) -> LoadedRecipe:
            return load_recipe(recipe, [*changes, *_own(loaded, method)])

        if brief:
            found["rows"] = _pilots(loaded, chosen, each, folder, brief, price)
        else:
            found |= _whole(chosen, each, folder, seeds, price, projector)
    found["marks"] = {name: "calculated" if name in CALCULATED[bool(brief)] else "measured" for name in FIGURES}
    output = files.make_private(files.make_private(folder / FOLDER) / (loaded.recipe.name + PILOT * bool(brief)))
    found["folder"] = str(output)
    files.write_json(output / FILE, found)
    page = comparison_page(found, language or environment.language())
    files.write_text(output / "comparison.html", page)
    return found


def _check(loaded: LoadedRecipe, seeds: int, gpu: str, brief: float | None) -> None:
    """Refuse what does not go together."""
    if seeds > MOST_SEEDS or seeds < 1:
        raise UsageError(N_("take 1 to {most:raw} seeds"), where="--seeds", most=MOST_SEEDS)
    if brief and (gpu or seeds > 1):
        raise UsageError(
            N_("a pilot chooses its own draws and stays on this machine"),
            where="--pilot",
            fix=N_("leave out --seeds, --gpu"),
        )
    if brief and loaded.recipe.finetune.stream:
        raise UsageError(
            N_("a pilot has its layers in memory"),
            where=loaded.title,
            fix=N_("set finetune.stream to false, or leave out --pilot"),
        )
    if brief and not loaded.recipe.labels.validation:
        raise UsageError(
            N_("a pilot judges by validation rows, and there are none"),
            where=loaded.title,
            fix=N_("set labels.validation to a share such as 0.15"),
        )
    if gpu and not loaded.recipe.finetune.base:
        check_projectable(loaded.recipe.model.architecture)


def _pilots(
    loaded: LoadedRecipe, chosen: Sequence[str], each: Any, folder: Path, seconds: float, price: float
) -> list[dict[str, Any]]:
    """A pilot of every method, each with the same share of the time that is left."""
    from treino.training.trouble import NotFinite

    inputs = shared(each(chosen[0]), folder)
    rows = []
    for number, method in enumerate(chosen, 1):
        events.emit("compare.method", method=method, number=number, methods=len(chosen))
        left = seconds - sum(row.get("pilot_seconds") or 0.0 for row in rows)
        share = max(0.0, left) / (len(chosen) - number + 1)
        try:
            rows.append(_complete(pilot(each(method).recipe, method, inputs, share, price)))
        except (UsageError, NotFinite) as refused:
            _refuse(rows, method, refused, last=number == len(chosen))
    return rows


def _refuse(rows: list[dict[str, Any]], method: str, refused: TreinoError, *, last: bool) -> None:
    """Note a method that cannot be had, and go on; where none can be had, that is the answer."""
    if last and all(row["refused"] for row in rows) and not isinstance(refused, DoesNotFit):
        raise refused
    rows.append(_complete({"method": method, "run": None, "refused": refused.message.plain()}))


def _whole(
    chosen: Sequence[str], each: Any, folder: Path, seeds: int, price: float, projector: Projector | None
) -> dict[str, Any]:
    """Every method with every seed."""
    rows, projected, notes = [], [], []
    for number, method in enumerate(chosen, 1):
        events.emit("compare.method", method=method, number=number, methods=len(chosen))
        try:
            done = [run(_seeded(each(method), seed), runs=folder) for seed in range(1 if method == PROMPT else seeds)]
        except (DoesNotFit, UsageError, RanAway) as refused:
            _refuse(rows, method, refused, last=number == len(chosen))
            continue
        rows.append(_complete(_together([_row(method, one, price) for one in done])))
        tuned = done[0].artefacts["finetune"]
        if projector and (tuned.folder / FORECAST).is_file():
            forecast = files.read_json(tuned.folder / FORECAST)
            projected.append(projector.row(method, done[0].model_folder, tuned.record, forecast))
            notes = [note.plain() for note in projector.notes(rows[-1]["total"])]
    projection = {"gpu": projector.gpu, "rows": projected, "notes": notes} if projector else None
    return {"rows": rows, "projection": projection}


def _seeded(loaded: LoadedRecipe, number: int) -> LoadedRecipe:
    """The recipe with the random choices of this number; the first one's are the recipe's own."""
    if not number:
        return loaded
    recipe = loaded.recipe
    seed = (recipe.finetune.seed or recipe.seed) + number
    changed = {
        "name": f"{recipe.name[:70]} s{number + 1}",
        "finetune": recipe.finetune.model_copy(update={"seed": seed}),
    }
    return dataclasses.replace(loaded, recipe=recipe.model_copy(update=changed))


def _complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with every figure, None where there is none."""
    return dict.fromkeys(FIGURES) | {"refused": None} | dict(row)


def _together(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows of one method by seed as one: means; intervals of 95 % from the spread over seeds (Student's t) and, for shares
    of the test rows, from that over rows, which no seed makes smaller: the half widths add up as squares.
    """
    if len(rows) == 1:
        return dict(rows[0])
    found = dict(rows[0]) | {"run": [row["run"] for row in rows]}
    for name in FIGURES:
        values = [row[name] for row in rows]
        if any(value is None for value in values) or name in ("trainable", "total"):
            continue
        intervals = isinstance(values[0], Mapping)
        means = [value["mean"] if intervals else value for value in values]
        spread = student_interval(means)
        assert spread.low is not None
        mean, reach = spread.mean, spread.mean - spread.low
        if name == "peak_memory":
            found[name] = max(means)
            continue
        halves = [(value["high"] - value["low"]) / 2 for value in values] if intervals else [0.0]
        reach = (reach**2 + statistics.mean(halves) ** 2) ** 0.5
        lowest, highest = (None if name == "forgetting" else 0.0), (1.0 if intervals else None)
        ends = (mean - reach, mean + reach)
        found[name] = {
            "mean": mean,
            "low": ends[0] if lowest is None else max(lowest, ends[0]),
            "high": ends[1] if highest is None else min(highest, ends[1]),
        }
    return found


def _own(loaded: LoadedRecipe, method: str) -> list[str]:
    """What the recipe of a method has of its own: another name, and no setting that the method has no use for."""
    changes = [f'name="{loaded.recipe.name[:60]} {method}"', f'finetune.method="{method}"']
    if method == PROMPT:
        changes += ['finetune.base=""', "search.trials=1"]
    changes += ["finetune.stream=false"] if method != "qlora" else []
    changes += [f"finetune.{cure}=0.0" for cure, able in CURES.items() if method not in able]
    return changes + (['finetune.freeze="nothing"'] if method != "full" else [])


def _chosen(loaded: LoadedRecipe, methods: Sequence[str], *, whole: bool) -> list[str]:
    recipe = loaded.recipe
    if not recipe.labels.given or not recipe.labels.test:
        raise UsageError(
            N_("there are no labelled test rows to compare methods on"),
            where=loaded.title,
            fix=N_("give the recipe a table of texts with labels: [labels] source = ..., and a share for labels.test"),
        )
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise UsageError(
            N_("unknown method {method}"), fix=N_("take some of {known}"), method=unknown[0], known=", ".join(METHODS)
        )
    if not whole and PROMPT in methods:
        raise UsageError(
            N_("a prompt trains nothing, so that a pilot has nothing to extrapolate"),
            where="--pilot",
            fix=N_("leave it out of --methods"),
        )
    if methods:
        return list(dict.fromkeys(methods))
    lstm = recipe.model.architecture == "lstm" and not recipe.finetune.base
    away = {PROMPT} if not (recipe.remote.address and whole) else set()
    away |= set(ADAPTED) if lstm else set()
    return [method for method in METHODS if method not in away]


def _row(method: str, done: Run, price: float) -> dict[str, Any]:
    record = done.artefacts["finetune"].record
    facts, test = record["facts"], files.read_json(done.artefacts["judge"].folder / JUDGEMENT_FILE)["test"]
    forgotten = done.facts["judge"].get("forgetting")
    seconds = None if method == PROMPT else facts["train_seconds"] + facts["prepare_seconds"]
    if seconds is None:
        cost = facts["asked"]["cost"] + done.facts["judge"]["asked"]["cost"]
    else:
        cost = price * seconds / 3600 if price else None
    return {
        "method": method,
        "run": done.name,
        "accuracy": test["accuracy"],
        "macro_f1": test["macro_f1"],
        "seconds": seconds,
        "row_seconds": done.facts["judge"].get("row_seconds"),
        "peak_memory": record.get("peak_memory") if method != PROMPT else None,
        "trainable": facts["parameters"]["trainable"],
        "total": facts["parameters"]["total"],
        "forgetting": forgotten["after"] - forgotten["before"] if forgotten else None,
        "cost": cost,
    }

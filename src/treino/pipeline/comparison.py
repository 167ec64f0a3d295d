"""The ways of fine-tuning side by side: one recipe run once a method, on the same rows, split and seeds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from treino import environment, events, files
from treino.errors import UsageError
from treino.messages import N_
from treino.pipeline.api import Run, run
from treino.pipeline.judge import JUDGEMENT_FILE
from treino.recipe import ADAPTED, CURES, PROMPT
from treino.recipe.load import LoadedRecipe, load_recipe

METHODS = ("scratch", "frozen", "lora", "qlora", "full", PROMPT)
FOLDER = "comparisons"


def compare(
    recipe: str | Path | dict[str, Any] | None,
    methods: Sequence[str] = (),
    *,
    overrides: Iterable[str] = (),
    runs: str | Path | None = None,
    price: float = 0.0,
    language: str | None = None,
    listener: events.Listener | None = None,
) -> dict[str, Any]:
    """Fine-tune by every method, and measure each on the same test rows; what is shared is made once.

    Args:
        methods: some of `METHODS`; by default all that the model can have, and prompt where the recipe names a remote.
        price: of an hour of this machine, for the cost of each; 0 leaves it out.

    Returns {name, rows, folder}; a row: {method, accuracy, macro_f1 ({mean, low, high}), seconds (of the training), peak_memory
    (bytes of the process in that stage), trainable, total, forgetting (nats a token, or None), cost (or None), row_seconds (to
    answer one test row)}. A prompt has no training, and costs what its answers do by the table of prices. The same is in the
    folder as `comparison.json`, and as a page, `comparison.html`.

    Raises:
        UsageError: for a recipe without labelled rows or test rows, or a method that the model cannot have.
    """
    from treino.report.comparison import comparison_page

    environment.prepare()
    loaded, changes = load_recipe(recipe, overrides), list(overrides)
    chosen = _chosen(loaded, methods)
    folder = Path(runs) if runs else environment.runs_folder()
    rows = []
    with contextlib.ExitStack() as hearing:
        if listener:
            hearing.enter_context(events.listening(listener))
        for number, method in enumerate(chosen, 1):
            events.emit("compare.method", method=method, number=number, methods=len(chosen))
            done = run(load_recipe(recipe, [*changes, *_own(loaded, method)]), runs=folder)
            rows.append(_row(method, done, price))
    output = files.make_private(files.make_private(folder / FOLDER) / loaded.recipe.name)
    found = {"name": loaded.recipe.name, "rows": rows, "folder": str(output)}
    files.write_json(output / "comparison.json", found)
    page = comparison_page(found, language or environment.language())
    files.write_text(output / "comparison.html", page)
    return found


def _own(loaded: LoadedRecipe, method: str) -> list[str]:
    """What the recipe of a method has of its own: another name, and no setting that the method has no use for."""
    changes = [f'name="{loaded.recipe.name[:60]} {method}"', f'finetune.method="{method}"']
    if method == PROMPT:
        changes += ['finetune.base=""', "search.trials=1"]
    changes += [f"finetune.{cure}=0.0" for cure, able in CURES.items() if method not in able]
    return changes + (['finetune.freeze="nothing"'] if method != "full" else [])


def _chosen(loaded: LoadedRecipe, methods: Sequence[str]) -> list[str]:
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
    if methods:
        return list(dict.fromkeys(methods))
    lstm = recipe.model.architecture == "lstm" and not recipe.finetune.base
    away = {PROMPT} if not recipe.remote.address else set()
    away |= set(ADAPTED) if lstm else set()
    return [method for method in METHODS if method not in away]


def _row(method: str, done: Run, price: float) -> dict[str, Any]:
    record = done.artefacts["finetune"].record
    facts, test = record["facts"], files.read_json(done.artefacts["judge"].folder / JUDGEMENT_FILE)["test"]
    forgotten = done.facts["judge"].get("forgetting")
    seconds = facts["train_seconds"]
    if method == PROMPT:
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

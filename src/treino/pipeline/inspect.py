"""Looks at recipes and runs without changing them: what would run, what was found out, where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from treino import environment
from treino.errors import UsageError
from treino.messages import N_
from treino.pipeline.facts import classification_facts, training_facts
from treino.pipeline.lock import DecisionLock
from treino.pipeline.plan import PlannedStage, plan_run
from treino.pipeline.run_folder import RunFolder, find_run
from treino.pipeline.stages import pipeline_of
from treino.pipeline.store import Artefact
from treino.recipe.load import LoadedRecipe, setting_rows
from treino.report.facts import Classification, Training
from treino.report.phases import Phase, phases

if TYPE_CHECKING:
    from treino.training.formats import Format

TABLES = {
    "collect": ("corpus", "world"),
    "score": ("order",),
    "tokenise": ("tokens",),
    "pretrain": ("model", "pretrain", "order"),
    "adopt": ("finetune",),
    "split": ("labels", "clean"),
    "compare": (),
    "finetune": ("finetune", "remote", "search", "gate"),
    "judge": ("gate",),
    "gather": ("chat", "world"),
    "chat": ("finetune", "search", "gate", "report"),
}
"""Tables of the recipe that a stage uses, where they are not just the one of its own name."""


def settings_of(loaded: LoadedRecipe) -> list[dict[str, Any]]:
    """Every setting of a recipe with its value and where the value came from."""
    return setting_rows(loaded.recipe.model_dump(mode="json", by_alias=True), loaded.origins)


def explain(loaded: LoadedRecipe, runs: Path) -> list[PlannedStage]:
    """What each stage of a recipe would do now, and why."""
    folder = RunFolder(runs, loaded.recipe.name)
    lock = DecisionLock(folder.lock_path)
    return plan_run(pipeline_of(loaded.recipe), loaded, folder.store, lock, folder.before(), environment.language())


def number_format(loaded: LoadedRecipe) -> Format:
    """In which format the recipe's pretraining would compute on this machine, and why."""
    from treino.models.kernels import identity
    from treino.training.formats import asked_for, format_for
    from treino.training.ranks import ALONE

    recipe = loaded.recipe
    table = format_for(ALONE.device, kernels=bool(identity()), width=recipe.model.width)
    return table if recipe.pretrain.precision == "auto" else asked_for(recipe.pretrain.precision)


def show_run(run: str | None, runs: Path | None) -> dict[str, Any]:
    """A run's stages with their facts, its settings with origins, and its lineage."""
    folder = find_run(runs or environment.runs_folder(), run)
    content, artefacts = folder.read(), folder.artefacts()
    return {
        "name": folder.name,
        "folder": str(folder.folder),
        "finished": content["finished"],
        "stages": [_stage(name, artefact) for name, artefact in artefacts.items()],
        "settings": setting_rows(content["settings"], content["origins"]) + _decided(artefacts),
        "lineage": lineage(artefacts, list(artefacts)[-1]),
    }


def show_stage(run: str | None, stage: str, runs: Path | None) -> dict[str, Any]:
    """One stage of a run: facts, settings with origins, files, and the way back to what it was made from."""
    folder = find_run(runs or environment.runs_folder(), run)
    content, artefacts = folder.read(), folder.artefacts()
    artefact = _named(artefacts, stage)
    tables = TABLES.get(stage, (stage,))
    rows = setting_rows(content["settings"], content["origins"]) + _decided({stage: artefact})
    return _stage(stage, artefact) | {
        "folder": str(artefact.folder),
        "settings": [row for row in rows if row["where"].split(".")[0] in tables],
        "why": artefact.record["why"],
        "files": artefact.record["files"],
        "lineage": lineage(artefacts, stage),
    }


def show_phases(run: str | None, runs: Path | None) -> list[Phase]:
    """What each look at the model found, from pretraining to the test (`treino.report.phases.Phase`)."""
    artefacts = find_run(runs or environment.runs_folder(), run).artefacts()
    records = {name: artefact.record | {"folder": str(artefact.folder)} for name, artefact in artefacts.items()}
    return phases(
        cast("Training | None", training_facts(records.get("pretrain"))),
        cast("Classification | None", classification_facts(records)),
    )


def removed_rows(run: str | None, stage: str, runs: Path | None, count: int) -> list[dict[str, Any]]:
    """The first `count` documents that a stage of the corpus changed or removed, with the rule."""
    import pyarrow.parquet

    artefact = _named(find_run(runs or environment.runs_folder(), run).artefacts(), stage)
    rows: list[dict[str, Any]] = []
    for path in sorted((artefact.folder / "removed").glob("*.parquet")):
        rows += pyarrow.parquet.read_table(path).slice(0, count - len(rows)).to_pylist()
    return rows


def lineage(artefacts: Mapping[str, Artefact], stage: str) -> list[str]:
    """From an artefact back to the raw files, one line each, nearest first."""
    wanted = {artefacts[stage].folder.name}
    lines: list[str] = []
    for artefact in reversed(list(artefacts.values())):
        if artefact.folder.name in wanted:
            inputs = sorted({item["folder"] for item in artefact.record["inputs"].values()})
            lines.append(f"{artefact.folder.name} ← {', '.join(inputs) if inputs else _raw(artefact.record)}")
            wanted.update(inputs)
    return lines


def _raw(record: Mapping[str, Any]) -> str:
    reads = record["ingredients"].get("reads") or {}
    return ", ".join(f"{name} (sha256 {str(value)[:12]})" for name, value in reads.items()) or "world"


def _named(artefacts: Mapping[str, Artefact], stage: str) -> Artefact:
    if stage not in artefacts:
        known = ", ".join(artefacts)
        raise UsageError(
            N_("this run has no stage {stage}"), fix=N_("its stages are: {known}"), stage=stage, known=known
        )
    return artefacts[stage]


def _stage(name: str, artefact: Artefact) -> dict[str, Any]:
    record = artefact.record
    return {
        "stage": name,
        "folder": artefact.folder.name,
        "digest": artefact.digest,
        "seconds": record["seconds"],
        "peak_memory": record["peak_memory"],
        "bytes": artefact.size,
        "facts": record["facts"],
    }


def _decided(artefacts: Mapping[str, Artefact]) -> list[dict[str, Any]]:
    rows = []
    for artefact in artefacts.values():
        decided = artefact.record["ingredients"].get("decisions", {})
        rows += [{"where": name, "value": value, "origin": "measured"} for name, value in decided.items()]
    return rows

"""Collects what the report and the model card draw, from the records of the stages; nothing is computed anew here."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from treino import __version__, environment, files
from treino.pipeline.beside import FORECAST
from treino.pipeline.corpus_facts import corpus_facts
from treino.pipeline.stage import Work
from treino.recipe import PROMPT
from treino.recipe.load import setting_rows

EXAMPLES_SHOWN = 12


def gather_facts(work: Work) -> dict[str, Any]:
    """The facts of a run in the form that `treino.report.write` documents."""
    recipe = work.loaded.recipe
    records = {record["stage"]: record for record in work.records}
    examples = recipe.report.examples
    return {
        "name": recipe.name,
        "language": work.language,
        "created": time.time(),
        "treino_version": __version__,
        "examples": examples,
        "stages": [_stage(record) for record in work.records],
        "settings": settings_of(work),
        "training": _training(records.get("pretrain"), examples),
        "evaluation": _content(records.get("evaluate"), "evaluation.json"),
        "classification": classification_facts(records),
        "chat": chat_facts(records, examples=examples),
        "corpus": _corpus(work, examples) if "collect" in records else None,
        "removed": _removed(records, examples),
        "forecasts": {name: found for name in ("pretrain", "finetune") if (found := _forecast(records.get(name)))},
        "machine": {**records.get("pretrain", {}).get("machine", {}), **_machine()},
        "lineage": [_lineage(record) for record in work.records],
        "model": _model(work),
        "sources": [source.model_dump() for source in recipe.corpus.sources],
    }


def _corpus(work: Work, examples: bool) -> dict[str, Any]:
    return corpus_facts(work.records, work.loaded.recipe.model_dump(mode="json", by_alias=True), examples=examples)


def _model(work: Work) -> dict[str, Any] | None:
    """Shape of the language model: the recipe's, or that of a model brought along; None where it is a remote one."""
    if work.loaded.recipe.finetune.method == PROMPT and work.loaded.recipe.labels.given:
        return None
    for record in work.records:
        if record["stage"] == "adopt":
            return record["facts"]["model"] | {"vocabulary": record["facts"]["vocabulary"]}
    recipe = work.loaded.recipe
    return recipe.model.model_dump() | {"vocabulary": recipe.tokens.vocabulary}


def training_facts(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Facts of a pretraining with its curves, from the stage's record (with `folder`)."""
    if record is None:
        return None
    folder = Path(record["folder"]) / "records"
    curves = {
        "curve": files.read_json(folder / "history.json"),
        "validation": files.read_json(folder / "validation.json"),
    }
    return record["facts"] | curves


def classification_facts(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Facts of the fine-tuning and its judgement with their curves, from the stages' records; None without them."""
    if not {"split", "finetune", "judge"} <= records.keys():
        return None
    tuned, judged = records["finetune"], records["judge"]
    folder = Path(tuned["folder"]) / "records"
    facts, found = tuned["facts"], dict(_content(judged, "judgement.json"))
    if "long_texts" in facts:
        found["long_texts"] = facts["long_texts"] | {"test": found.get("long_texts", 0)}
    return {
        **facts,
        **found,
        "labels": records["split"]["facts"]["labels"],
        "rows": records["split"]["facts"]["rows"],
        "test_uses": judged["facts"].get("test_uses"),
        "row_seconds": judged["facts"].get("row_seconds"),
        "asked_test": judged["facts"].get("asked"),
    } | (_curves(facts, folder) if facts["method"] != PROMPT else {})


def _curves(facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The chosen trial's curves, and what they are read by."""
    return {
        "patience": facts["settings"]["patience"],
        "steps_per_epoch": facts["steps"] / facts["epochs"],
        "curve": files.read_json(folder / "history.json"),
        "validation_curve": files.read_json(folder / "validation.json"),
    }


def chat_facts(records: Mapping[str, Mapping[str, Any]], *, examples: bool) -> dict[str, Any] | None:
    """Facts of a chat tuning with its curves, and what it answers where that may be shown; None without one."""
    if "chat" not in records:
        return None
    tuned = records["chat"]
    folder = Path(tuned["folder"]) / "records"
    return {
        **tuned["facts"],
        "patience": tuned["facts"]["settings"]["patience"],
        "rows": records["gather"]["facts"]["rows"],
        "curve": files.read_json(folder / "history.json"),
        "validation_curve": files.read_json(folder / "validation.json"),
        "answers": (_content(tuned, "records/answers.json") if examples else None) or [],
    }


def _stage(record: Mapping[str, Any]) -> dict[str, Any]:
    facts = record["facts"]
    return {
        "name": record["stage"],
        "state": record["state"],
        "seconds": record["seconds"],
        "documents_in": facts.get("documents_in"),
        "documents_out": facts.get("documents_out"),
        "bytes_out": sum(entry["bytes"] for entry in record["files"].values()),
        "peak_memory": record["peak_memory"],
        "facts": facts,
    }


def settings_of(work: Work) -> list[dict[str, Any]]:
    """Every setting with its origin, and the locked decisions; of texts that stand in the recipe itself only their number,
    unless examples may be shown.
    """
    # Of a recipe's path only the name: a report may be passed on, and where it was made is nobody's business.
    origins = {where: Path(origin).name for where, origin in work.loaded.origins.items()}
    settings = work.loaded.recipe.model_dump(mode="json", by_alias=True)
    if not work.loaded.recipe.report.examples:
        for holder, name in [(settings["labels"], "rows"), *((one, "lines") for one in settings["corpus"]["sources"])]:
            if holder.get(name):  # texts that stand in the recipe itself
                holder[name] = f"… × {len(holder[name])}"
    rows = setting_rows(settings, origins)
    for record in work.records:
        decided = record["ingredients"].get("decisions", {})
        rows += [{"where": name, "value": value, "origin": "measured"} for name, value in decided.items()]
    return rows


def _training(record: Mapping[str, Any] | None, examples: bool) -> dict[str, Any] | None:
    facts = training_facts(record)
    if facts is None or record is None:
        return None
    return facts | {"samples": files.read_json(Path(record["folder"]) / "records" / "samples.json") if examples else []}


def _content(record: Mapping[str, Any] | None, name: str) -> Any:
    path = Path(record["folder"]) / name if record else None
    return files.read_json(path) if path and path.exists() else None


def _removed(records: Mapping[str, Mapping[str, Any]], examples: bool) -> dict[str, Any]:
    """Counts by rule over all stages of the corpus, and (where the recipe allows it) pieces of what went."""
    by_rule: dict[str, int] = {}
    changed: dict[str, int] = {}
    shown: list[dict[str, Any]] = []
    for record in records.values():
        for rule, count in (record["facts"].get("removed_by_rule") or {}).items():
            by_rule[rule] = by_rule.get(rule, 0) + count
        for rule, count in (record["facts"].get("changed_by_rule") or {}).items():
            changed[rule] = changed.get(rule, 0) + count
        if examples:
            shown += _examples(Path(record["folder"]) / "removed")
    return {"by_rule": by_rule, "changed_by_rule": changed, "examples": shown[:EXAMPLES_SHOWN]}


def _examples(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.parquet")):
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=EXAMPLES_SHOWN):
            rows += batch.to_pylist()
            if len(rows) >= EXAMPLES_SHOWN:
                return rows[: EXAMPLES_SHOWN // 2]
    return rows[: EXAMPLES_SHOWN // 2]


def _forecast(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A stage's forecast, and the same beside what was measured."""
    forecast = _content(record, FORECAST)
    return {"forecast": forecast, "beside": record.get("beside")} if record and forecast else None


def _machine() -> dict[str, Any]:
    return {"system": platform.system(), "processors": environment.processors(), "python": platform.python_version()}


def _lineage(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "stage": record["stage"],
        "folder": Path(record["folder"]).name,
        "digest": record["digest"],
        "inputs": record["inputs"],
        "reads": record["ingredients"].get("reads"),
    }

"""What the stages of a corpus report, collected for data card, report and terminal; nothing is computed anew here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from treino import __version__, files

STEPS = "records/steps.json"
STAGES = ("collect", "clean", "filter", "deduplicate", "decontaminate", "order")
"""Stages whose facts are those of a corpus; others of a run are not."""


def corpus_facts(
    records: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], *, examples: bool = False
) -> dict[str, Any]:
    """Facts of a corpus (`treino.report.facts.Corpus`) from the records of its stages, each with its `folder`, and the
    settings of its recipe as JSON has them.
    """
    by_stage = {record["stage"]: record for record in records}
    ordered = by_stage.get("order", {}).get("facts", {})
    reads = by_stage.get("collect", {}).get("ingredients", {}).get("reads") or {}
    return {
        "name": settings["name"],
        "treino_version": __version__,
        "seed": settings["seed"],
        "sources": [_source(source, reads) for source in settings["corpus"]["sources"]],
        "held_out_method": by_stage.get("collect", {}).get("facts", {}).get("held_out_method"),
        "steps": [row for record in records for row in steps_of(record)],
        "parts": ordered.get("parts"),
        "languages": ordered.get("language"),
        "licences": ordered.get("licence"),
        "order": {name: value for name, value in ordered.items() if name not in ("parts", "language", "licence")}
        | {"difficulty_by": settings["order"]["difficulty"]},
        "digests": {record["stage"]: record["digest"] for record in records},
        "examples": _examples(records) if examples else [],
    }


def _source(source: Mapping[str, Any], reads: Mapping[str, str]) -> dict[str, Any]:
    """A source without its place on this machine: its name, what was said of it, and the digest of what it held."""
    own = {
        name.removeprefix(f"{source['path']}/"): value for name, value in reads.items() if _is_of(name, source["path"])
    }
    return {
        "name": PurePath(source["path"]).name or source["path"],
        "language": source["language"],
        "licence": source["licence"],
        "weight": source["weight"],
        "files": len(own),
        "digest": files.digest(own) if own else None,
    }


def _is_of(name: str, path: str) -> bool:
    return bool(path) and name.startswith(f"{path}/")


def steps_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each step of a stage did, in order: {stage, step, documents_in, documents_out, bytes_in, bytes_out, removed_by_rule,
    changed_by_rule, seconds}. Seconds are those of the stage, shared out as the steps took them.
    """
    stage, facts = record["stage"], record["facts"]
    if stage not in STAGES or (stage == "order"):
        return []
    path = Path(record["folder"]) / STEPS
    accounts = files.read_json(path) if path.exists() else []
    if not accounts:
        names = ("documents_in", "documents_out", "bytes_in", "bytes_out", "removed_by_rule", "changed_by_rule")
        return [
            {"stage": stage, "step": stage, "seconds": record["seconds"]} | {name: facts.get(name) for name in names}
        ]
    worked = sum(account["seconds"] for account in accounts) or 1.0
    return [
        account | {"stage": stage, "seconds": record["seconds"] * account["seconds"] / worked} for account in accounts
    ]


def _examples(records: Sequence[Mapping[str, Any]], each: int = 3) -> list[dict[str, Any]]:
    """A few documents that each rule removed, and a few that the same rules changed."""
    from treino.corpus.documents import read_rows

    shown: list[dict[str, Any]] = []
    seen: Counter[tuple[str, ...]] = Counter()
    for record in records:
        rows = read_rows(Path(record["folder"]), "removed") if record["stage"] in STAGES else ()
        for row in rows:
            kind = (row["step"], row["rule"], row["detail"] if row["rule"] == "changed" else "")
            seen[kind] += 1
            if seen[kind] <= each:
                shown.append(row)
    return shown

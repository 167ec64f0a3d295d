"""What the stages of a corpus report, collected for data card, report and terminal; nothing is computed anew here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
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
    collected = by_stage.get("collect", {}).get("facts", {})
    reads = by_stage.get("collect", {}).get("ingredients", {}).get("reads") or {}
    return {
        "name": settings["name"],
        "treino_version": __version__,
        "seed": settings["seed"],
        "sources": _sources(settings["corpus"]["sources"], reads, collected.get("documents_by_source", ())),
        "held_out_method": collected.get("held_out_method"),
        "steps": [row for record in records for row in steps_of(record)],
        "parts": ordered.get("parts"),
        "languages": ordered.get("language"),
        "licences": ordered.get("licence"),
        "order": {name: value for name, value in ordered.items() if name not in ("parts", "language", "licence")}
        | {"difficulty_by": settings["order"]["difficulty"]},
        "digests": {record["stage"]: record["digest"] for record in records},
        "examples": _examples(records) if examples else [],
    }


def _sources(
    sources: Sequence[Mapping[str, Any]], reads: Mapping[str, str], documents: Sequence[int]
) -> list[dict[str, Any]]:
    """The sources without their places on this machine: what was said of each, what it held, and the digest of that."""
    rows = []
    for source, count in zip_longest(sources, documents):
        path = source["path"]
        own = {
            key.removeprefix(f"{path}/"): value for key, value in reads.items() if path and key.startswith(f"{path}/")
        }
        told = {key: source[key] for key in ("language", "licence", "weight")}
        rows.append(
            {
                "name": path if "://" in path else PurePath(path).name,
                "documents": count,
                "files": len(own),
                "digest": files.digest(own) if own else None,
                **told,
            }
        )
    return rows


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

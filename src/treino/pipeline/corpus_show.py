"""Looks at a corpus without changing it: what each step did, what it removed and changed, and the story of one document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino import environment
from treino.errors import DataError, UsageError
from treino.messages import N_
from treino.pipeline.corpus_build import NAME, STAGES
from treino.pipeline.corpus_facts import STAGES as DOCUMENT_STAGES
from treino.pipeline.corpus_facts import corpus_facts
from treino.pipeline.run_folder import RUN, RunFolder, find_run
from treino.pipeline.store import Artefact

SHORTEST_PREFIX = 6
"""Characters of an id that may stand for the whole."""


@dataclass(frozen=True)
class Shown:
    """The stages of a corpus that are ready, by name, and the settings that they were made with."""

    folder: Path
    artefacts: Mapping[str, Artefact]
    settings: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        """What is known of the corpus (`treino.report.facts.Corpus`)."""
        records = [artefact.record | {"folder": str(artefact.folder)} for artefact in self.artefacts.values()]
        return corpus_facts(records, self.settings) | {"folder": str(self.folder)}

    def record(self) -> Iterator[dict[str, Any]]:
        """Rows of what all steps removed or changed, in the order of the stages."""
        from treino.corpus.documents import read_rows

        for stage, artefact in self.artefacts.items():
            for row in read_rows(artefact.folder, "removed"):
                yield row | {"step": row["step"] or stage, "stage": stage}


def open_corpus(folder: str | Path, runs: Path | None = None) -> Shown:
    """The corpus in a folder that `treino corpus build` wrote, or that of a run (its folder, or its name).

    Raises:
        DataError: where there is none.
    """
    built = Path(folder) / STAGES / NAME
    run = (
        RunFolder(built.parent, NAME)
        if (built / RUN).is_file()
        else find_run(runs or environment.runs_folder(), folder)
    )
    content, artefacts = run.read(), run.artefacts()
    chosen = {name: artefact for name, artefact in artefacts.items() if name in DOCUMENT_STAGES}
    if not chosen:
        raise DataError(
            N_("the run {name} made no corpus"), fix=N_("it began from a model: see treino show"), name=run.name
        )
    return Shown(Path(folder) if (built / RUN).is_file() else run.folder, chosen, content["settings"])


def is_change(row: Mapping[str, Any]) -> bool:
    """Whether a row of the record tells of a document that was changed and stayed."""
    return row["rule"] == "changed" or bool(row["after"])


def removed(corpus: Shown, rule: str, count: int) -> list[dict[str, Any]]:
    """The first documents that a rule removed.

    Raises:
        UsageError: for a rule that removed nothing, with those that did.
    """
    return _chosen(
        ((row["rule"], row) for row in corpus.record() if not is_change(row)),
        count,
        rule,
        N_("the rule {name} removed nothing here"),
    )


def changed(corpus: Shown, step: str, count: int) -> list[dict[str, Any]]:
    """The first documents that a step changed.

    Raises:
        UsageError: for a step that changed nothing, with those that did.
    """
    return _chosen(
        ((row["step"], row) for row in corpus.record() if is_change(row)),
        count,
        step,
        N_("the step {name} changed nothing here"),
    )


def _chosen(rows: Iterator[tuple[str, dict[str, Any]]], count: int, name: str, nothing: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    known: dict[str, None] = {}
    for key, row in rows:
        known.setdefault(key)
        if key == name:
            found.append(row)
            if len(found) == count:
                break
    if not found:
        raise UsageError(nothing, fix=N_("those that did: {known}"), name=name, known=", ".join(known) or "-")
    return found


def duplicates(corpus: Shown, count: int) -> list[dict[str, Any]]:
    """The first documents that were removed as copies, each with `kept`: the one that stayed (id, source, beginning)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for row in corpus.record():
        if row["stage"] == "deduplicate" and not is_change(row):
            found.append(row)
            if len(found) == count:
                break
    wanted = pa.array(sorted({other for row in found if (other := _other(row))}), pa.string())
    among = pc.SetLookupOptions(value_set=wanted)
    texts = {row["id"]: row for row in _documents(corpus, lambda ids: pc.call_function("is_in", [ids], among))}
    for row in found:
        kept = texts.get(_other(row) or "")
        row["kept"] = kept and {"id": kept["id"], "source": kept["source"], "text": kept["text"][: len(row["before"])]}
    return found


_ID = re.compile(r"[0-9a-f]{24}(?:-tail)?")


def _other(row: Mapping[str, Any]) -> str | None:
    """The id of another document that a row's reason names: the copy that stayed."""
    found = _ID.search(row["detail"] or "")
    return found[0] if found else None


def story(corpus: Shown, number: str) -> dict[str, Any]:
    """One document from its source to its fate.

    {id, source, licence, language, part, events: [{stage, step, rule, detail, before, after}], fate, copies, order, text};
    `fate`: "training", "held_out", or the step and rule that removed it; `copies`: ids of documents removed in its favour.

    Raises:
        DataError: for an id (or a beginning of one) that is unknown, or of several documents.
    """
    first = _first(corpus, number)
    number = first["id"]
    events: list[dict[str, Any]] = []
    copies: list[str] = []
    for row in corpus.record():
        if row["id"] == number:
            events.append(row)
        elif row["stage"] == "deduplicate" and not is_change(row) and _other(row) == number:
            copies.append(row["id"])
    last = _last(corpus, number)
    gone = next((row for row in reversed(events) if not is_change(row)), None)
    fate = last["part"] if last else f"{gone['step']}: {gone['rule']}" if gone else "lost"
    known = {name: first.get(name) for name in ("source", "licence", "language", "part", "weight", "bytes")}
    return (
        {"id": number}
        | known
        | {
            "events": events,
            "fate": fate,
            "copies": copies,
            "order": _order(corpus, number) if fate == "training" else {},
            "text": last and last["text"],
        }
    )


def _first(corpus: Shown, number: str) -> dict[str, Any]:
    """The document as it was collected; a row of the record where it never was one."""
    import pyarrow.compute as pc

    rows = list(
        _documents(
            corpus, lambda ids: pc.call_function("starts_with", [ids], pc.MatchSubstringOptions(number)), "collect"
        )
    )
    rows = [row for row in rows if row["id"] == number] or (rows if len(number) >= SHORTEST_PREFIX else [])
    if len(rows) > 1:
        raise DataError(
            N_("{count} documents have ids that begin with {id}"), fix=N_("give more of it"), count=len(rows), id=number
        )
    for row in [*rows, *(row for row in corpus.record() if row["id"] == number)][:1]:
        return row
    raise DataError(
        N_("there is no document {id} in this corpus"),
        fix=N_("ids are those of the column id, and of: treino corpus show DIR --removed RULE"),
        id=number,
    )


def _last(corpus: Shown, number: str) -> dict[str, Any] | None:
    """The document as it is in the finished corpus."""
    import pyarrow.compute as pc

    return next(_documents(corpus, lambda ids: pc.call_function("equal", [ids, number])), None)


def _documents(corpus: Shown, chosen: Callable[[Any], Any], stage: str | None = None) -> Iterator[dict[str, Any]]:
    """Rows of the documents whose ids are chosen, after a stage (the last one that writes documents)."""
    from treino.corpus.documents import PARTS, read_documents

    folders = {name: artefact.folder for name, artefact in corpus.artefacts.items()}
    makers = [name for name, folder in folders.items() if (folder / PARTS[0]).is_dir()]
    folder = folders[stage or makers[-1]]
    for part in PARTS:
        for rows in read_documents(folder, part):
            for row in rows.filter(chosen(rows["id"])).to_pylist():
                yield row | {"part": part, "bytes": len(row["text"].encode("utf-8", "surrogatepass"))}


def _order(corpus: Shown, number: str) -> dict[str, float]:
    """How often an epoch reads a training document, and how hard it is, where the order says so."""
    from treino.corpus.order.table import read_columns

    if "order" not in corpus.artefacts:
        return {}
    return {name: float(values[0]) for name, values in read_columns(corpus.artefacts["order"].folder, [number]).items()}

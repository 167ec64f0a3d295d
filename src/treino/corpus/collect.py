"""The collect stage: every source becomes documents, some of them held out."""

from __future__ import annotations

import difflib
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treino import events, files
from treino.corpus.documents import DOCUMENTS, REMOVED, Writer, content_hash, write_rows
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import LABELS, WORLD, RawDocument, read_source, source_digest, source_files
from treino.errors import DataError, UsageError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import CorpusSettings, SourceSettings, WorldSettings

PAGES = "records/pages"
"""Folder of the raw pages of web sites (WARC): what was measured once, and no part of what the documents are."""

FEW_DOCUMENTS = 20
SHORTEST_TAIL = 200
"""Characters that the held-out tail of a document has at least; shorter documents are not cut."""


def source_digests(corpus: CorpusSettings, base: Path) -> dict[str, str]:
    """Digests of every file that the sources read, by source and name."""
    found: dict[str, str] = {}
    for source in corpus.sources:
        found |= {f"{source.path}/{name}": value for name, value in source_digest(source, base).items()}
    return found


def collect(
    corpus: CorpusSettings, world: WorldSettings, output: Path, seed: int, base: Path, labelled: Path | None = None
) -> dict[str, Any]:
    """Read all sources into `output/training` and `output/held_out`; what could not be used into `output/removed`.

    A document's `id` is a hash of the source's own name, the file's path below it, and the row: not of where the folder
    lies, the order of a listing, or other files. Two sources of one name are told apart by their number.
    """
    problems = Problems()
    totals: Counter[str] = Counter()
    for part in ("training", "held_out", "removed"):  # of a crawl that was interrupted; its pages are kept
        files.remove_folder(output / part)
    rows = _documents(corpus, world, base, seed, problems, totals, labelled, output / PAGES)
    names = corpus.held_out if isinstance(corpus.held_out, tuple) else ()
    if names:
        _check_names(names, corpus, base)
    method = _write(rows, corpus.held_out, output, totals)
    write_rows(output / "removed", ({"step": "collect"} | row for row in problems.rows), REMOVED)
    problems.tell()
    if any(source.path == WORLD for source in corpus.sources):
        from treino.corpus.world.facts import World
        from treino.corpus.world.prompts import write_truth

        write_truth(World.build(world, seed), files.make_private(output / "truth"))
    return {
        "documents_out": totals["training"] + totals["held_out"],
        "held_out_documents": totals["held_out"],
        "held_out_method": method,
        "bytes_out": totals["bytes_training"] + totals["bytes_held_out"],
        "held_out_bytes": totals["bytes_held_out"],
        "set_aside": sum(problems.counts.values()),
        "removed_by_rule": dict(sorted(problems.counts.items())),
    }


def _documents(
    corpus: CorpusSettings,
    world: WorldSettings,
    base: Path,
    seed: int,
    problems: Problems,
    totals: Counter[str],
    labelled: Path | None,
    pages: Path,
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Rows of all sources, and whether each may be held out; a source that gives nothing is an error."""
    labels: Counter[str] = Counter()
    for source in corpus.sources:
        label = unicodedata.normalize("NFC", Path(source.path).name) if source.path else "recipe"
        labels[label] += 1
        label = label if labels[label] == 1 else f"{label}#{labels[label]}"
        before = totals["read"]
        for raw in read_source(source, world, base, seed, problems, labelled, pages):
            totals["read"] += 1
            events.progress(
                "collect", totals["read"], world.documents if source.path == WORLD else None, N_("documents")
            )
            yield _row(raw, source, label), raw.may_be_held_out
        if totals["read"] == before:
            raise _nothing(source, problems)


def _nothing(source: SourceSettings, problems: Problems) -> DataError:
    """The error of a source without a document, with the first reason if one is known."""
    fix = N_('check that it holds text, and name its column or key with text = "..."')
    if not problems.rows:
        return DataError(N_("the source {source} gives no document"), fix=fix, source=source.path)
    return DataError(
        N_("the source {source} gives no document; the first problem: {first} ({reason})"),
        fix=fix,
        source=source.path,
        first=problems.rows[0]["detail"],
        reason=problems.first_reason(),
    )


def _row(raw: RawDocument, source: SourceSettings, label: str) -> dict[str, Any]:
    place = f"{label}\0{raw.name}\0{raw.row}"
    return {
        "id": hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:24],
        "text": raw.text,
        "source": f"{raw.name}:{raw.row}" if raw.row and raw.name != WORLD else raw.name,
        "content_hash": content_hash(raw.text),
        "language": source.language,
        "licence": source.licence,
        "weight": source.weight,
        "meta": json.dumps(raw.meta, ensure_ascii=False, sort_keys=True),
    }


def _write(
    rows: Iterator[tuple[dict[str, Any], bool]], held_out: float | tuple[str, ...], output: Path, totals: Counter[str]
) -> str:
    """Write both parts; returns how the held-out ones were chosen: names, documents, tails or none."""
    with Writer(output / "training", DOCUMENTS) as training, Writer(output / "held_out", DOCUMENTS) as kept:
        writers: dict[str, Writer] = {"training": training, "held_out": kept}

        def put(part: str, row: dict[str, Any]) -> None:
            writers[part].add(row)
            totals[part] += 1
            totals[f"bytes_{part}"] += len(row["text"].encode("utf-8", "surrogatepass"))

        if isinstance(held_out, tuple):
            for row, _ in rows:
                put("held_out" if _is_named(row["source"], held_out) else "training", row)
            return "names"
        if not held_out:
            for row, _ in rows:
                put("training", row)
            return "none"
        first = [row for row, _ in _take(rows, FEW_DOCUMENTS)]
        if len(first) < FEW_DOCUMENTS:
            return _write_tails(first, held_out, put)
        _write_share(_chain(first, rows), held_out, put)
        return "documents" if totals["held_out"] else "none"


def _write_share(rows: Iterator[tuple[dict[str, Any], bool]], share: float, put: Any) -> None:
    """Hold out the documents whose hash falls into the share; where none does, the one that came nearest to it."""
    spare: dict[str, Any] | None = None
    none_yet = True
    for row, may in rows:
        if may and int(row["content_hash"][:8], 16) < share * 2**32:
            put("held_out", row)
            none_yet = False
        elif none_yet and may and (spare is None or row["content_hash"] < spare["content_hash"]):
            if spare:
                put("training", spare)
            spare = row
        else:
            put("training", row)
    if spare:
        put("held_out" if none_yet else "training", spare)


def _take(rows: Iterator[tuple[dict[str, Any], bool]], count: int) -> list[tuple[dict[str, Any], bool]]:
    taken = []
    for row in rows:
        taken.append(row)
        if len(taken) == count:
            break
    return taken


def _chain(
    first: list[dict[str, Any]], rest: Iterator[tuple[dict[str, Any], bool]]
) -> Iterator[tuple[dict[str, Any], bool]]:
    for row in first:
        planted = json.loads(row["meta"]).get("planted", "none")
        yield row, planted == "none"
    yield from rest


def _write_tails(rows: list[dict[str, Any]], share: float, put: Any) -> str:
    """With a handful of documents none can be spared: the tail of each is held out, cut where a paragraph ends.

    What the generator says of a whole document (its probability) holds for no part of it, and goes.
    """
    cut_any = False
    for row in rows:
        cut = tail_cut(row["text"], share)
        if cut is None:
            put("training", row)
            continue
        cut_any = True
        shared = row | {"meta": _without_probability(row["meta"])}
        for part, text in (("training", row["text"][:cut]), ("held_out", row["text"][cut:])):
            suffix = "" if part == "training" else "-tail"
            put(part, shared | {"id": row["id"] + suffix, "text": text, "content_hash": content_hash(text)})
    return "tails" if cut_any else "none"


def _without_probability(meta: str) -> str:
    known = {name: value for name, value in json.loads(meta).items() if name != "log_probability"}
    return json.dumps(known, ensure_ascii=False, sort_keys=True)


def tail_cut(text: str, share: float) -> int | None:
    """Where the last `share` of a text begins: behind the paragraph, line or sentence end nearest to it; None: too short."""
    wanted = round(len(text) * (1 - share))
    if len(text) - wanted < SHORTEST_TAIL:
        return None
    for mark in ("\n\n", "\n", ". "):
        before, after = text.rfind(mark, 0, wanted), text.find(mark, wanted)
        ends = [place + len(mark) for place in (before, after) if place > 0]
        ends = [end for end in ends if abs(end - wanted) <= len(text) * share / 2]
        if ends:
            return min(ends, key=lambda end: abs(end - wanted))
    return wanted


def _is_named(source: str, names: tuple[str, ...]) -> bool:
    path = source.rpartition(":")[0] if source.rpartition(":")[2].isdigit() else source
    return any(unicodedata.normalize("NFC", name) in (path, path.rpartition("/")[2], source) for name in names)


def _check_names(names: tuple[str, ...], corpus: CorpusSettings, base: Path) -> None:
    """Every held-out name must be a file of a source."""
    known = [
        name
        for source in corpus.sources
        if source.path not in ("", WORLD, LABELS)
        for name, _ in source_files(source, base)
    ]
    for name in names:
        if not any(_is_named(item, (name,)) for item in known):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.3) or known[:1] or ["-"]
            raise UsageError(
                N_("corpus.held_out names {name}, which no source holds"),
                fix=N_("did you mean {guess}?"),
                name=name,
                guess=near[0],
            )

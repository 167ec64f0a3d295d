"""The collect stage: every source becomes documents, some of them held out."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treino import events, files
from treino.corpus.documents import REMOVED, write_rows
from treino.corpus.gathering import PAGES, Gathering, Piece
from treino.corpus.held_out import FEW_DOCUMENTS, check_names, hold_out_some
from treino.corpus.shards import ACCOUNTS, carry_out
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import COMPRESSIONS, LABELS, WORLD, source_digest, source_files
from treino.errors import DataError, NothingLeft
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import CorpusSettings, SourceSettings, WorldSettings

BUNDLE_BYTES = 64_000_000
"""Bytes of files that are read by one process in one go, and again if it is interrupted; a larger file has its own bundle."""
EXPANDS = 4
"""Times that a compressed file grows, about."""
WORLD_BYTES = 400
"""Of a document of the embedded town, about."""


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
    names = corpus.held_out if isinstance(corpus.held_out, tuple) else ()
    if names:
        check_names(names, corpus, base)
    bundles, sizes = _bundles(corpus, world, base)
    job = Gathering(corpus, world, base.absolute(), seed, labelled and labelled.absolute(), output.absolute(), bundles)
    files.make_private(output / ACCOUNTS)
    files.remove_temporaries(output)
    waiting = [item for item in range(len(bundles)) if not job.account(item).exists()]
    if len(waiting) == len(
        bundles
    ):  # what may be there comes from an attempt that was interrupted when it was nearly done
        for part in ("training", "held_out"):
            files.remove_folder(output / part)
    total = world.documents if all(source.path == WORLD for source in corpus.sources) else None
    done = 0

    def seen(more: int) -> None:
        nonlocal done
        done += more
        events.progress("collect", done, total, N_("documents"))

    carry_out(job, waiting, [sizes[item] for item in waiting], seen)
    return _finish(job)


def _bundles(
    corpus: CorpusSettings, world: WorldSettings, base: Path
) -> tuple[tuple[tuple[Piece, ...], ...], list[int]]:
    """What is read in one go, in order, and about how many bytes each bundle has; a web site is one by itself."""
    bundles: list[list[Piece]] = [[]]
    sizes = [0]
    labels: Counter[str] = Counter()
    for number, source in enumerate(corpus.sources):
        label = unicodedata.normalize("NFC", Path(source.path).name) if source.path else "recipe"
        labels[label] += 1
        label = label if labels[label] == 1 else f"{label}#{labels[label]}"
        for names, size in _portions(source, world, base):
            if bundles[-1] and (sizes[-1] + size > BUNDLE_BYTES or not size):
                bundles.append([])
                sizes.append(0)
            bundles[-1].append(Piece(number, label, names))
            sizes[-1] += size or BUNDLE_BYTES
    return tuple(tuple(bundle) for bundle in bundles), sizes


def _portions(source: SourceSettings, world: WorldSettings, base: Path) -> list[tuple[tuple[str, ...] | None, int]]:
    """(names of files, or None for the whole source; bytes, 0 where nobody knows) of what goes into one bundle together."""
    if source.lines or source.path in (WORLD, LABELS):
        return [(None, max(1, sum(map(len, source.lines)), (source.path == WORLD) * WORLD_BYTES * world.documents))]
    named = source_files(source, base)
    if not named:
        return [(None, 0)]
    portions: list[tuple[tuple[str, ...] | None, int]] = []
    names: list[str] = []
    size = 0
    for name, path in named:
        more = _size(path)
        if names and size + more > BUNDLE_BYTES:
            portions.append((tuple(names), size))
            names, size = [], 0
        names.append(name)
        size += more
    return [*portions, (tuple(names) if portions else None, size)]


def _size(path: Path) -> int:
    try:
        size = path.stat().st_size
    except OSError:
        return 1
    return max(1, size * (EXPANDS if path.suffix.lower() in COMPRESSIONS[1:] else 1))


def _finish(job: Gathering) -> dict[str, Any]:
    """Add up what the bundles tell, hold something out, and return the facts."""
    accounts = [files.read_json(job.account(item)) for item in range(len(job.bundles))]
    problems, documents, size, read = Problems(), Counter(), Counter(), Counter()
    for account in accounts:
        problems.merge(account["problems"])
        documents.update(account["documents"])
        size.update(account["bytes"])
        read.update(account["read"])
    for number, source in enumerate(job.corpus.sources):
        if not read[str(number)]:
            crawled = any((job.output / PAGES).glob("*"))  # which nobody wants to ask for again
            raise _nothing(source, problems, DataError if crawled else NothingLeft)
    method = _hold_out(job, accounts, documents, size)
    write_rows(job.output / "removed", ({"step": "collect"} | row for row in problems.rows), REMOVED)
    problems.tell()
    if any(source.path == WORLD for source in job.corpus.sources):
        from treino.corpus.world.facts import World
        from treino.corpus.world.prompts import write_truth

        write_truth(World.build(job.world, job.seed), files.make_private(job.output / "truth"))
    return {
        "documents_out": documents["training"] + documents["held_out"],
        "held_out_documents": documents["held_out"],
        "held_out_method": method,
        "bytes_out": size["training"] + size["held_out"],
        "held_out_bytes": size["held_out"],
        "set_aside": sum(problems.counts.values()),
        "removed_by_rule": dict(sorted(problems.counts.items())),
        "documents_by_source": [read[str(number)] for number in range(len(job.corpus.sources))],
    }


def _hold_out(job: Gathering, accounts: list[dict[str, Any]], documents: Counter[str], size: Counter[str]) -> str:
    """How the held-out documents were chosen: names, documents, tails or none."""
    share = job.corpus.held_out
    if isinstance(share, tuple):
        return "names"
    if not share:
        return "none"
    if documents["held_out"] and documents.total() >= FEW_DOCUMENTS:
        return "documents"
    files.remove_folder(job.output / ACCOUNTS)  # from here on the parts are no longer what the bundles left
    nearest = min((account["nearest"] for account in accounts if account["nearest"]), default=["", ""])
    method, counted = hold_out_some(share, nearest[1], job.output)
    for part, (count, length) in counted.items():
        documents[part], size[part] = count, length
    return method


def _nothing(source: SourceSettings, problems: Problems, kind: type[DataError]) -> DataError:
    """The error of a source without a document, with the first reason if one is known."""
    fix = N_('check that it holds text, and name its column or key with text = "..."')
    if not problems.rows:
        return kind(N_("the source {source} gives no document"), fix=fix, source=source.path)
    return kind(
        N_("the source {source} gives no document; the first problem: {first} ({reason})"),
        fix=fix,
        source=source.path,
        first=problems.rows[0]["detail"],
        reason=problems.first_reason(),
    )

"""The way every document stage works: pure steps on record batches, part by part, each part finished or not begun.

A part of the input (about 64 MB of text) becomes one part of the output and one of the record of what was changed or
removed. A part whose account stands in `records/shards/` is finished, and an interrupted stage goes on at the next one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from treino import environment, events, files
from treino.corpus.crew import Job
from treino.corpus.documents import (
    DOCUMENTS,
    PARTS,
    REMOVED,
    content_hash,
    part_files,
    part_name,
    read_part,
    writing_part,
)
from treino.corpus.threads import in_order
from treino.messages import N_

ACCOUNTS = "records/shards"
"""Folder of the accounts of finished shards; a stage that uses `apply` has `resumes=RESUMES`."""
RESUMES = f"{ACCOUNTS}/*.json"
WORTH_PROCESSES = 8_000_000
"""Bytes: at 2 MB/s they take 4 s, several times what the start of two processes takes."""
WORTH_A_FORECAST = 32_000_000
SAMPLE_BYTES = 1_000_000
"""Bytes of rows: from so many on it is said beforehand how long a stage should take, measured on so few."""
FORECAST = "records/forecast.json"
STEPS = "records/steps.json"
"""What each step did, over all shards: a list of `Account`s in the order of the steps."""


@dataclass(frozen=True)
class Outcome:
    """What a step made of a batch.

    Attributes:
        rows: the rows that stay, changed or not, in the schema `DOCUMENTS`.
        record: what is told of each document that was removed, and of those that were changed (`documents.removed_row`).
        counts: how many documents each rule changed or marked, by the rule's name.
    """

    rows: pa.RecordBatch
    record: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class Step(Protocol):
    """A picklable, frozen dataclass of settings and small tables: a pure function of each document.

    The same document has the same outcome whatever shard, batch or process it comes in. What is large (a model) is loaded
    when it is first needed, once a process.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, rows: pa.RecordBatch) -> Outcome: ...


@dataclass
class Account:
    """What a step did: documents, bytes of text (UTF-8), and processor seconds of all processes together."""

    step: str
    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    removed_by_rule: Counter[str] = field(default_factory=Counter)
    changed_by_rule: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def see(self, rows: pa.RecordBatch, outcome: Outcome, seconds: float) -> None:
        """Take note of a batch and what became of it."""
        gone = set(rows["id"].to_pylist()) - set(outcome.rows["id"].to_pylist())
        reasons = {row["id"]: row["rule"] for row in reversed(outcome.record) if row["id"] in gone}
        assert len(reasons) == len(gone), f"{self.step} removed documents without telling why"
        self.documents_in += rows.num_rows
        self.documents_out += outcome.rows.num_rows
        self.bytes_in += text_bytes(rows)
        self.bytes_out += text_bytes(outcome.rows)
        self.removed_by_rule.update(reasons.values())
        self.changed_by_rule.update(outcome.counts)
        self.seconds += seconds

    def add(self, other: Account) -> None:
        """Add the account of another shard."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            elif name != "step":
                setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Shard:
    """A part of the input, its place among all of them, and where its output goes."""

    number: int
    part: str
    source: Path
    output: Path

    @property
    def account(self) -> Path:
        """The file that says that this shard is finished."""
        return self.output / ACCOUNTS / f"{self.number:05d}.json"

    @property
    def size(self) -> int:
        """Bytes of the rows before compression."""
        known = pq.read_metadata(self.source)
        return sum(known.row_group(group).total_byte_size for group in range(known.num_row_groups))


@dataclass(frozen=True)
class Sifting:
    """The job of putting shards through steps (`corpus.crew.Job`)."""

    steps: tuple[Step, ...]
    shards: tuple[Shard, ...]

    def work(self, item: int) -> Iterator[int | str]:
        """Write a shard's output; yields the number of documents of each batch, and at last the accounts."""
        shard = self.shards[item]
        accounts = [Account(step.name) for step in self.steps]
        kept, record = shard.output / shard.part / shard.source.name, shard.output / "removed" / part_name(item)
        with writing_part(kept, DOCUMENTS) as rows_out, writing_part(record, REMOVED) as record_out:
            for batch in read_part(shard.source):
                rows = batch
                for step, account in zip(self.steps, accounts, strict=True):
                    started = time.thread_time()
                    outcome = step(rows)
                    account.see(rows, outcome, time.thread_time() - started)
                    told = [row | {"step": step.name} for row in outcome.record]
                    record_out.add(pa.RecordBatch.from_pylist(told, REMOVED))
                    rows = outcome.rows
                rows_out.add(rows)
                yield batch.num_rows
        yield json.dumps([vars(account) for account in accounts], sort_keys=True)

    def keep(self, item: int, result: str) -> None:
        """Leave the accounts: from now on the shard is finished."""
        files.write_text(self.shards[item].account, result)


def apply(steps: Sequence[Step], documents: Path, output: Path, stage: str, *, threads: bool = False) -> dict[str, Any]:
    """Put both parts of a documents folder through the steps, shard by shard; what is finished is not done again.

    `threads`: the steps let go of the interpreter for most of their time, so threads of this process do instead of others.

    Returns the stage's facts: documents and bytes in and out, the held-out ones apart, what was removed and changed by
    rule. The account of each step with its seconds is in `records/steps.json`.
    """
    for part in (*PARTS, "removed", ACCOUNTS):
        files.make_private(output / part)
    files.remove_temporaries(output)
    job = Sifting(tuple(steps), tuple(_shards(documents.absolute(), output.absolute())))
    waiting = [shard for shard in job.shards if not shard.account.exists()]
    total = sum(pq.read_metadata(shard.source).num_rows for shard in waiting)
    done = 0

    def seen(more: int) -> None:
        nonlocal done
        done += more
        events.progress(stage, done, total, N_("documents"))

    sizes = [shard.size for shard in waiting]
    if sum(sizes) >= WORTH_A_FORECAST:
        _forecast(job, waiting[sizes.index(max(sizes))], sum(sizes), stage)
    carry_out(job, [shard.number for shard in waiting], sizes, seen, threads)
    return _finish(job)


def carry_out(
    job: Job, items: Sequence[int], sizes: Sequence[int], seen: Callable[[int], None], threads: bool = False
) -> None:
    """Do the items of a job here and now where that is quickest, else by several processes or the cluster.

    `sizes`: bytes of each item; what could be done beside the largest one must be worth the start of processes.
    """
    from treino.corpus import engine

    processes = min(environment.processors(), len(items))
    if threads and processes > 1 and not engine.is_on_ray():
        for item, answers in zip(items, in_order(lambda item: list(job.work(item)), items), strict=True):
            job.keep(item, str(answers[-1]))
            seen(sum(answer for answer in answers if isinstance(answer, int)))
        return
    if engine.is_on_ray() or (processes > 1 and sum(sizes) - max(sizes) >= WORTH_PROCESSES):
        engine.spread(job, items, processes, seen)
        return
    for item in items:
        for answer in job.work(item):
            if isinstance(answer, str):
                job.keep(item, answer)
            else:
                seen(answer)


def _shards(documents: Path, output: Path) -> list[Shard]:
    sources = [(part, source) for part in PARTS for source in part_files(documents, part)]
    return [Shard(number, part, source, output) for number, (part, source) in enumerate(sources)]


def _forecast(job: Sifting, shard: Shard, size: int, stage: str) -> None:
    """Say how long the steps should take for so many bytes of rows: by the rate at which a few are done."""
    rows = next(batch for batch in read_part(shard.source) if batch.num_rows)
    rows = rows.slice(0, max(1, rows.num_rows * SAMPLE_BYTES // max(rows.nbytes, SAMPLE_BYTES)))
    took = 0.0
    sample = rows.nbytes
    for step in job.steps:
        step(rows.slice(0, 1))  # what is loaded once does not count
        started = time.monotonic()
        rows = step(rows).rows
        took += time.monotonic() - started
    processes = min(environment.processors(), len(job.shards))
    told = {"seconds": took / sample * size / processes, "bytes": size, "processes": processes}
    files.write_json(job.shards[0].output / FORECAST, told)
    events.emit("stage.forecast", stage=stage, **told)


def _finish(job: Sifting) -> dict[str, Any]:
    """Add up the accounts of all shards, leave them in `records/steps.json`, and return the facts."""
    held_out = {"held_out_documents": 0, "held_out_bytes": 0}
    sums = [Account(step.name) for step in job.steps]
    for shard in job.shards:
        accounts = [read_account(row) for row in files.read_json(shard.account)]
        for whole, account in zip(sums, accounts, strict=True):
            whole.add(account)
        if shard.part == "held_out":
            held_out["held_out_documents"] += accounts[-1].documents_out
            held_out["held_out_bytes"] += accounts[-1].bytes_out
    files.write_json(job.shards[0].output / STEPS, [vars(account) for account in sums])
    removed: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    for account in sums:
        removed.update(account.removed_by_rule)
        changed.update(account.changed_by_rule)
    return {
        "documents_in": sums[0].documents_in,
        "documents_out": sums[-1].documents_out,
        "bytes_in": sums[0].bytes_in,
        "bytes_out": sums[-1].bytes_out,
        **held_out,
        "removed_by_rule": dict(removed),
        "changed_by_rule": dict(changed),
    }


def read_account(row: dict[str, Any]) -> Account:
    """An account as it stands in a file."""
    counters: dict[str, Any] = {name: Counter(row[name]) for name in ("removed_by_rule", "changed_by_rule")}
    return Account(**row | counters)


def with_texts(rows: pa.RecordBatch, texts: Sequence[str | None]) -> pa.RecordBatch:
    """The rows with new texts and their content hashes; a row whose text is None is left out."""
    before, hashes = rows["text"].to_pylist(), rows["content_hash"].to_pylist()
    for number, (old, new) in enumerate(zip(before, texts, strict=True)):
        if new is not None and new != old:
            hashes[number] = content_hash(new)
    columns = {name: rows[name] for name in rows.schema.names}
    columns["text"] = pa.array(texts, DOCUMENTS.field("text").type)
    columns["content_hash"] = pa.array(hashes, DOCUMENTS.field("content_hash").type)
    changed = pa.RecordBatch.from_arrays(list(columns.values()), schema=rows.schema)
    return changed.filter(changed["text"].is_valid()) if None in texts else changed


def text_bytes(rows: pa.RecordBatch) -> int:
    """Bytes of the texts in UTF-8."""
    return pc.call_function("sum", [pc.call_function("binary_length", [rows["text"]])]).as_py() or 0

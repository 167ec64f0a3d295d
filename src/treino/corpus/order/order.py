"""The order stage: how often each training document is read, how hard it is, and what the finished corpus is made of.

It copies no document: where all are read once and in any order, nothing is written but the account.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from treino import events
from treino.corpus.documents import PARTS, read_documents
from treino.corpus.order.difficulty import DIFFICULTIES
from treino.corpus.order.mixing import repeats
from treino.corpus.order.table import ORDER, SCORES, read_columns, write_columns
from treino.corpus.shards import text_bytes
from treino.errors import DataError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import OrderSettings

SHARES = ("language", "licence")
"""Columns by which the account says what the corpus is made of."""


def order(settings: OrderSettings, documents: Path, output: Path, scores: Path | None = None) -> dict[str, Any]:
    """Write `output/order.parquet`, if there is something to say (`table`); returns the stage's facts.

    `scores`: the folder of a model's losses, for the difficulty "loss".
    """
    ids: list[str] = []
    found: dict[str, list[np.ndarray]] = {"repeats": [], "difficulty": []}
    for rows in read_documents(documents, "training", _columns(settings)):
        ids += rows["id"].to_pylist()
        found["repeats"].append(repeats(rows, settings.upsampling, settings.most_repeats))
        if settings.difficulty in DIFFICULTIES:
            measure = DIFFICULTIES[settings.difficulty]
            found["difficulty"].append(np.array([measure(text) for text in rows["text"].to_pylist()]))
        events.progress("order", len(ids), None, N_("documents"))
    if settings.difficulty == "loss":
        assert scores is not None
        found["difficulty"] = list(read_columns(scores, ids, SCORES).values())
    columns = {name: np.concatenate(pieces) for name, pieces in found.items() if pieces}
    if (columns.get("repeats", np.ones(0)) == 1).all():
        columns.pop("repeats", None)
    if columns:
        write_columns(output / ORDER, ids, {name: values.tolist() for name, values in columns.items()})
    return _facts(columns, len(ids)) | composition(documents)


def _columns(settings: OrderSettings) -> list[str]:
    """No more of the documents is read than is asked for."""
    columns = ["id", "weight"]
    columns += ["meta"] if settings.upsampling else []
    return columns + (["text"] if settings.difficulty in DIFFICULTIES else [])


def _facts(columns: dict[str, np.ndarray], count: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"documents_in": count}
    if "repeats" in columns:
        readings = columns["repeats"]
        facts["readings_per_epoch"] = float(readings.sum())
        facts["read_more_than_once"] = int((readings > 1).sum())
        facts["read_less_than_once"] = int((readings < 1).sum())
    if "difficulty" in columns:
        easiest, middle, hardest = np.quantile(columns["difficulty"], (0, 0.5, 1)).tolist()
        facts["difficulty"] = {"easiest": easiest, "middle": middle, "hardest": hardest}
    return facts


def composition(documents: Path) -> dict[str, Any]:
    """Documents and bytes of text of the parts, and by language and licence: {"language": {"pt": {documents, bytes}}, …}."""
    parts: dict[str, Counter[str]] = {part: Counter(documents=0, bytes=0) for part in PARTS}
    shares: dict[str, dict[str, Counter[str]]] = {name: {} for name in SHARES}
    for part in PARTS:
        for rows in read_documents(documents, part, ["text", *SHARES]):
            size = pc.call_function("binary_length", [rows["text"]])
            parts[part].update(documents=rows.num_rows, bytes=text_bytes(rows))
            for name in SHARES:
                table = (
                    pa.table({name: rows[name], "size": size})
                    .group_by(name)
                    .aggregate([("size", "sum"), ("size", "count")])
                )
                for row in table.to_pylist():
                    share = shares[name].setdefault(row[name] or "", Counter())
                    share.update(documents=row["size_count"], bytes=row["size_sum"])
    if not parts["training"]["documents"]:
        raise DataError(
            N_("no text is left to learn from"), fix=N_("see what was removed: treino show RUN clean --removed 20")
        )
    return {"parts": {part: dict(count) for part, count in parts.items()}} | {
        name: {value: dict(count) for value, count in sorted(share.items())} for name, share in shares.items()
    }

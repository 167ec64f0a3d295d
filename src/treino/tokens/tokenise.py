"""The tokenise stage: documents to a tokenizer and shards of tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from treino import events, files
from treino.corpus.documents import iterate_texts
from treino.corpus.order.table import read_columns
from treino.errors import DataError
from treino.messages import N_
from treino.tokens.shards import RECORD, SCHEMA, write_columns, write_part
from treino.tokens.tokenizer import FILE, Tokenizer, train_tokenizer

if TYPE_CHECKING:
    from treino.recipe import TokenSettings

SAMPLE_BYTES = 64_000_000
"""Text that the tokenizer learns from, at most; stated in the facts."""

CHUNK = 512
FEW_DOCUMENTS = 20


def tokenise(
    settings: TokenSettings,
    documents: Path,
    output: Path,
    seed: int,
    order: Path | None = None,
    base: Path | None = None,
) -> dict[str, Any]:
    """Learn a tokenizer on the training documents (or take that of the model in the folder `base`), encode them, and cut the
    validation part from them. What the order stage says of each document (folder `order`) goes along with the training part.

    Held-out documents are not opened. Validation: whole documents chosen by a hash of (seed, id); the tail of each
    document where there are fewer than 20, or where whole ones would overshoot the share by half.
    """
    sampled = [0]
    tokenizer = Tokenizer.load(base) if base else train_tokenizer(_sample(documents, sampled), settings)
    tokenizer.save(output / FILE)
    encoded, ids, sizes = encode_documents(tokenizer, documents)
    if not encoded:
        raise DataError(
            N_("no text is left to learn from"), fix=N_("see what was removed: treino show RUN clean --removed 20")
        )
    parts, learnt = _split(encoded, ids, sizes, settings.validation, seed)
    dtype = "uint16" if tokenizer.size <= 65536 else "uint32"
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": tokenizer.kind,
        "vocabulary": tokenizer.size,
        "end_of_text": tokenizer.end_of_text,
        "pad": tokenizer.pad,
        "dtype": dtype,
        "parts": {},
    }
    if tokenizer.begin_of_text != tokenizer.end_of_text:
        record["begin_of_text"] = tokenizer.begin_of_text
    for part, (rows, size) in parts.items():
        record["parts"][part] = write_part(output, part, rows, tokenizer.end_of_text, dtype) | {"bytes": size}
    columns = read_columns(order, [ids[index] for index in learnt]) if order else {}
    record["parts"]["training"] |= write_columns(output, "training", columns)
    files.write_json(output / RECORD, record)
    return _facts(record, tokenizer, encoded, sum(sizes), sampled[0])


def _sample(documents: Path, sampled: list[int]) -> Iterator[str]:
    """Texts for the tokenizer; their bytes are added up in `sampled[0]`."""
    for _id, text in iterate_texts(documents, "training"):
        yield text
        sampled[0] += len(text.encode())
        if sampled[0] > SAMPLE_BYTES:
            return


def encode_documents(tokenizer: Tokenizer, documents: Path) -> tuple[list[np.ndarray], list[str], list[int]]:
    """Token arrays, ids and UTF-8 sizes of all training documents, in order of id."""
    dtype = np.uint16 if tokenizer.size <= 65536 else np.uint32
    rows: list[tuple[str, int, np.ndarray]] = []
    waiting: list[tuple[str, str]] = []

    def flush() -> None:
        for (number, text), ids in zip(waiting, tokenizer.encode_batch([text for _, text in waiting]), strict=True):
            rows.append((number, len(text.encode()), np.array(ids, dtype)))
        waiting.clear()
        events.progress("tokenise", len(rows), None, N_("documents"))

    for item in iterate_texts(documents, "training"):
        waiting.append(item)
        if len(waiting) >= CHUNK:
            flush()
    flush()
    rows.sort(key=lambda row: row[0])
    return [row[2] for row in rows], [row[0] for row in rows], [row[1] for row in rows]


def _split(
    encoded: list[np.ndarray], ids: list[str], sizes: list[int], share: float, seed: int
) -> tuple[dict[str, tuple[list[np.ndarray], int]], list[int]]:
    """{part: (token arrays, UTF-8 bytes)}, and the numbers of the documents of the training part."""
    chosen = _whole_documents([len(row) + 1 for row in encoded], ids, share, seed)
    if chosen is None:
        return _tails(encoded, sum(sizes), share), list(range(len(ids)))
    parts = {"training": [i for i in range(len(ids)) if i not in chosen], "validation": sorted(chosen)}
    split = {name: ([encoded[i] for i in rows], sum(sizes[i] for i in rows)) for name, rows in parts.items()}
    return split, parts["training"]


def _whole_documents(lengths: list[int], ids: list[str], share: float, seed: int) -> set[int] | None:
    """Documents that together come near the share, or None where there are too few, or too long ones, for that."""
    if len(ids) < FEW_DOCUMENTS:
        return None
    wanted, taken, chosen = share * sum(lengths), 0, set()
    for index in sorted(range(len(ids)), key=lambda index: hashlib.sha256(f"{seed}:{ids[index]}".encode()).digest()):
        if taken >= wanted:
            break
        if taken + lengths[index] > 1.5 * wanted + 1:
            return None
        chosen.add(index)
        taken += lengths[index]
    return chosen


def _tails(encoded: list[np.ndarray], size: int, share: float) -> dict[str, tuple[list[np.ndarray], int]]:
    """The last tokens of every document; bytes by the share of tokens."""
    cuts = [len(row) - int(share * len(row)) for row in encoded]
    kept = [row[:cut] for row, cut in zip(encoded, cuts, strict=True)]
    tails = [row[cut:] for row, cut in zip(encoded, cuts, strict=True) if cut < len(row)]
    part = round(size * sum(map(len, tails)) / max(1, sum(map(len, encoded))))
    return {"training": (kept, size - part), "validation": (tails, part)}


def _facts(
    record: dict[str, Any], tokenizer: Tokenizer, encoded: list[np.ndarray], size: int, sampled: int
) -> dict[str, Any]:
    tokens = sum(len(row) for row in encoded)
    facts = {
        "documents_in": len(encoded),
        "vocabulary": tokenizer.size,
        "training_tokens": record["parts"]["training"]["tokens"],
        "validation_tokens": record["parts"]["validation"]["tokens"],
        "training_documents": record["parts"]["training"]["documents"],
        "validation_documents": record["parts"]["validation"]["documents"],
        "bytes_per_token": size / tokens if tokens else 0.0,
        "tokenizer_sample_bytes": min(sampled, size),
    }
    if tokenizer.unknown is not None:
        facts["unknown_tokens"] = int(sum((row == tokenizer.unknown).sum() for row in encoded))
    return facts

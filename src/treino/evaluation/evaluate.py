"""The evaluate stage: a language model on text that it never saw, beside what simpler things make of the same text."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from treino import events, files
from treino.corpus.documents import iterate_texts, read_rows
from treino.evaluation import compressor
from treino.evaluation.bootstrap import ratio_interval
from treino.evaluation.loss import token_losses
from treino.evaluation.ngram import KneserNey
from treino.evaluation.truthfulness import by_group, frequencies, masses, model_scorer, ngram_scorer, read_prompts
from treino.models.folder import load_model
from treino.tokens.shards import open_shard
from treino.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from treino.recipe import EvaluateSettings

ORDERS = (3, 5)
FEW_DOCUMENTS = 30
BLOCK_BYTES = 2000
"""With fewer than 30 documents the interval is taken over blocks of about 2 kB."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out documents: tokens, UTF-8 bytes of each token (end tokens have none), and what is known of each."""

    documents: list[np.ndarray]
    texts: list[str]
    sizes: list[np.ndarray]
    known: list[float | None]
    """Natural log of each document's probability under the world's own grammar, where it is known."""

    @property
    def bytes(self) -> int:
        return int(sum(size.sum() for size in self.sizes))


def evaluate(
    settings: EvaluateSettings,
    model_folder: Path,
    tokens: Path,
    documents: Path,
    truth: Path | None,
    output: Path,
    seed: int,
) -> dict[str, Any]:
    """Judge a model on the held-out part of `documents` (read here and nowhere else); writes `evaluation.json`.

    Loss in natural logarithms per token (end tokens counted), perplexity = e^loss, bits per UTF-8 byte = Σ loss / (ln 2 ·
    bytes); the word-level kind has none, for it does not spell the text.
    """
    model, tokenizer = load_model(model_folder)
    held_out = read_held_out(documents, tokenizer)
    result: dict[str, Any] = {"documents": len(held_out.documents), "baselines": [], "truthfulness": []}
    with tempfile.TemporaryDirectory(prefix="treino-") as scratch:
        process = None
        if settings.compressor and held_out.documents:
            limit = int(settings.sample_megabytes * 1e6)
            process = compressor.start(*_texts(held_out, documents, Path(scratch), limit), limit)
        ngrams = _count(tokens, tokenizer, settings) if settings.ngrams else {}
        if held_out.documents:
            losses = token_losses(model, held_out.documents, tokenizer.end_of_text)
            result |= _figures(losses, held_out, tokenizer, settings, seed)
            result["baselines"] += _ngram_rows(ngrams, held_out, tokenizer)
            result |= _beside_generator(losses, held_out)
        if process:
            result["baselines"] += _compressor_rows(compressor.finish(process), result)
    if truth:
        prompts = read_prompts(truth)
        scores = {
            "model": masses(prompts, tokenizer, model_scorer(model, tokenizer.end_of_text)),
            "frequency": frequencies(prompts, (text for _, text in iterate_texts(documents, "training"))),
        }
        if ngrams:
            scores["ngram"] = masses(prompts, tokenizer, ngram_scorer(ngrams[max(ngrams)]))
        result["truthfulness"] = by_group(prompts, scores, resamples=settings.bootstrap, seed=seed)
    result |= _standing(result)
    files.write_json(output / "evaluation.json", result)
    return result


def read_held_out(documents: Path, tokenizer: Tokenizer) -> HeldOut:
    """The held-out part, tokenised."""
    rows = list(read_rows(documents, "held_out", ["text", "meta"]))
    texts = [row["text"] for row in rows]
    encoded = [np.array(ids, np.int64) for ids in tokenizer.encode_batch(texts)]
    lengths = token_bytes(tokenizer)
    known = [json.loads(row["meta"]).get("log_probability") if row["meta"] else None for row in rows]
    return HeldOut(encoded, texts, [np.append(lengths[ids], 0) for ids in encoded], known)


def token_bytes(tokenizer: Tokenizer) -> np.ndarray:
    """UTF-8 bytes that each token stands for: in byte-level BPE one character of a token's name is one byte."""
    names = [tokenizer.inner.id_to_token(number) or "" for number in range(tokenizer.size)]
    sizes = np.array([len(name) for name in names], np.int64)
    sizes[[tokenizer.end_of_text, tokenizer.pad]] = 0
    return sizes


def _figures(
    losses: Sequence[np.ndarray], held_out: HeldOut, tokenizer: Tokenizer, settings: EvaluateSettings, seed: int
) -> dict[str, Any]:
    total, count = float(sum(loss.sum(dtype=np.float64) for loss in losses)), sum(map(len, losses))
    found: dict[str, Any] = {
        "tokens": count,
        "loss": total / count,
        "perplexity": math.exp(min(total / count, 700)),
        "bits_per_byte": None,
    }
    if tokenizer.kind != "bpe":
        return found
    bits, sizes = _units(losses, held_out.sizes)
    interval = ratio_interval(bits / math.log(2), sizes, resamples=settings.bootstrap, seed=seed)
    over = "documents" if len(losses) >= FEW_DOCUMENTS else "blocks"
    return found | {"bytes": held_out.bytes, "bits_per_byte": vars(interval), "interval_over": over}


def _units(losses: Sequence[np.ndarray], sizes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Losses and bytes summed by document, or by block of about 2 kB where documents are few."""
    if len(losses) >= FEW_DOCUMENTS:
        return np.array([loss.sum(dtype=np.float64) for loss in losses]), np.array([size.sum() for size in sizes])
    bits, counts = [], []
    for loss, size in zip(losses, sizes, strict=True):
        block = np.cumsum(size) // BLOCK_BYTES
        bits.append(np.bincount(block, weights=loss))
        counts.append(np.bincount(block, weights=size))
    return np.concatenate(bits), np.concatenate(counts)


def _count(tokens: Path, tokenizer: Tokenizer, settings: EvaluateSettings) -> dict[int, KneserNey]:
    """n-gram models over all training tokens, the part kept for validation among them."""
    parts = [open_shard(tokens, part) for part in ("training", "validation")]
    stream = np.concatenate([np.asarray(part.tokens, np.int64) for part in parts])
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    counted = {}
    for order in ORDERS:
        events.progress("evaluate", order, None, "n-gram")
        counted[order] = KneserNey.train(
            stream, offsets, order=order, vocabulary=tokenizer.size, end_of_text=tokenizer.end_of_text
        )
    return counted


def _ngram_rows(ngrams: dict[int, KneserNey], held_out: HeldOut, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    if not ngrams:
        return []
    ends = [np.append(ids, tokenizer.end_of_text) for ids in held_out.documents]
    stream, offsets = np.concatenate(ends), np.concatenate([[0], np.cumsum([len(row) for row in ends])])
    rows = []
    for order, model in ngrams.items():
        total = -float(model.log_probabilities(stream, offsets).sum())
        row: dict[str, Any] = {"name": f"kneser_ney_{order}", "loss": total / len(stream)}
        if tokenizer.kind == "bpe":
            row["bits_per_byte"] = total / math.log(2) / held_out.bytes
        rows.append(row)
    return rows


def _texts(held_out: HeldOut, documents: Path, scratch: Path, limit: int) -> tuple[Path, Path]:
    """Both texts as files for the compressor; of the training text no more than its end is kept."""
    (scratch / "held_out.txt").write_bytes("\n".join(held_out.texts).encode()[:limit])
    kept = bytearray()
    for _, text in iterate_texts(documents, "training"):
        kept += text.encode() + b"\n"
        if len(kept) > 4 * limit:
            del kept[:-limit]
    (scratch / "training.txt").write_bytes(bytes(kept[-limit:]))
    return scratch / "held_out.txt", scratch / "training.txt"


def _compressor_rows(measured: compressor.Compression, result: dict[str, Any]) -> list[dict[str, Any]]:
    read = {"held_out_bytes": measured.held_out_bytes, "training_bytes": measured.training_bytes}
    return [
        {"name": "xz", "bits_per_byte": measured.alone, **read},
        {"name": "xz_after_training", "bits_per_byte": measured.after_training, **read},
    ]


def _beside_generator(losses: Sequence[np.ndarray], held_out: HeldOut) -> dict[str, Any]:
    """Model and generator on the same documents: the gap is what there was left to learn."""
    chosen = [index for index, known in enumerate(held_out.known) if known is not None]
    if not chosen:
        return {}
    size = float(sum(held_out.sizes[index].sum() for index in chosen)) * math.log(2)
    own = sum(-held_out.known[index] for index in chosen) / size  # type: ignore[operator]
    model = float(sum(losses[index].sum(dtype=np.float64) for index in chosen)) / size
    return {"generator_bits_per_byte": own, "model_bits_per_byte_there": model, "gap_to_generator": model - own}


def _standing(result: dict[str, Any]) -> dict[str, list[str]]:
    """Which baselines the model is ahead of, and behind: fewer bits per byte are better."""
    own = (result.get("bits_per_byte") or {}).get("mean")
    rows = [row for row in result["baselines"] if own is not None and "bits_per_byte" in row]
    return {
        "ahead_of": [row["name"] for row in rows if own < row["bits_per_byte"]],
        "behind": [row["name"] for row in rows if own >= row["bits_per_byte"]],
    }

"""The evaluate stage: a language model on text that it never saw, beside what simpler things make of the same text."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from treino import events, files
from treino.corpus.decontaminate.decontaminate import CONTAMINATED
from treino.corpus.documents import iterate_texts, read_rows
from treino.evaluation import compressor
from treino.evaluation.bootstrap import ratio_interval, units
from treino.evaluation.loss import token_losses
from treino.evaluation.ngram import KneserNey
from treino.evaluation.truthfulness import (
    Prompt,
    by_group,
    frequencies,
    masses,
    model_scorer,
    ngram_scorer,
    read_prompts,
)
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.models.folder import load_model
from treino.tokens.shards import open_shard
from treino.tokens.tokenizer import Tokenizer

if TYPE_CHECKING:
    from treino.recipe import EvaluateSettings

ORDERS = (3, 5)
BYTE_LEVEL = "bpe"
"""The kind of tokenizer whose tokens spell the text, byte by byte."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out documents: tokens, UTF-8 bytes of each token (end tokens have none), and what is known of each."""

    documents: list[np.ndarray]
    texts: list[str]
    sizes: list[np.ndarray]
    known: list[float | None]
    """Natural log of each document's probability under the world's own grammar, where it is known."""
    ids: list[str]

    def only(self, places: Sequence[int]) -> HeldOut:
        """Some of the documents."""
        return HeldOut(*([column[place] for place in places] for column in vars(self).values()))

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
    contamination: Path | None = None,
) -> dict[str, Any]:
    """Judge a model on the held-out part of `documents` (read here and nowhere else); writes `evaluation.json`.

    Loss in natural logarithms per token (end tokens counted), perplexity = e^loss, bits per UTF-8 byte = Σ loss / (ln 2 ·
    bytes). The word-level kind has no bits per byte, for it does not spell the text, and is not held against what has
    nothing else: the compressor and the generator.

    `contamination`: folder with `contaminated.json`, the items that were found in the training text; where there are any,
    `without_contaminated` has the figures of the others.

    Raises:
        DataError: where the model, the tokens or the documents are damaged.
        MachineError: where the compressor fails.
    """
    model, tokenizer = load_model(model_folder)
    held_out = read_held_out(documents, tokenizer)
    count = len(held_out.documents)
    result: dict[str, Any] = {"documents_in": count, "documents": count, "baselines": [], "truthfulness": []}
    with contextlib.ExitStack() as stack:
        compressed = None
        if settings.compressor and count and tokenizer.kind == BYTE_LEVEL:
            compressed = stack.enter_context(compressor.measuring(_sample(held_out, documents, settings)))
        ngrams = _count(tokens, tokenizer, settings) if settings.ngrams else {}
        if count:
            losses = token_losses(model, held_out.documents, tokenizer.end_of_text, tokenizer.begin_of_text)
            result |= _figures(losses, held_out, tokenizer, settings, seed)
            result["baselines"] += _ngram_rows(ngrams, held_out, tokenizer)
            result |= _beside_generator(losses, held_out, tokenizer)
            result |= _without_contaminated(contamination, losses, held_out, tokenizer, settings, seed)
        if compressed:
            result["baselines"] += _compressor_rows(compressed())
    if truth:
        prompts, texts = read_prompts(truth), (text for _, text in iterate_texts(documents, "training"))
        scores = {
            "model": masses(prompts, tokenizer, model_scorer(model, tokenizer.begin_of_text)),
            "frequency": frequencies(prompts, texts),
        }
        if ngrams:
            scores["ngram"] = masses(prompts, tokenizer, ngram_scorer(ngrams[max(ngrams)]))
        result |= _truthfulness(prompts, scores, contamination, settings, seed)
    if not count:
        events.emit("note.nothing_held_out", documents=len(open_shard(tokens, "training")))
        if tokenizer.kind != BYTE_LEVEL:
            events.emit("note.words")
    result |= _standing(result)
    files.write_json(output / "evaluation.json", result)
    return result


def figures_on(
    model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[str], settings: EvaluateSettings, seed: int = 1
) -> dict[str, Any]:
    """{documents, tokens, loss, perplexity, bits_per_byte …} of a model on texts of any origin."""
    given = _tokenised(tokenizer, list(texts), [None] * len(texts), [""] * len(texts))
    losses = token_losses(model, given.documents, tokenizer.end_of_text, tokenizer.begin_of_text)
    return {"documents": len(texts)} | _figures(losses, given, tokenizer, settings, seed)


def read_held_out(documents: Path, tokenizer: Tokenizer) -> HeldOut:
    """The held-out part, tokenised."""
    rows = list(read_rows(documents, "held_out", ["id", "text", "meta"]))
    known = [json.loads(row["meta"]).get("log_probability") if row["meta"] else None for row in rows]
    return _tokenised(tokenizer, [row["text"] for row in rows], known, [row["id"] for row in rows])


def _without_contaminated(
    contamination: Path | None,
    losses: Sequence[np.ndarray],
    held_out: HeldOut,
    tokenizer: Tokenizer,
    settings: EvaluateSettings,
    seed: int,
) -> dict[str, Any]:
    """The figures on the held-out documents that do not stand in the training text, where some do."""
    untouched = _untouched(contamination, "held_out", held_out.ids)
    if len(untouched) in (0, len(losses)):
        return {}
    rest = [losses[place] for place in untouched]
    figures = _figures(rest, held_out.only(untouched), tokenizer, settings, seed)
    return {"without_contaminated": {"documents": len(untouched)} | figures}


def _truthfulness(
    prompts: list[Prompt],
    scores: dict[str, np.ndarray],
    contamination: Path | None,
    settings: EvaluateSettings,
    seed: int,
) -> dict[str, Any]:
    """Truthfulness by group, and again without the questions that stand in the training text, where some do."""
    result = {"truthfulness": by_group(prompts, scores, resamples=settings.bootstrap, seed=seed)}
    untouched = _untouched(contamination, "world", [prompt["id"] for prompt in prompts])
    if len(untouched) not in (0, len(prompts)):
        prompts = [prompts[place] for place in untouched]
        scores = {name: values[untouched] for name, values in scores.items()}
        rest = by_group(prompts, scores, resamples=settings.bootstrap, seed=seed)
        result["truthfulness_without_contaminated"] = rest
    return result


def _untouched(contamination: Path | None, name: str, ids: Sequence[str]) -> list[int]:
    """Places of the items of a set that were not found in the training text."""
    found = files.read_json(contamination / CONTAMINATED).get(name, {}) if contamination else {}
    touched = set(found.get("contaminated", []))
    return [place for place, number in enumerate(ids) if number not in touched]


def _tokenised(tokenizer: Tokenizer, texts: list[str], known: list[float | None], ids: list[str]) -> HeldOut:
    encoded = [np.array(ids, np.int64) for ids in tokenizer.encode_batch(texts)]
    lengths = tokenizer.token_bytes()
    sizes = [np.append(lengths[ids], 0) for ids in encoded]
    if tokenizer.kind == BYTE_LEVEL:
        for text, size in zip(texts, sizes, strict=True):
            # A tokenizer may normalise the text, or put a space before it: the text's own bytes are what counts.
            size[-1] += len(text.encode()) - size.sum()
    return HeldOut(encoded, texts, sizes, known, ids)


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
    if tokenizer.kind != BYTE_LEVEL:
        return found
    over, nats, sizes = units(losses, held_out.sizes)
    interval = ratio_interval(nats / math.log(2), sizes, resamples=settings.bootstrap, seed=seed)
    return found | {"bytes": held_out.bytes, "bits_per_byte": vars(interval), "interval_over": over}


def _count(tokens: Path, tokenizer: Tokenizer, settings: EvaluateSettings) -> dict[int, KneserNey]:
    """n-gram models over all training tokens, the part kept for validation among them."""
    parts = [open_shard(tokens, part) for part in ("training", "validation")]
    stream = np.concatenate([np.asarray(part.tokens, np.int64) for part in parts])
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    counted = {}
    for order in ORDERS:
        events.progress("evaluate", order, None, N_("n-gram"))
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
        if tokenizer.kind == BYTE_LEVEL:
            row["bits_per_byte"] = total / math.log(2) / held_out.bytes
        rows.append(row)
    return rows


def _sample(held_out: HeldOut, documents: Path, settings: EvaluateSettings) -> compressor.Sample:
    training = (text for _, text in iterate_texts(documents, "training"))
    return compressor.sample(held_out.texts, training, max(1, int(settings.sample_megabytes * 1e6)))


def _compressor_rows(measured: compressor.Compression) -> list[dict[str, Any]]:
    read = {"held_out_bytes": measured.held_out_bytes, "training_bytes": measured.training_bytes}
    return [
        {"name": "xz", "bits_per_byte": measured.alone, **read},
        {"name": "xz_after_training", "bits_per_byte": measured.after_training, **read},
    ]


def _beside_generator(losses: Sequence[np.ndarray], held_out: HeldOut, tokenizer: Tokenizer) -> dict[str, Any]:
    """Model and generator on the same documents, in bits per byte: the gap is what there was left to learn.

    Documents that the generator did not write as they are (near copies, damaged ones, other sources) are left out.
    """
    known = [(index, value) for index, value in enumerate(held_out.known) if value is not None]
    if not known or tokenizer.kind != BYTE_LEVEL:
        return {}
    bits = math.log(2) * float(sum(held_out.sizes[index].sum() for index, _ in known))
    own = -math.fsum(value for _, value in known) / bits
    model = float(sum(losses[index].sum(dtype=np.float64) for index, _ in known)) / bits
    return {"generator_bits_per_byte": own, "model_bits_per_byte_there": model, "gap_to_generator": model - own}


def _standing(result: dict[str, Any]) -> dict[str, list[str]]:
    """Which baselines the model is ahead of, and behind: fewer bits per byte are better, or (words) a smaller loss."""
    bits = result.get("bits_per_byte")
    own, unit = (bits["mean"], "bits_per_byte") if bits else (result.get("loss"), "loss")
    rows = [(row["name"], row[unit]) for row in result["baselines"] if own is not None and unit in row]
    return {
        "ahead_of": [name for name, value in rows if own < value],
        "behind": [name for name, value in rows if own >= value],
    }

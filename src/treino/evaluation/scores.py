"""The score stage: how hard each training document is to a model that is there already, for a curriculum."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from treino import events
from treino.corpus.documents import iterate_texts
from treino.corpus.order.table import SCORES, write_columns
from treino.evaluation.loss import token_losses
from treino.messages import N_
from treino.models.folder import load_model

AT_ONCE = 256
"""Documents that are tokenised and scored together."""


def score(model_folder: Path, documents: Path, output: Path) -> dict[str, Any]:
    """Write `output/scores.parquet` with a row (id, score) for each training document: −Σ ln p of its tokens and its end, by
    UTF-8 byte, so that models of other tokenizers order alike, and long texts are no harder for their length.
    """
    model, tokenizer = load_model(model_folder)
    rows = iterate_texts(documents, "training")
    ids: list[str] = []
    scores: list[float] = []
    while batch := list(itertools.islice(rows, AT_ONCE)):
        encoded = [np.array(tokens, np.int64) for tokens in tokenizer.encode_batch([text for _, text in batch])]
        losses = token_losses(model, encoded, tokenizer.end_of_text, tokenizer.begin_of_text)
        for (number, text), loss in zip(batch, losses, strict=True):
            ids.append(number)
            scores.append(float(loss.sum(dtype=np.float64)) / max(1, len(text.encode())))
        events.progress("score", len(ids), None, N_("documents"))
    write_columns(output / SCORES, ids, {"score": scores})
    return {"documents_in": len(ids), "nats_per_byte": float(np.mean(scores)) if scores else None}

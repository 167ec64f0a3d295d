"""What a model still knows of its base task after fine-tuning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from treino.evaluation.loss import mean_loss
from treino.models.base import LanguageModel
from treino.models.build import build_model
from treino.models.classifier_folder import is_classifier, load_classifier
from treino.models.folder import load_model
from treino.models.nf4 import in_four_bits
from treino.tokens.shards import open_shard

MOST_TOKENS = 16_384
"""Tokens of the pretraining's validation text that are read."""


def forgetting(base: Path, tuned: Path, tokens: Path) -> dict[str, float | int] | None:
    """Loss of the next token (nats) on the pretraining's validation text, `before` and `after` the fine-tuning.

    `tuned` is the folder of a classifier or of a language model. A classifier's body speaks through the base model's own head
    afterwards, kept as it was: where head and token table were one, the head is a copy from before. A tuned language model
    speaks through its own, which is a part of what was tuned. None where pretraining kept no validation text.
    """
    documents = held_out_documents(tokens)
    if not documents:
        return None
    model, tokenizer = load_model(base)
    after_it = (
        with_original_head(load_classifier(tuned)[0].body, model) if is_classifier(tuned) else load_model(tuned)[0]
    )
    return {
        "before": mean_loss(model, documents, tokenizer),
        "after": mean_loss(after_it, documents, tokenizer),
        "tokens": sum(len(document) + 1 for document in documents),
    }


def held_out_documents(tokens: Path) -> list[np.ndarray]:
    """The first documents of the pretraining's validation text, about `MOST_TOKENS` tokens; of a longer one its beginning."""
    shard = open_shard(tokens, "validation")
    documents: list[np.ndarray] = []
    for index in range(len(shard)):
        if sum(len(document) for document in documents) >= MOST_TOKENS:
            break
        documents.append(np.asarray(shard.document(index)[:MOST_TOKENS], np.int64))
    return documents


def with_original_head(body: LanguageModel, original: LanguageModel) -> LanguageModel:
    """A language model of one model's body and another one's head, which are no longer tied. A body in NF4 has kept its own
    head as it was.
    """
    if in_four_bits(body):
        return body
    joined = build_model(original.settings.model_copy(update={"tied": False}), original.vocabulary, original.family)
    with torch.no_grad():
        mine = dict(joined.named_parameters())
        for name, value in original.named_parameters(remove_duplicate=False):
            mine[name].copy_(value)
        for ours, tuned in zip(joined.parts(), body.parts(), strict=True):
            for parameter, value in zip(ours, tuned, strict=True):
                parameter.copy_(value)
    return joined.eval()

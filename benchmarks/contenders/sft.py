"""TRL's SFTTrainer on LlamaForCausalLM: one long `train()` over tokenised conversations, whose callback waits between turns."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from contenders import huggingface
from contenders.shapes import Shape
from contenders.turns import Turns


class Observed(huggingface.Observed, SFTTrainer):
    """TRL's trainer, observed."""


def conversations(data: Path) -> Dataset:
    """Ids, and labels of which the others' words are left out."""
    tokens, offsets, learnt = (np.load(data / f"{name}.npy") for name in ("tokens", "offsets", "supervised"))
    labels = np.where(learnt, tokens, -100)
    spans = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    return Dataset.from_dict(
        {
            "input_ids": [tokens[first:last].tolist() for first, last in spans],
            "labels": [labels[first:last].tolist() for first, last in spans],
        }
    )


def words(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer that the trainer wants to see, and has nothing to tokenise with."""
    inner = Tokenizer(WordLevel({f"w{number}": number for number in range(vocabulary)}, unk_token="w2"))
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="w0", pad_token="w1", unk_token="w2")


def check_isolation(llama: torch.nn.Module) -> None:
    """Packed documents must not see each other: what stands in the first one leaves the second one's logits alone."""
    ids = torch.arange(10, 26)[None]
    places = torch.cat([torch.arange(7), torch.arange(9)])[None]
    other = ids.clone()
    other[0, :7] += 100
    with torch.no_grad():
        one, two = (llama(input_ids=part, position_ids=places, use_cache=False).logits[0, 7:] for part in (ids, other))
    assert float((one - two).abs().max()) < 1e-4 * float(one.abs().max()), "packed documents see each other"


def run(turns: Turns, shape: Shape, data: Path, **arguments: Any) -> None:
    """Steps of the SFTTrainer with its defaults, and with what `arguments` change of them."""
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            **huggingface.plain(),
            **arguments,
        )
        learner = huggingface.model(shape, data)
        callback = huggingface.TakeTurns(turns)
        if settings.packing or settings.padding_free:
            check_isolation(learner.eval())
        trainer = Observed(
            model=learner.train(),
            args=settings,
            train_dataset=conversations(data),
            processing_class=words(shape.vocabulary),
            callbacks=[callback],
        )
        callback.trainer = trainer
        trainer.train()

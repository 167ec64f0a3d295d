"""From settings to a fresh model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from treino.models.base import LanguageModel
from treino.models.families import OWN, Family
from treino.models.gpt2 import GPT2
from treino.models.lstm import LSTM
from treino.models.nf4 import in_four_bits
from treino.models.transformer import Transformer

if TYPE_CHECKING:
    from treino.recipe import ModelSettings


def build_model(settings: ModelSettings, vocabulary: int, family: Family = OWN) -> LanguageModel:
    """A model with random weights (from torch's generator) for a vocabulary of so many tokens."""
    if settings.architecture == "lstm":
        return LSTM(settings, vocabulary)
    return (GPT2 if family.name == "gpt2" else Transformer)(settings, vocabulary, family)


def copy_of(model: LanguageModel, *, dropout: float, fresh: bool = False) -> LanguageModel:
    """Another model of the same weights (`fresh`: of random ones) with another dropout.

    Of a model in NF4, of which nothing but adapters is ever trained, the copy has the very same tensors.
    """
    settings = model.settings.model_copy(update={"dropout": dropout})
    if in_four_bits(model) and not fresh:
        same: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        twin = copy.deepcopy(model, same | {id(model.stream): model.stream})
        twin.settings = settings
        for block in twin.layers_to_gather():
            block.dropout = dropout  # type: ignore[assignment]
        return twin
    other = build_model(settings, model.vocabulary, model.family)
    if not fresh:
        other.load_state_dict(model.state_dict())
    return other

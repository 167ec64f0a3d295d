"""From settings to a fresh model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treino.models.base import LanguageModel
from treino.models.families import OWN, Family
from treino.models.gpt2 import GPT2
from treino.models.lstm import LSTM
from treino.models.transformer import Transformer

if TYPE_CHECKING:
    from treino.recipe import ModelSettings


def build_model(settings: ModelSettings, vocabulary: int, family: Family = OWN) -> LanguageModel:
    """A model with random weights (from torch's generator) for a vocabulary of so many tokens."""
    if settings.architecture == "lstm":
        return LSTM(settings, vocabulary)
    return (GPT2 if family.name == "gpt2" else Transformer)(settings, vocabulary, family)


def copy_of(model: LanguageModel, *, dropout: float, fresh: bool = False) -> LanguageModel:
    """Another model of the same weights (`fresh`: of random ones) with another dropout."""
    copy = build_model(model.settings.model_copy(update={"dropout": dropout}), model.vocabulary, model.family)
    if not fresh:
        copy.load_state_dict(model.state_dict())
    return copy

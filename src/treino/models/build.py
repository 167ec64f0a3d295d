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

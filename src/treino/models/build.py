"""From settings to a fresh model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treino.models.base import LanguageModel
from treino.models.lstm import LSTM
from treino.models.transformer import Transformer

if TYPE_CHECKING:
    from treino.recipe import ModelSettings

ARCHITECTURES: dict[str, type[LanguageModel]] = {"transformer": Transformer, "lstm": LSTM}


def build_model(settings: ModelSettings, vocabulary: int) -> LanguageModel:
    """A model with random weights (from torch's generator) for a vocabulary of so many tokens."""
    return ARCHITECTURES[settings.architecture](settings, vocabulary)

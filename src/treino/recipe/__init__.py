"""What the user writes: TOML to frozen, validated settings, one table per stage."""

from treino.recipe.base import Settings
from treino.recipe.chat import ChatSettings
from treino.recipe.corpus import CleanSettings, CorpusSettings, SourceSettings, WorldSettings
from treino.recipe.derive import derive, feed_forward_width, finetuning_rate, pretraining_rate
from treino.recipe.duplicates import DecontaminateSettings, DeduplicateSettings
from treino.recipe.filter import FilterSettings
from treino.recipe.finetuning import (
    ADAPTED,
    CURES,
    Condition,
    FinetuneSettings,
    GateSettings,
    LabelSettings,
    SearchSettings,
    parse_condition,
)
from treino.recipe.model import ModelSettings, TokenSettings
from treino.recipe.order import OrderSettings
from treino.recipe.recipe import Recipe
from treino.recipe.remote import PROMPT, RemoteSettings, is_local
from treino.recipe.sequence import LessonSettings, SequenceSettings
from treino.recipe.training import EvaluateSettings, PretrainSettings, ReportSettings, parse_budget

__all__ = [
    "ADAPTED",
    "CURES",
    "PROMPT",
    "ChatSettings",
    "CleanSettings",
    "Condition",
    "CorpusSettings",
    "DecontaminateSettings",
    "DeduplicateSettings",
    "EvaluateSettings",
    "FilterSettings",
    "FinetuneSettings",
    "GateSettings",
    "LabelSettings",
    "LessonSettings",
    "ModelSettings",
    "OrderSettings",
    "PretrainSettings",
    "Recipe",
    "RemoteSettings",
    "ReportSettings",
    "SearchSettings",
    "SequenceSettings",
    "Settings",
    "SourceSettings",
    "TokenSettings",
    "WorldSettings",
    "derive",
    "feed_forward_width",
    "finetuning_rate",
    "is_local",
    "parse_budget",
    "parse_condition",
    "pretraining_rate",
]

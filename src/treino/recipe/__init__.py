"""What the user writes: TOML to frozen, validated settings, one table per stage."""

from treino.recipe.base import Settings
from treino.recipe.corpus import CleanSettings, CorpusSettings, DeduplicateSettings, SourceSettings, WorldSettings
from treino.recipe.derive import derive
from treino.recipe.model import ModelSettings, TokenSettings
from treino.recipe.recipe import Recipe
from treino.recipe.training import EvaluateSettings, PretrainSettings, ReportSettings, parse_budget

__all__ = [
    "CleanSettings",
    "CorpusSettings",
    "DeduplicateSettings",
    "EvaluateSettings",
    "ModelSettings",
    "PretrainSettings",
    "Recipe",
    "ReportSettings",
    "Settings",
    "SourceSettings",
    "TokenSettings",
    "WorldSettings",
    "derive",
    "parse_budget",
]

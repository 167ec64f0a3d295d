"""The whole recipe: one table per stage."""

from __future__ import annotations

from pydantic import Field

from treino.messages import N_
from treino.recipe.base import Settings, setting
from treino.recipe.chat import ChatSettings
from treino.recipe.corpus import CleanSettings, CorpusSettings, WorldSettings
from treino.recipe.duplicates import DecontaminateSettings, DeduplicateSettings
from treino.recipe.filter import FilterSettings
from treino.recipe.finetuning import FinetuneSettings, GateSettings, LabelSettings, SearchSettings
from treino.recipe.model import ModelSettings, TokenSettings
from treino.recipe.order import OrderSettings
from treino.recipe.remote import RemoteSettings
from treino.recipe.sequence import SequenceSettings
from treino.recipe.training import EvaluateSettings, PretrainSettings, ReportSettings

SCHEMA = 1
NAME_PATTERN = r"^[\w][\w .-]{0,79}$"


class Recipe(Settings):
    """Everything that a run is asked to do. Equal recipes (and locks, and data) give equal models."""

    schema_version: int = Field(
        SCHEMA, alias="schema", ge=1, le=SCHEMA, description=N_("version of the recipe's format")
    )
    name: str = setting("quickstart", N_("name of the run and of its folder"), beginner=True, pattern=NAME_PATTERN)
    seed: int = setting(
        1, N_("start of every random choice: equal seeds, equal models"), beginner=True, ge=0, le=2**31 - 1
    )
    corpus: CorpusSettings = Field(default_factory=CorpusSettings)
    world: WorldSettings = Field(default_factory=WorldSettings)
    clean: CleanSettings = Field(default_factory=CleanSettings)
    filter: FilterSettings = Field(default_factory=FilterSettings)
    deduplicate: DeduplicateSettings = Field(default_factory=DeduplicateSettings)
    decontaminate: DecontaminateSettings = Field(default_factory=DecontaminateSettings)
    order: OrderSettings = Field(default_factory=OrderSettings)
    tokens: TokenSettings = Field(default_factory=TokenSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    pretrain: PretrainSettings = Field(default_factory=PretrainSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    chat: ChatSettings = Field(default_factory=ChatSettings)
    finetune: FinetuneSettings = Field(default_factory=FinetuneSettings)
    sequence: SequenceSettings = Field(default_factory=SequenceSettings)
    remote: RemoteSettings = Field(default_factory=RemoteSettings)
    search: SearchSettings = Field(default_factory=SearchSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)


def setting_paths() -> dict[str, Settings]:
    """Every setting as a dotted path (`model.width`) with the default table that holds it, in the recipe's order."""
    paths: dict[str, Settings] = {}
    whole = Recipe.model_validate({})
    for name in Recipe.model_fields:
        value = getattr(whole, name)
        if isinstance(value, Settings):
            paths |= {f"{name}.{field}": value for field in type(value).model_fields}
        else:
            paths["schema" if name == "schema_version" else name] = whole
    return paths

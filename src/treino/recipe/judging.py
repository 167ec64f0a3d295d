"""Refuses a gate or a search that nothing could judge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from treino.errors import UsageError
from treino.messages import N_
from treino.recipe.finetuning import (
    ADAPTED,
    BASELINES,
    CHAT_BASELINES,
    CHAT_MEASURES,
    CLASS_MEASURES,
    MEASURES,
    parse_condition,
)

if TYPE_CHECKING:
    from treino.recipe.recipe import Recipe


def check_gate_and_search(recipe: Recipe) -> None:
    """Refuse a gate or a search that nothing could judge."""
    asked = {"gate.require": bool(recipe.gate.require), "search.trials": recipe.search.trials > 1}
    for key in (name for name, wanted in asked.items() if wanted):
        if not (recipe.labels.given or recipe.chat.given):
            raise UsageError(
                N_("{key} is set, but there are no labelled texts and no conversations to fine-tune on"),
                fix=N_('name them: labels.source = "file.csv", or chat.source = "talks.jsonl"'),
                key=key,
            )
        if recipe.chat.given and not recipe.chat.validation:
            raise UsageError(
                N_("{key} is set, but no conversations are held out to judge by"),
                fix=N_("set chat.validation to a share such as 0.1"),
                key=key,
            )
    if recipe.labels.given and asked["search.trials"] and not recipe.labels.validation:
        raise UsageError(
            N_("{key} is more than 1, but no validation rows are there to judge the trials by"),
            fix=N_("set labels.validation to a share such as 0.15"),
            key="search.trials",
        )
    if recipe.labels.given and asked["gate.require"] and not recipe.labels.test:
        raise UsageError(
            N_("{key} is set, but no test rows are there to decide by"),
            fix=N_("set labels.test to a share such as 0.2, or to a file"),
            key="gate.require",
        )
    _check_vary(recipe)
    _check_measures(recipe)


def _check_vary(recipe: Recipe) -> None:
    """Refuse other ranks of adapters where there are none."""
    if recipe.search.trials > 1 and "lora_rank" in recipe.search.vary and recipe.finetune.method not in ADAPTED:
        raise UsageError(
            N_("{key} varies the rank of adapters, and the method {method} has none"),
            fix=N_('leave lora_rank out of it, or take finetune.method = "lora"'),
            key="search.vary",
            method=recipe.finetune.method,
        )


def _check_measures(recipe: Recipe) -> None:
    """Refuse a threshold on what is measured of the other task."""
    known = CHAT_MEASURES + CHAT_BASELINES if recipe.chat.given else MEASURES + CLASS_MEASURES + BASELINES
    for text in recipe.gate.require:
        condition = parse_condition(text)
        if {condition.measure, condition.baseline} - {*known, ""}:
            raise UsageError(
                N_('{key} = "{condition}" asks for what is not measured here; known are {known}'),
                fix=N_("a classifier is judged by its classes, a model that answers by its answers"),
                key="gate.require",
                condition=text,
                known=", ".join(known),
            )

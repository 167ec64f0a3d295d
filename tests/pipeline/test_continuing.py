"""Continued pretraining: a run goes on from another's model, in its words and shape, and says what became of its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import treino
from treino.errors import UsageError
from treino.models.folder import load_model
from treino.recipe.load import load_recipe

THINGS = ("filme", "jogo", "livro", "almoço", "passeio", "dia", "show", "curso")


def recipe(name: str, verb: str, **tables: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "corpus": {"sources": [{"lines": [f"o {thing} {verb} {how}" for thing in THINGS for how in ("bom", "ruim")]}]},
        "clean": {"minimum_characters": 1},
        "tokens": {"validation": 0.3},
        "pretrain": {"budget": "30 steps", "batch": 4, "precision": "float32"},
        "evaluate": {"ngrams": False, "compressor": False, "bootstrap": 100},
    } | tables


SHAPE = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 32, "context": 16}


def test_a_model_goes_on_with_another_text(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    tokens = {"validation": 0.3, "vocabulary": 300}
    first = treino.run(recipe("first", "foi", model=SHAPE, tokens=tokens), runs=runs, language="en")
    pretrain = {"budget": "40 steps", "batch": 4, "precision": "float32", "base": str(first.folder)}
    second = treino.run(recipe("second", "foi", pretrain=pretrain), runs=runs, language="en")
    old, words = load_model(first.model_folder)
    new, same = load_model(second.model_folder)
    assert second.model_folder != first.model_folder
    assert new.settings == old.settings
    assert same.inner.get_vocab() == words.inner.get_vocab()
    assert any(not torch.equal(a, b) for a, b in zip(old.parameters(), new.parameters(), strict=True))
    began, fresh = (run.facts["pretrain"]["first_loss"] for run in (second, first))
    assert began < fresh - 1, "it starts from what the first one learnt"
    kept = second.facts["keep"]
    assert kept["documents"] > 0
    assert kept["before"] == pytest.approx(first.facts["pretrain"]["last_validation_loss"], abs=0.3)
    assert kept["after"] != kept["before"]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model": {"width": 64}}, "model.width"), ({"tokens": {"vocabulary": 300}}, "tokens.vocabulary")],
)
def test_shape_and_vocabulary_are_those_of_the_model(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match="cannot change") as refused:
        load_recipe({"pretrain": {"base": "somewhere"}} | change)
    assert said in str(refused.value)

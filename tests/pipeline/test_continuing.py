"""Continued pretraining: a run goes on from another's model, in its words and shape, and says what became of its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import treino
from treino import events
from treino.errors import DoesNotFit, UsageError
from treino.files import read_json
from treino.models.build import build_model
from treino.models.folder import load_model
from treino.recipe import ModelSettings, PretrainSettings
from treino.recipe.load import load_recipe
from treino.training.continuing import check_base

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


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> treino.Run:
    runs = tmp_path_factory.mktemp("first")
    tokens = {"validation": 0.3, "vocabulary": 300}
    return treino.run(recipe("first", "foi", model=SHAPE, tokens=tokens), runs=runs, language="en")


def test_a_model_goes_on_with_another_text(first: treino.Run, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
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


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_goes_on_with_another_text(first: treino.Run, method: str, tmp_path: Path) -> None:
    """The adapter is written, and merged into the model; table and head stay; an interrupted one ends as if it had not been."""
    pretrain = {"budget": "40 steps", "batch": 4, "method": method, "lora_rank": 4, "checkpoint_seconds": 0.0}
    given = recipe("second", "foi", pretrain=pretrain | {"base": str(first.folder)})
    done = treino.run(given, runs=tmp_path / "runs", language="en")
    facts, kept = done.facts["pretrain"], done.facts["keep"]
    assert kept["after"] != kept["before"]
    assert facts["last_loss"] < facts["first_loss"]
    assert facts["trainable_parameters"] < facts["parameters"] / 2
    assert (done.artefacts["pretrain"].folder / "adapter" / "adapter_config.json").is_file()
    old, new = (load_model(run.model_folder)[0] for run in (first, done))
    tables, same = old.parts()[0], new.parts()[0]
    assert all(torch.equal(a, b) for a, b in zip(tables, same, strict=True))
    forecast = read_json(done.artefacts["pretrain"].folder / "records" / "forecast.json")
    assert forecast["memory"]["adapters"] > 0
    if method == "qlora":
        return

    class Stop(BaseException):
        pass

    def stop(event: events.Event) -> None:
        if event.kind == "train.checkpoint" and event.values["step"] == 7:
            raise Stop

    lock = done.folder / "recipe.lock.toml"
    with pytest.raises(Stop):
        treino.run(given, runs=tmp_path / "other", language="en", listener=stop, lock=lock)
    again = treino.run(given, runs=tmp_path / "other", language="en")
    assert again.digests["pretrain"] == done.digests["pretrain"]


def test_an_adapter_that_does_not_fit_is_refused(
    first: treino.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("treino.training.fit.available_memory", lambda: 1 << 20)
    pretrain = {"budget": "5 steps", "batch": 4, "method": "lora", "base": str(first.folder)}
    with pytest.raises(DoesNotFit, match="are free") as refused:
        treino.run(recipe("second", "foi", pretrain=pretrain), runs=tmp_path / "runs", language="en")
    assert refused.value.exit_code == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "frozen", "base": "somewhere"}, "leaves the body as it is"),
        ({"method": "scratch", "base": "somewhere"}, "forgets the model"),
        ({"method": "lora"}, "none to go on from"),
        ({"method": "lora", "base": "somewhere", "optimiser": "muon"}, "muon"),
    ],
)
def test_ways_that_would_train_nothing_are_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_recipe({"pretrain": change})


def test_muon_is_refused_where_there_is_no_matrix_for_it() -> None:
    with pytest.raises(UsageError, match="this model has none"):
        load_recipe({"pretrain": {"optimiser": "muon"}, "model": {"architecture": "lstm"}})
    settings = PretrainSettings(optimiser="muon")
    sizes = {"width": 8, "layers": 1, "embedding": 8, "heads": 2, "kv_heads": 2, "feed_forward": 8, "context": 8}
    transformer, lstm = (build_model(ModelSettings(architecture=kind, **sizes), 20) for kind in ("transformer", "lstm"))
    check_base(transformer, settings, 1)
    with pytest.raises(UsageError, match="this model has none"):
        check_base(lstm, settings, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model": {"width": 64}}, "model.width"), ({"tokens": {"vocabulary": 300}}, "tokens.vocabulary")],
)
def test_shape_and_vocabulary_are_those_of_the_model(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match="cannot change") as refused:
        load_recipe({"pretrain": {"base": "somewhere"}} | change)
    assert said in str(refused.value)

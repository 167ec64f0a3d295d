"""Recipes: what is accepted, what a mistake says, where values come from."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic_core.core_schema import ErrorType

from treino.errors import TreinoError, UsageError
from treino.recipe import Recipe, derive, parse_budget
from treino.recipe.load import READY, load_recipe
from treino.recipe.mistakes import OTHERWISE, WHAT_IS_WRONG, sentence
from treino.recipe.new import commented_recipe
from treino.recipe.recipe import setting_paths
from treino.recipe.source_lines import key_lines

FROZEN = Path(__file__).with_name("settings.txt")

MISTAKES = {
    "typo": ("[model]\nwidht = 3", 2, "model.widht", "model.width"),
    "typo in the name of a table": ("[modle]\nwidth = 3", 1, "modle", "model"),
    "typo in corpus": ("[corpus]\nsource = ['a']", 2, "corpus.source", "corpus.sources"),
    "typo in world": ("[world]\ndocument = 3", 2, "world.document", "world.documents"),
    "typo in clean": ("[clean]\nunwrapp = true", 2, "clean.unwrapp", "clean.unwrap"),
    "typo in deduplicate": ("[deduplicate]\nexakt = true", 2, "deduplicate.exakt", "deduplicate.exact"),
    "typo in tokens": ("[tokens]\nvocabulari = 9", 2, "tokens.vocabulari", "tokens.vocabulary"),
    "typo in pretrain": ("[pretrain]\nlearning_rat = 0.1", 2, "learning_rat", "pretrain.learning_rate"),
    "typo in evaluate": ("[evaluate]\nngram = true", 2, "evaluate.ngram", "evaluate.ngrams"),
    "typo in report": ("[report]\nexample = true", 2, "report.example", "report.examples"),
    "typo at the top": ("sed = 3", 1, "sed", "seed"),
    "typo inside a source": ("[corpus]\nsources = [{path='a', weigth=2}]", 2, "weigth", "corpus.sources.weight"),
    "right key, wrong table": ("name = 'x'\n[model]\nbudget = '1 min'", 3, "model.budget", "[pretrain]"),
    "right key, no table": ("width = 3", 1, "width", "[model]"),
    "top key in a table": ("[model]\nseed = 3", 2, "model.seed", "top"),
    "text for a number": ("[model]\nwidth = '3'", 2, "whole number", '"3"'),
    "fraction for a whole number": ("[model]\nwidth = 3.5", 2, "whole number", "3.5"),
    "number for text": ("name = 3", 1, "text in quotes", "3"),
    "text for a switch": ("[clean]\nunwrap = 'yes'", 2, "true or false", '"yes"'),
    "number for a list": ("[corpus]\nsources = 3", 2, "list", "3"),
    "number for a table": ("model = 3", 1, "table", "[model]"),
    "too small": ("[world]\ndocuments = 1", 2, "at least 10", "1"),
    "too large": ("[world]\nnoise = 0.9", 2, "at most 0.5", "0.9"),
    "not finite": ("[pretrain]\nclip = nan", 2, "finite", "nan"),
    "unknown choice": ("[model]\nsize = 'tinny'", 2, '"tiny"', "tinny"),
    "not a budget": ("[pretrain]\nbudget = 'two hours'", 2, "10 min", "two hours"),
    "empty list": ("[corpus]\nsources = []", 2, "at least 1", "corpus.sources"),
    "source without a path": ("[corpus]\nsources = ['']", 2, "corpus.sources", "either a path or lines"),
    "name with a slash": ("name = '../x'", 1, "letters", "../x"),
    "not TOML": ("[model\nwidth = 3", 1, "not TOML", "name = value"),
    "newer schema": ("schema = 99", 1, "schema", "99"),
    "heads that do not divide the width": ("[model]\nwidth = 100", 2, "model.width = 100", "multiple of 8"),
}


@pytest.mark.parametrize("text, line, said, meant", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_names_file_line_and_what_was_meant(
    tmp_path: Path, text: str, line: int, said: str, meant: str
) -> None:
    path = tmp_path / "minha receita.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert said in message
    assert meant in message
    assert caught.value.exit_code == 2


def test_flags_win_and_their_mistakes_name_the_flag() -> None:
    loaded = load_recipe("quickstart", ["model.width=64", "pretrain.budget=3 min", "clean.unwrap=false"])
    assert (loaded.recipe.model.width, loaded.recipe.pretrain.budget, loaded.recipe.clean.unwrap) == (
        64,
        "3 min",
        False,
    )
    assert loaded.origins["model.width"] == "flag"
    with pytest.raises(UsageError, match=r"^--set model\.widht.*model\.width"):
        load_recipe("quickstart", ["model.widht=3"])
    with pytest.raises(UsageError, match=r"table\.name=value"):
        load_recipe("quickstart", ["model.width"])


def test_every_value_has_an_origin() -> None:
    loaded = load_recipe("quickstart", ["seed=7"])
    assert set(loaded.origins) == set(setting_paths())
    assert loaded.origins["seed"] == "flag"
    assert loaded.origins["model.width"] == "derived"
    assert loaded.origins["clean.unwrap"] == "default"
    assert loaded.origins["pretrain.budget"].startswith("quickstart.toml:")


@pytest.mark.parametrize(
    ("file", "text", "name", "origin"),
    [
        ("meus livros.toml", "", "meus livros", "derived"),
        ("casa/recipe.toml", "", "casa", "derived"),
        ("a.toml", "name = 'b'", "b", "{path}:1"),
        (".toml.toml", "", "toml", "derived"),
        ("receita (1).toml", "", "receita -1-", "derived"),
        ("receita.txt", "", "receita", "derived"),
        ("(!).toml", "", "x", "derived"),
    ],
)
def test_a_run_without_a_name_is_called_like_its_file(
    tmp_path: Path, file: str, text: str, name: str, origin: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    loaded = load_recipe(path)
    assert (loaded.recipe.name, loaded.origins["name"]) == (name, origin.format(path=path))


@pytest.mark.parametrize("named", ["meu", "meu/recipe.toml"])
def test_a_run_is_not_taken_for_its_recipe(tmp_path: Path, named: str) -> None:
    """Its overrides are comments there, and paths would start from the run's folder."""
    (tmp_path / "meu").mkdir()
    (tmp_path / "meu" / "recipe.toml").write_text("# --set seed=3\nseed = 1\n", encoding="utf-8")
    assert load_recipe(tmp_path / named).recipe.name == "meu"
    (tmp_path / "meu" / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="meu is a run"):
        load_recipe(tmp_path / named)


def test_a_ready_recipe_misspelt_is_guessed() -> None:
    with pytest.raises(UsageError, match="did you mean quickstart"):
        load_recipe("quikstart")


@pytest.mark.parametrize("name", READY)
def test_ready_recipes_load_and_their_commented_form_says_the_same(name: str, tmp_path: Path) -> None:
    path = tmp_path / "novo.toml"
    path.write_text(commented_recipe(name, "novo", str(path), lambda text, **values: text), encoding="utf-8")
    again, ready = load_recipe(path).recipe, load_recipe(name).recipe
    assert again.name == "novo"
    assert again.model_copy(update={"name": ready.name}) == ready


def test_settings_are_frozen_in_number_and_name() -> None:
    """A new setting needs a reason: write it into settings.txt, after asking whether the value can be derived."""
    assert FROZEN.read_text(encoding="utf-8").split() == list(setting_paths())


def test_every_setting_has_a_reason() -> None:
    for path, owner in setting_paths().items():
        name = "schema_version" if path == "schema" else path.rpartition(".")[2]
        assert type(owner).model_fields[name].description, path


def test_every_validation_error_has_a_sentence_of_ours() -> None:
    kinds = set(get_args(ErrorType))
    ours = {"budget", "condition", "label_columns", "labels", "sequence", "source"}
    assert set(WHAT_IS_WRONG) - ours <= kinds, "a kind of error that pydantic does not know"
    context = dict.fromkeys(
        ("gt", "ge", "lt", "le", "expected", "min_length", "max_length", "unknown", "known", "baselines"), 1
    )
    for kind in kinds | ours:
        message = sentence(kind, "model.width", 3, context)
        assert "model.width" in message.english()
        assert message.text in (*WHAT_IS_WRONG.values(), OTHERWISE)


def test_what_is_derived_depends_on_the_dial_and_never_overrides() -> None:
    small, names = derive(Recipe.model_validate({"model": {"size": "small", "layers": 3}}))
    tiny, _ = derive(Recipe())
    assert small.model.width > tiny.model.width
    assert small.model.layers == 3
    assert "model.layers" not in names
    assert "model.width" in names
    assert small.pretrain.learning_rate < tiny.pretrain.learning_rate


@pytest.mark.parametrize(
    "tables, optimiser, schedule, rate",
    [
        ({}, "muon", "wsd", 4e-3),
        ({"model": {"size": "small"}}, "muon", "wsd", 4e-3 / 2**0.5),
        ({"pretrain": {"optimiser": "adamw"}}, "adamw", "wsd", 4e-3),
        ({"pretrain": {"learning_rate": 0.1, "schedule": "cosine"}}, "muon", "cosine", 0.1),
        ({"model": {"architecture": "lstm"}}, "adamw", "cosine", 4e-3),
        ({"pretrain": {"base": "somewhere"}}, "adamw", "cosine", 0.0),
        ({"pretrain": {"base": "somewhere", "method": "lora", "schedule": "wsd"}}, "adamw", "wsd", 0.0),
    ],
)
def test_muon_and_a_stable_phase_are_for_fresh_transformers_and_the_rate_follows_the_width(
    tables: dict, optimiser: str, schedule: str, rate: float
) -> None:
    found, names = derive(Recipe.model_validate(tables))
    assert (found.pretrain.optimiser, found.pretrain.schedule) == (optimiser, schedule)
    assert ("pretrain.schedule" in names) == ("schedule" not in tables.get("pretrain", {}))
    assert found.pretrain.learning_rate == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize(
    "text, amount, unit",
    [
        ("2M tokens", 2e6, "tokens"),
        ("10 min", 10, "minutes"),
        ("1.5B tokens", 1.5e9, "tokens"),
        ("7 epochs", 7, "epochs"),
    ],
)
def test_budgets(text: str, amount: float, unit: str) -> None:
    assert parse_budget(text) == (amount, unit)


def test_lines_inside_multi_line_values_are_not_keys() -> None:
    text = 'name = """\n[model]\nwidth = 3\n"""\n[model]\nlayers = 2\n'
    assert key_lines(text) == {"name": 1, "model": 5, "model.layers": 6}
    tricky = [
        r'a = "[ \" # {"  # [[',
        "b = ['# [', '''",
        "c = 1",
        "''''', { d = ']' },",
        "[1], # ]",
        "]",
        r'e = """\"""',
        "[y]",
        '"""""',
        "[z]",
        "f = ''",
        '["g"]',
        "h = 1",
    ]
    assert tomllib.loads("\n".join(tricky))["g"] == {"h": 1}
    found = {"a": 1, "b": 2, "e": 7, "z": 10, "z.f": 11, "g": 12, "g.h": 13}
    assert key_lines("\n".join(tricky)) == key_lines("\r\n".join(tricky)) == found


def test_lines_are_found_in_a_time_that_grows_with_the_text() -> None:
    rows = "".join(f'  ["o filme {number} foi bom", "positivo"],\n' for number in range(5000))
    before = time.process_time()
    assert key_lines(f"[labels]\nrows = [\n{rows}]\nseed = 1\n") == {"labels": 1, "labels.rows": 2, "labels.seed": 5004}
    assert time.process_time() - before < 1.0  # quadratic: most of a minute


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x80abc"])
def test_a_file_that_is_not_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(TreinoError, match="UTF-8"):
        load_recipe(path)


def test_schema_for_editors_is_json_with_reasons() -> None:
    schema = json.loads(json.dumps(Recipe.model_json_schema(by_alias=True)))
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["ModelSettings"]["properties"]["width"]["description"]

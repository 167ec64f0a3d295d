"""Chat tuning as a run: from conversations to a model that answers, its report and cards, on its own base and on another's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from test_finetuning import toml

from treino.cli.main import build, run_command
from treino.errors import UsageError
from treino.pipeline import chatting
from treino.pipeline.api import Run, load, run
from treino.pipeline.stages import pipeline_of
from treino.recipe.load import load_recipe
from treino.tokens.chat import Chat

QUESTIONS = {"Qual é a cor do sol?": "Amarela.", "Qual é a cor do mar?": "Azul.", "Quem mia?": "O gato."}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    rows = [
        {"messages": [{"role": "user", "content": f"{asked} {n}"}, {"role": "assistant", "content": said}]}
        for n in range(14)
        for asked, said in QUESTIONS.items()
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "talks.jsonl").write_text(text, encoding="utf-8")
    return folder


def recipe_of(folder: Path, **changes: dict[str, object]) -> dict[str, dict[str, object]]:
    recipe: dict[str, dict[str, object]] = {
        "world": {"documents": 120},
        "corpus": {"sources": ["world"]},
        "tokens": {"vocabulary": 400},
        "model": {"width": 32, "layers": 1, "heads": 2, "context": 64},
        "pretrain": {"budget": "4 steps", "precision": "float32", "sample_prompt": ""},
        "evaluate": {"ngrams": False, "compressor": False},
        "chat": {"source": str(folder / "talks.jsonl"), "validation": 0.2},
        "finetune": {"epochs": 2},
        "report": {"examples": True},
    }
    for table, values in changes.items():
        recipe[table] = recipe.get(table, {}) | values
    return {"name": "falante", **recipe}  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def finished(folder: Path) -> Run:
    return run(recipe_of(folder), runs=folder / "runs", language="en")


def test_a_run_ends_with_a_model_that_answers(folder: Path, finished: Run) -> None:
    facts = finished.facts["chat"]
    assert facts["last_loss"] < facts["first_loss"]
    assert facts["forgetting"]["before"] != facts["forgetting"]["after"]
    assert facts["held_out"]["after"]["end_of_turn"] > facts["held_out"]["before"]["end_of_turn"]
    assert finished.model_folder == finished.artefacts["chat"].folder / "model"
    model = load("falante", runs=folder / "runs")
    assert model.tokenizer.chat_template
    assert isinstance("".join(model.answer([{"role": "user", "content": "Quem mia?"}], greedy=True, tokens=9)), str)
    card = (finished.model_folder / "README.md").read_text(encoding="utf-8")
    assert "treino chat" in card and "A language model that answers" in card
    page = finished.report.read_text(encoding="utf-8")
    for said in ("How it learnt to answer", "P(end of turn)", "What it forgot", "Answers to held-out questions"):
        assert said in page, said


def test_a_run_again_runs_nothing_and_text_is_shown_only_where_it_may_be(folder: Path, finished: Run) -> None:
    heard: list[str] = []
    again = run(recipe_of(folder), runs=folder / "runs", language="en", listener=lambda event: heard.append(event.kind))
    assert again.digests == finished.digests and "chat.rows" not in heard
    private = run(recipe_of(folder, report={"examples": False}), runs=folder / "runs", language="en")
    page = private.report.read_text(encoding="utf-8")
    assert "Answers to held-out" not in page and "Quem mia" not in page
    log = (private.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    last = [json.loads(line) for line in log]
    start = max(n for n, row in enumerate(last) if row["kind"] == "run.started")
    assert "Quem mia" not in "".join(log[start:])
    files = [path for path in (private.artefacts["chat"].folder / "records").rglob("*") if path.is_file()]
    assert not any("Quem mia" in path.read_text(encoding="utf-8") for path in files)


def test_adapters_on_a_model_that_is_there_by_the_command_line(folder: Path, finished: Run) -> None:
    words = [
        "finetune",
        str(finished.model_folder),
        str(folder / "talks.jsonl"),
        "--chat",
        "--method",
        "lora",
        "--epochs",
        "1",
    ]
    words += ["--runs", str(folder / "runs"), "--name", "outra", "--json"]
    result = CliRunner().invoke(build(), words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    final = json.loads(result.stdout.splitlines()[-1])
    assert final["facts"]["chat"]["method"] == "lora"
    assert (Path(final["model"]).parent / "adapter" / "adapter_config.json").is_file()
    said = CliRunner().invoke(
        build(), ["chat", final["model"], "Quem mia?", "--greedy", "--tokens", "8", "--json"], catch_exceptions=False
    )
    talk = json.loads(said.stdout)["messages"]
    assert [turn["role"] for turn in talk] == ["user", "assistant"]
    turns = CliRunner().invoke(
        build(),
        ["chat", final["model"], "--greedy", "--tokens", "4"],
        input="Quem mia?\nE o sol?\n\n",
        catch_exceptions=False,
    )
    assert turns.exit_code == 0 and turns.stdout.count("\n") >= 2


def test_what_is_asked_is_a_question_that_the_template_takes(folder: Path, finished: Run) -> None:
    model = load("falante", runs=folder / "runs")

    def answered(*turns: tuple[str, str]) -> dict[str, Any] | None:
        messages = [{"role": role, "content": content} for role, content in turns]
        return chatting._answered(model.model, SimpleNamespace(chat=Chat(model.tokenizer)), messages, 1)

    greeted = (("assistant", "Olá!"), ("user", "Quem mia?"), ("assistant", "O gato."))
    row = answered(*greeted)
    assert row and row["messages"][-1]["content"] == "Quem mia?" and row["reference"] == "O gato."
    assert answered(("system", "Quem mia?"), ("assistant", "O gato.")) is None
    model.tokenizer.chat_template = "{{ raise_exception('begin with a question') }}"
    assert answered(*greeted) is None


def test_one_task_a_recipe(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"chat\.source is set, and labels are given too"):
        load_recipe(recipe_of(folder, labels={"source": "world"}))
    with pytest.raises(UsageError, match="conversations have none"):
        load_recipe(recipe_of(folder, finetune={"class_weights": True}))
    with pytest.raises(UsageError, match="lora is not there for a model of the kind lstm"):
        load_recipe(recipe_of(folder, finetune={"method": "lora"}, model={"architecture": "lstm", "width": 32}))
    stages = [stage.name for stage in pipeline_of(load_recipe("chat").recipe)]
    assert stages[0] == "gather" and stages[-2:] == ["chat", "report"]


def test_a_search_goes_on_until_the_gate_is_passed(
    folder: Path, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first rate learns too little; the first that the gate lets pass is chosen, and ends the search."""
    monkeypatch.setenv("TREINO_LANG", "en")
    tables = {
        "finetune": {"base": str(finished.model_folder), "method": "lora", "learning_rate": 1e-3, "epochs": 1},
        "search": {"trials": 4, "vary": ["learning_rate", "lora_rank"]},
        "gate": {"require": ["loss <= before - 0.011", "end_of_turn >= 0.0"]},
    }
    done = run(recipe_of(folder, **tables), runs=tmp_path, language="en")
    facts = done.facts["chat"]
    trials, chosen = facts["trials"], facts["trials"][facts["chosen"]]
    assert done.passed and 1 < len(trials) <= 4 and facts["chosen"] == len(trials) - 1
    assert [trial["passed"] for trial in trials] == [False] * (len(trials) - 1) + [True]
    assert trials[0]["tried"] == {"learning_rate": 1e-3, "lora_rank": 16}
    assert 4 <= facts["settings"]["lora_rank"] == chosen["tried"]["lora_rank"] <= 64
    assert facts["held_out"]["after"]["loss"] == chosen["figures"]["loss"] < facts["held_out"]["before"]["loss"]
    assert facts["gate"][0]["threshold"] == pytest.approx(facts["held_out"]["before"]["loss"] - 0.011)
    config = json.loads((done.artefacts["chat"].folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["r"] == chosen["tried"]["lora_rank"]
    page = done.report.read_text(encoding="utf-8")
    assert "Settings that were tried, judged on the held-out" in page and "The gate is passed" in page
    missed = toml(
        tmp_path / "missed.toml", recipe_of(folder, **tables | {"search": {}, "gate": {"require": ["loss <= 0.01"]}})
    )
    assert run_command(["run", str(missed), "--runs", str(tmp_path)]) == 5
    told = capsys.readouterr()
    assert "The gate, on the held-out conversations:" in told.out and "1 of 1 thresholds missed" in told.err


@pytest.mark.parametrize(
    "tables, said",
    [
        ({"search": {"trials": 2}, "chat": {"validation": 0.0}}, "search.trials is set, but no conversations are held"),
        (
            {"gate": {"require": ["loss <= 1"]}, "chat": {"validation": 0.0}},
            "gate.require is set, but no conversations",
        ),
        ({"gate": {"require": ["macro_f1 >= 0.5"]}}, "not measured here; known are loss, end_of_turn, before"),
        ({"gate": {"require": ["loss <= tfidf"]}}, "not measured here"),
        (
            {"search": {"trials": 2, "vary": ["lora_rank"]}},
            "search.vary varies the rank of adapters, and the method full",
        ),
        ({"chat": {"source": ""}, "search": {"trials": 2}}, "no labelled texts and no conversations"),
        (
            {"chat": {"source": ""}, "labels": {"source": "world"}, "gate": {"require": ["loss <= 1"]}},
            "known are accuracy",
        ),
    ],
)
def test_what_nothing_could_judge_is_refused(folder: Path, tables: dict[str, dict[str, object]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_recipe(recipe_of(folder, **tables))

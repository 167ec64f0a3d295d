"""Every command does its job on one small finished run; the Python API gives the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import treino
from treino.cli.main import run_command
from treino.cli.options import echo_rows
from treino.corpus.documents import read_rows
from treino.corpus.order.table import read_columns
from treino.errors import MachineError
from treino.evaluation.loss import spans
from treino.recipe.load import READY, load_recipe

MINI = """name = "mini"
[world]
documents = 200
people = 8
noise = 0.05
[tokens]
vocabulary = 320
[model]
width = 16
layers = 1
heads = 2
context = 32
[pretrain]
budget = "6 steps"
batch = 4
precision = "float32"
sample_prompt = "A padaria"
[evaluate]
bootstrap = 100
sample_megabytes = 0.05
[report]
examples = true
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its finished run; tests that change something copy it."""
    folder = tmp_path_factory.mktemp("commands") / "pasta com espaço"
    folder.mkdir()
    (folder / "mini.toml").write_text(MINI, encoding="utf-8")
    assert run_command(["run", str(folder / "mini.toml"), "--runs", str(folder / "runs")]) == 0
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Standard output of a command that must end with `code`."""
    capsys.readouterr()
    got = run_command(list(arguments))
    captured = capsys.readouterr()
    assert got == code, captured.err
    return captured.out


def test_a_second_run_runs_nothing_and_still_says_the_sample(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run_command(["run", str(finished / "mini.toml"), "--runs", str(finished / "runs")]) == 0
    captured = capsys.readouterr()
    assert "▸" not in captured.err
    assert captured.err.count("✓") == 10
    assert "The model says:" in captured.out
    assert "A padaria" in captured.out


def test_run_json_is_lines_that_end_with_the_result(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "run", str(finished / "mini.toml"), "--runs", str(finished / "runs"), "--json").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["kind"] for row in rows[:2]] == ["run.started", "stage.cached"]
    assert rows[-1]["kind"] == "result"
    assert Path(rows[-1]["report"]).is_file()
    assert (Path(rows[-1]["model"]) / "config.json").is_file()


def test_explain_names_what_changed_and_what_follows(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(finished / "mini.toml"), "--runs", str(finished / "runs"), "--json"]
    assert {row["state"] for row in json.loads(said(capsys, "explain", *arguments))["stages"]} == {"ready"}
    changed = json.loads(said(capsys, "explain", *arguments, "--set", "tokens.vocabulary=330"))["stages"]
    states = {row["stage"]: row["state"] for row in changed}
    assert [name for name, state in states.items() if state == "ready"] == [
        "collect",
        "clean",
        "filter",
        "deduplicate",
        "decontaminate",
        "order",
    ]
    why = {row["stage"]: " ".join(row["why"]) for row in changed}
    assert "vocabulary" in why["tokenise"]
    assert "tokenise" in why["pretrain"]


def test_explain_lists_settings_as_a_recipe_writes_them(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "explain", str(finished / "mini.toml"), "--settings", "--set", "seed=5")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "mini.toml:7" in lines["tokens.vocabulary"]
    assert lines["clean.unwrap"].split()[1:] == ["true", "default"]
    assert lines["seed"].endswith("command line")
    assert "derived" in lines["model.feed_forward"]


def test_generate_text_bars_stream_and_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["generate", "mini", "A padaria", "--runs", str(finished / "runs"), "--seed", "3", "--tokens", "12"]
    text = said(capsys, *base)
    assert text.startswith("A padaria")
    assert said(capsys, *base, "--stream") == text
    assert "A padaria" + json.loads(said(capsys, *base, "--json"))["text"] + "\n" == text
    bars = said(capsys, *base, "--top", "4").splitlines()
    assert len(bars) == 4
    assert all("█" in line and line.rstrip().endswith("%") for line in bars)
    rows = json.loads(said(capsys, *base, "--top", "4", "--json"))["next"]
    shares = [row["probability"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-6  # float32 softmax


def test_generate_goes_on_with_every_text_of_a_file(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [f"{begun} {number}" for number in range(6) for begun in ("A padaria", "O gato", "Na praça de manhã")]
    lines = "\n\n".join(prompts)  # more than go together, and empty lines
    (tmp_path / "inicios.txt").write_text(lines, encoding="utf-8")
    base = ["generate", "mini", "--runs", str(finished / "runs"), "--seed", "3", "--tokens", "8"]
    given = ["--file", str(tmp_path / "inicios.txt")]
    rows = [json.loads(line) for line in said(capsys, *base, *given, "--json").splitlines()]
    assert [row["prompt"] for row in rows] == prompts
    assert [row["place"] for row in rows[:2]] == ["inicios.txt:1", "inicios.txt:3"]
    for number in (0, 1, 16, 17):
        alone = ["generate", "mini", prompts[number], *base[2:4], "--seed", str(3 + number), "--tokens", "8", "--json"]
        assert rows[number]["text"] == json.loads(said(capsys, *alone))["text"]
    output = ["--output", str(tmp_path / "textos.jsonl")]
    told = json.loads(said(capsys, *base, *given, *output, "--json"))
    assert told == {"rows": len(prompts), "path": str(tmp_path / "textos.jsonl")}
    written = (tmp_path / "textos.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in written.splitlines()] == rows
    assert said(capsys, *base, *given).count("\n\n") >= len(prompts)


def test_a_file_that_cannot_be_written_is_told_before_the_first_row(tmp_path: Path) -> None:
    asked: list[int] = []
    rows = ({"row": number} for number in range(3) if not asked.append(number))
    with pytest.raises(MachineError, match="there is no such file or folder"):
        echo_rows(rows, str, tmp_path / "nowhere" / "x.jsonl", False)
    assert not asked


def test_show_walks_back_to_the_raw_text(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(said(capsys, "show", "--runs", str(finished / "runs"), "--json"))
    stages = [stage["stage"] for stage in content["stages"]]
    corpus = ["collect", "clean", "filter", "deduplicate", "decontaminate", "order"]
    assert stages == [*corpus, "tokenise", "pretrain", "evaluate", "report"]
    assert content["lineage"][-1].endswith("world")
    origins = {row["where"]: row["origin"] for row in content["settings"]}
    assert origins["pretrain.steps"] == "measured"
    assert origins["model.width"].endswith("mini.toml:9")
    text = said(capsys, "show", "mini", "pretrain", "--runs", str(finished / "runs"))
    assert "improvement_percent" in text
    assert "collect-" in text


def test_show_tells_what_was_removed_and_by_which_rule(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["show", "mini", "clean", "--runs", str(finished / "runs"), "--removed", "3"]
    rows = json.loads(said(capsys, *base, "--json"))["removed"]
    assert len(rows) == 3
    assert all(row["before"] != row["after"] and row["rule"] for row in rows)
    assert rows[0]["after"] in said(capsys, *base)


def test_prune_removes_what_no_run_uses(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    run = ["run", str(folder / "mini.toml"), "--runs", str(folder / "runs")]
    assert run_command([*run, "--set", "evaluate.bootstrap=110"]) == 0
    listed = json.loads(said(capsys, "prune", "--runs", str(folder / "runs"), "--json"))
    unused = {row["folder"] for row in listed["items"] if not row["used_by"]}
    assert {name.split("-")[0] for name in unused} == {"evaluate", "report"}
    assert listed["removed"] == []
    said(capsys, "prune", "--yes", "--runs", str(folder / "runs"))
    left = {path.name for path in (folder / "runs" / "store").iterdir()}
    assert not unused & left
    assert len(left) == 10


def test_the_order_can_follow_the_loss_of_the_model_of_a_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = treino.build_corpus(
        ["world"],
        tmp_path / "corpus",
        overrides=[
            "world.documents=80",
            "order.difficulty=loss",
            f"order.model={json.dumps(str(finished / 'runs' / 'mini'))}",
        ],
    )
    assert [step["stage"] for step in built.facts["steps"]][-1] == "decontaminate"
    rows = list(read_rows(tmp_path / "corpus", "training", ["id", "text"]))
    given = read_columns(tmp_path / "corpus", [row["id"] for row in rows])["difficulty"]
    loaded = treino.load("mini", runs=finished / "runs")
    end = loaded.tokenizer.end_of_text
    for row, score in list(zip(rows, given, strict=True))[::9]:
        ids = [end, *loaded.tokenizer.encode(row["text"]), end]
        total = 0.0
        for first, scored, last in spans(len(ids) - 1, 32):
            for place in range(scored, last):  # one token at a time
                with torch.no_grad():
                    logits = loaded.model(torch.tensor([ids[first : place + 1]]))[0, -1].float()
                total -= float(torch.log_softmax(logits, -1)[ids[place + 1]])
        assert score == pytest.approx(total / len(row["text"].encode()), rel=1e-4)


def test_doctor_names_versions_and_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "doctor", "--json"))
    assert found["treino"]["value"] == treino.__version__
    assert found["processors"]["value"] >= 1
    assert "instruction set" in said(capsys, "doctor")


@pytest.mark.parametrize("ready", READY)
@pytest.mark.parametrize("language", ["en", "pt_BR"])
def test_a_new_recipe_says_the_same_as_the_one_it_comes_from(
    ready: str, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TREINO_LANG", language)
    said(capsys, "new", "meu-modelo", "--from", ready)
    loaded = load_recipe(tmp_path / "meu-modelo.toml")
    original = load_recipe(ready)
    assert loaded.recipe.name == "meu-modelo"
    assert loaded.recipe.model_copy(update={"name": ready}) == original.recipe
    comments = [line for line in loaded.text.splitlines() if line.startswith("#")]
    assert len(comments) > 10
    said(capsys, "new", "meu-modelo", code=2)  # what is there is not overwritten


def test_the_schema_accepts_what_the_recipe_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(said(capsys, "schema"))
    assert {"corpus", "tokens", "model", "pretrain"} <= set(schema["properties"])
    tables = schema["$defs"]
    assert all(table["additionalProperties"] is False for table in tables.values())
    settings = [entry for table in tables.values() for entry in table["properties"].values()]
    assert all(entry.get("description") or "$ref" in entry for entry in settings)


def test_the_python_api_gives_what_the_commands_give(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heard = []
    run = treino.run(finished / "mini.toml", runs=finished / "runs", listener=heard.append)
    assert run.facts["pretrain"]["steps"] == 6
    assert run.sample and run.sample["prompt"] == "A padaria"
    assert heard[0].kind == "run.started"
    model = treino.load("mini", runs=finished / "runs")
    text = model.generate("A padaria", tokens=12, seed=3)
    assert text == treino.generate("A padaria", "mini", runs=finished / "runs", tokens=12, seed=3)
    assert text == treino.generate("A padaria", run.model_folder, tokens=12, seed=3)
    base = ["generate", "mini", "A padaria", "--runs", str(finished / "runs"), "--seed", "3", "--tokens", "12"]
    assert said(capsys, *base) == f"A padaria{text}\n"
    assert len(model.next_tokens("A padaria", 3)) == 3

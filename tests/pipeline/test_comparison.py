"""Methods of fine-tuning side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_finetuning import recipe, toml

import treino
from treino import files
from treino.cli.main import run_command
from treino.corpus.labelled.split import read_split
from treino.errors import DataError, UsageError
from treino.pipeline import pilot
from treino.planning.measured import read_comparison
from treino.report.comparison import unbeaten
from treino.training.finetune import Finetuning
from treino.training.trouble import NotFinite

SMALL = {"model": {"architecture": "transformer", "width": 16, "layers": 1, "heads": 2, "context": 16}}


def test_every_method_is_measured_on_the_same_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = recipe(**SMALL, finetune={"learning_rate": 0.0, "rehearsal": 0.2, "lora_rank": 2})
    content["model"].pop("embedding")
    path = toml(tmp_path / "moods é.toml", content)
    assert run_command(["compare", str(path), "--runs", str(tmp_path / "runs"), "--price", "3.6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == ["scratch", "frozen", "lora", "qlora", "full"]
    assert rows["full"]["trainable"] == rows["scratch"]["trainable"] == rows["full"]["total"]
    assert rows["frozen"]["trainable"] == 2 * 16
    assert rows["frozen"]["trainable"] < rows["lora"]["trainable"] == rows["qlora"]["trainable"]
    assert rows["lora"]["total"] == rows["full"]["total"] + rows["lora"]["trainable"] - 2 * 16
    assert rows["scratch"]["forgetting"] is None
    assert abs(rows["frozen"]["forgetting"]) < 1e-6
    assert rows["full"]["forgetting"] not in (None, 0.0)
    runs = [treino.pipeline.api.open_run(row["run"], runs=tmp_path / "runs") for row in found["rows"]]
    assert len({run.digests["pretrain"] for run in runs}) == 1, "what is shared is made once"
    assert len({run.digests["split"] for run in runs}) == 1
    for row in found["rows"]:
        low, mean, high = (row["macro_f1"][name] for name in ("low", "mean", "high"))
        assert low <= mean <= high
        assert row["cost"] == pytest.approx(row["seconds"] * 3.6 / 3600)
    folder = tmp_path / "runs" / "comparisons" / "tiny"
    assert json.loads((folder / "comparison.json").read_text(encoding="utf-8")) == found
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert page.count("<circle") == 5
    assert run_command(["compare", str(path), "--runs", str(tmp_path / "runs"), "--methods", "full,frozen"]) == 0
    printed = capsys.readouterr().out
    assert [line[:4] for line in printed.splitlines() if "[" in line] == ["full", "froz"], printed


def small(**tables: Any) -> dict[str, Any]:
    tuning = {"learning_rate": 0.0, "lora_rank": 2, "epochs": 2} | tables.pop("finetune", {})
    content = recipe(**SMALL, finetune=tuning, **tables)
    content["model"].pop("embedding")
    return content


def test_several_seeds_give_intervals_and_a_chip_its_projection(tmp_path: Path) -> None:
    found = treino.compare(small(), ["full", "scratch", "frozen"], seeds=2, gpu="A100-80", runs=tmp_path)
    rows = {row["method"]: row for row in found["rows"]}
    runs = rows["full"]["run"]
    one, two = (treino.pipeline.api.open_run(name, runs=tmp_path) for name in runs)
    assert one.digests["pretrain"] == two.digests["pretrain"] and one.digests["split"] == two.digests["split"]
    assert one.digests["finetune"] != two.digests["finetune"]
    times = [
        run.artefacts["finetune"].record["facts"]["train_seconds"] + run.facts["finetune"]["prepare_seconds"]
        for run in (one, two)
    ]
    seconds = rows["full"]["seconds"]
    assert seconds["mean"] == pytest.approx(sum(times) / 2)
    reach = 12.7062047 * abs(times[0] - times[1]) / 2
    assert seconds["high"] == pytest.approx(seconds["mean"] + reach)
    assert found["marks"]["seconds"] == "measured" and found["marks"]["cost"] == "calculated"
    projected = {row["method"]: row for row in found["projection"]["rows"]}
    assert list(projected) == ["full", "scratch", "frozen"]
    for row in projected.values():
        assert row["seconds"]["low"] < row["seconds"]["mean"] < row["seconds"]["high"]
        assert row["fits"] and row["memory"] > 5e8 and row["cost"]["mean"] > 0
    assert projected["frozen"]["seconds"]["mean"] < projected["full"]["seconds"]["mean"]
    assert "smallest that the speed is learnt from" in found["projection"]["notes"][0]["text"]
    page = (tmp_path / "comparisons" / "tiny" / "comparison.html").read_text(encoding="utf-8")
    assert page.count("calculated") >= 4 and "A100-80" in page


def test_a_pilot_extrapolates_from_parts_of_the_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pilot, "LEAST_ROWS", 4)
    found = treino.compare(small(), ["frozen", "full"], pilot_time="2s", price=3.6, runs=tmp_path)
    assert set(found["marks"].values()) == {"calculated"}
    split = next((tmp_path / "store").glob("split-*"))
    training = len(read_split(split, "training"))
    for row in found["rows"]:
        assert row["rows"] == training
        assert {point["rows"] for point in row["points"]} <= set(pilot.parts_of(training, 2))
        assert len(row["points"]) >= pilot.LEAST_POINTS
        for name in ("macro_f1", "accuracy", "seconds", "cost"):
            assert row[name]["low"] <= row[name]["mean"] <= row[name]["high"]
        assert row["cost"]["mean"] == pytest.approx(row["seconds"]["mean"] / 1000)
    assert not (tmp_path / "test-uses.jsonl").exists(), "no test row was touched"
    assert not list((tmp_path / "store").glob("finetune-*"))
    page = (tmp_path / "comparisons" / "tiny pilot" / "comparison.html").read_text(encoding="utf-8")
    assert page.count("<circle") == 2 + sum(len(row["points"]) for row in found["rows"])


def test_a_method_that_does_not_fit_stands_beside_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from treino.training import fit, foresight

    real = foresight.fitting

    def refusing(wish: Any, *given: Any) -> Any:
        if wish.work.method == "full":
            monkeypatch.setattr(fit, "available_memory", lambda: 1000)
        try:
            return real(wish, *given)
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(foresight, "fitting", refusing)

    monkeypatch.setattr(foresight, "fitting", refusing)
    content = small(finetune={"precision": "bfloat16", "epochs": 1})
    found = treino.compare(content, ["full", "frozen"], runs=tmp_path)
    full, frozen = found["rows"]
    assert full["macro_f1"] is None and "needs about" in full["refused"]["text"]
    assert frozen["macro_f1"] and not frozen["refused"]
    page = (tmp_path / "comparisons" / "tiny" / "comparison.html").read_text(encoding="utf-8")
    assert "are free" in page


def test_a_method_whose_loss_runs_away_stands_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Finetuning.run

    def run(self: Finetuning, settings: Any, output: Path) -> Any:
        if settings.method == "full":
            raise NotFinite("the loss is no longer a number at step {step:raw}", step=3)
        return real(self, settings, output)

    monkeypatch.setattr(Finetuning, "run", run)
    monkeypatch.setattr(pilot, "LEAST_POINTS", 1)
    content = small(finetune={"epochs": 1})
    for brief in ("", "1s"):
        found = treino.compare(content, ["full", "frozen"], runs=tmp_path, pilot_time=brief)
        full, frozen = found["rows"]
        assert full["macro_f1"] is None and "loss" in full["refused"]["text"]
        assert frozen["macro_f1"] and not frozen["refused"]
        assert Path(found["folder"], "comparison.json").is_file()
        with pytest.raises(DataError, match="loss"):
            treino.compare(content, ["full"], runs=tmp_path, pilot_time=brief)


@pytest.mark.parametrize(("text", "seconds"), [("5min", 300), ("90s", 90), ("1,5 h", 5400)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert pilot.duration(text) == seconds


@pytest.mark.parametrize(
    "changes, methods, said",
    [
        ({}, ["lera"], "unknown method lera.*scratch, frozen, lora"),
        ({"labels": {"source": "", "rows": []}}, [], "no labelled test rows"),
        ({"labels": {"test": 0.0}}, [], "no labelled test rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, changes: dict, methods: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        treino.compare(recipe(**changes), methods, runs=tmp_path)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"pilot_time": "soon"}, "no length of time.*5min"),
        ({"pilot_time": "5min", "seeds": 3}, "leave out --seeds"),
        ({"seeds": 999}, "1 to 100"),
        ({"gpu": "A100-81"}, "no chip A100-81.*A100-80"),
        ({"gpu": "A100-80"}, "an LSTM cannot be projected"),
    ],
)
def test_what_a_comparison_cannot_do_is_refused_before_anything_runs(tmp_path: Path, given: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        treino.compare(recipe(), ["full"], runs=tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_without_a_recipe_quickstart_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["compare", "--methods", "magic"]) == 2
    assert "magic" in capsys.readouterr().err


def test_the_front_is_what_no_other_beats_in_both() -> None:
    points = [("a", 1.0, 0.5), ("b", 2.0, 0.4), ("c", 3.0, 0.9), ("d", 3.0, 0.8), ("e", 9.0, 0.9)]
    assert [name for name, *_ in unbeaten(points)] == ["a", "c"]


def test_a_pilot_is_no_evidence(tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    files.write_json(path, {"name": "x", "rows": [], "pilot": 2.0})
    with pytest.raises(UsageError, match="extrapolated, and not measured"):
        read_comparison(str(path))

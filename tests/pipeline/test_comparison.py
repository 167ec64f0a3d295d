"""Methods of fine-tuning side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_finetuning import recipe, toml

import treino
from treino.cli.main import run_command
from treino.errors import UsageError
from treino.report.comparison import unbeaten

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
    assert len([line for line in printed.splitlines() if line.strip()]) == 4


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


def test_the_front_is_what_no_other_beats_in_both() -> None:
    points = [("a", 1.0, 0.5), ("b", 2.0, 0.4), ("c", 3.0, 0.9), ("d", 3.0, 0.8), ("e", 9.0, 0.9)]
    assert [name for name, *_ in unbeaten(points)] == ["a", "c"]

"""`treino corpus build` and `show`: a corpus on its own, its card, and the story of each document."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from treino.cli.main import run_command
from treino.corpus import shards
from treino.corpus.documents import read_rows
from treino.report.data_card import data_card, size_category

RECIPE = """name = "meu corpus"
[corpus]
held_out = 0.1
[[corpus.sources]]
path = "textos"
licence = "CC0-1.0"
weight = 2.0
[[corpus.sources]]
path = "linhas.jsonl"
language = "en"
[order]
difficulty = "readability"
[report]
examples = true
"""
BROKEN = "A avÃ³ nÃ£o estÃ¡ em casa hoje, disse o menino que brincava sozinho no quintal da vizinha."
SECRET = "segredo-que-ninguem-deve-ler"
ENGLISH = (
    f"The old captain told everybody that {SECRET} had arrived with the morning boat.",
    "Nobody in the village could remember when the bridge over the river was built.",
    "She sold apples and pears at the market, and her brother mended shoes next door.",
    "When the rain stopped, the children ran down to the harbour to look at the ships.",
    "A letter without a stamp lay under the door for three weeks before anyone opened it.",
)


def prose(number: int) -> str:
    words = ("cartas", "jornais", "pacotes", "livros", "queijos", "recados", "convites")
    first, second = words[number % 7], words[number // 7 % 7]
    return (
        f"No dia {number} o carteiro trouxe {number + 2} {first} para a rua de cima, e depois voltou com calma para casa. "
        f"A vizinha pediu {second}, mas os {number} que havia não bastaram para tanta gente que esperava na porta."
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sources, a recipe, and a corpus built of them."""
    folder = tmp_path_factory.mktemp("corpus") / "pasta com espaço"
    (folder / "textos").mkdir(parents=True)
    for number in range(40):
        (folder / "textos" / f"{number:02d}.txt").write_text(prose(number), encoding="utf-8")
    (folder / "textos" / "cópia.txt").write_text(prose(7).upper(), encoding="utf-8")
    (folder / "textos" / "estragado.txt").write_text(BROKEN, encoding="utf-8")
    (folder / "textos" / "curto.txt").write_text("oi", encoding="utf-8")
    lines = [json.dumps({"text": text}) for text in ENGLISH]
    (folder / "linhas.jsonl").write_text("\n".join([*lines, "{"]), encoding="utf-8")
    (folder / "corpus.toml").write_text(RECIPE, encoding="utf-8")
    assert (
        run_command(["corpus", "build", "--recipe", str(folder / "corpus.toml"), "--out", str(folder / "feito")]) == 0
    )
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Standard output of a command that must end with `code`; its standard error where that is not 0."""
    capsys.readouterr()
    got = run_command(["corpus", *arguments])
    captured = capsys.readouterr()
    assert got == code, captured.err
    assert "Traceback" not in captured.err
    return captured.err if code else captured.out


def asked(capsys: pytest.CaptureFixture[str], place: Path, *arguments: str) -> Any:
    return json.loads(said(capsys, "show", str(place / "feito"), *arguments, "--json"))


def test_the_folder_holds_documents_record_order_and_card(place: Path) -> None:
    built = place / "feito"
    rows = list(read_rows(built, "training"))
    facts = json.loads((built / "card.json").read_text(encoding="utf-8"))
    assert facts["parts"]["training"]["documents"] == len(rows)
    assert {row["licence"] for row in rows} == {"CC0-1.0", ""}
    removed = [row for path in (built / "removed").iterdir() for row in pyarrow.parquet.read_table(path).to_pylist()]
    assert {"too_short", "broken_json"} <= {row["rule"] for row in removed}
    order = pyarrow.parquet.read_table(built / "order.parquet")
    assert set(order["id"].to_pylist()) == {row["id"] for row in rows}
    assert order.column_names == ["id", "repeats", "difficulty"]
    assert set(order["repeats"].to_pylist()) == {1.0, 2.0}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_nobody_else_may_look_into_it(place: Path) -> None:
    for folder in (place / "feito", *(place / "feito").iterdir()):
        assert not folder.is_dir() or folder.stat().st_mode & 0o077 == 0, folder


def test_the_card_says_where_it_comes_from_and_what_was_done(place: Path) -> None:
    card = (place / "feito" / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlanguage:\n- "en"\n- "pt"\nlicense: "CC0-1.0"')
    assert "| textos | pt | CC0-1.0 | 2 | 43 | 43 | `" in card
    assert "| linhas.jsonl | en | not stated | 1 | 5 | 1 | `" in card
    assert "broken characters mended" in card
    assert "avÃ³" in card, "the recipe allows examples"
    assert str(place) not in card


def test_without_leave_the_card_shows_no_text(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "build", str(place / "textos"), str(place / "linhas.jsonl"), "--out", str(tmp_path / "c"))
    both = (tmp_path / "c" / "README.md").read_text("utf-8") + (tmp_path / "c" / "card.json").read_text("utf-8")
    assert SECRET not in both
    assert "carteiro" not in both
    assert not (tmp_path / "c" / "order.parquet").exists(), "weights of one and no curriculum: nothing to say"


def test_a_second_build_makes_nothing_again_and_a_change_makes_its_own_part(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("build", "--recipe", str(place / "corpus.toml"), "--out", str(place / "feito"), "--json")
    lines = [json.loads(line) for line in said(capsys, *arguments).splitlines()]
    assert not [line for line in lines if line["kind"] == "stage.started"]
    assert lines[-1]["kind"] == "result"
    lines = [json.loads(line) for line in said(capsys, *arguments, "--set", "order.difficulty=length").splitlines()]
    assert [line["stage"] for line in lines if line["kind"] == "stage.started"] == ["order"]
    assert said(capsys, *arguments)


def test_a_corpus_that_is_large_enough_for_a_forecast_is_built(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shards, "WORTH_A_FORECAST", 0)
    assert (
        run_command(["corpus", "build", "--recipe", str(place / "corpus.toml"), "--out", str(tmp_path / "c"), "--json"])
        == 0
    )
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["stage"] for line in told if line["kind"] == "stage.forecast"} >= {"clean", "filter"}


def test_show_counts_what_each_step_did(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "show", str(place / "feito"))
    assert "too short [too_short]  1" in text
    facts = asked(capsys, place)
    steps = facts["steps"]
    assert steps[0]["stage"] == "collect"
    for before, after in itertools.pairwise(steps):
        assert after["documents_in"] == before["documents_out"]
    for step in steps[1:]:
        assert step["documents_in"] - step["documents_out"] == sum(step["removed_by_rule"].values())
        assert step["seconds"] >= 0
    parts = facts["parts"]
    assert steps[-1]["documents_out"] == parts["training"]["documents"] + parts["held_out"]["documents"]
    assert steps[-1]["bytes_out"] == parts["training"]["bytes"] + parts["held_out"]["bytes"]


def test_show_removed_and_changed_with_the_reason(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = asked(capsys, place, "--removed", "too_short")
    assert [row["source"] for row in rows] == ["curto.txt"]
    rows = asked(capsys, place, "--changed", "clean")
    broken = next(row for row in rows if row["source"] == "estragado.txt")
    assert "fix_encoding" in broken["detail"]
    assert "A avó não está" in broken["after"]
    text = said(capsys, "show", str(place / "feito"), "--changed", "clean", "-n", "50")
    assert "broken characters mended" in text
    wrong = said(capsys, "show", str(place / "feito"), "--removed", "sem_regra", code=2)
    assert "too_short" in wrong, "it says which rules there are"
    assert said(capsys, "show", str(place / "feito"), "--removed", "too_short", "--duplicates", code=2)


def test_show_duplicates_beside_the_copy_that_stayed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = asked(capsys, place, "--duplicates")
    assert {frozenset((row["source"], row["kept"]["source"])) for row in rows} >= {frozenset(("cópia.txt", "07.txt"))}
    assert "kept instead" in said(capsys, "show", str(place / "feito"), "--duplicates")


def test_the_story_of_a_document(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = asked(capsys, place, "--duplicates")[0]
    gone = asked(capsys, place, "--id", copy["id"])
    assert gone["fate"] == f"deduplicate: {copy['rule']}"
    assert gone["text"] is None
    kept = asked(capsys, place, "--id", copy["kept"]["id"])
    assert copy["id"] in kept["copies"]
    assert kept["fate"] in ("training", "held_out")
    broken = next(row for row in asked(capsys, place, "--changed", "clean") if row["source"] == "estragado.txt")
    story = asked(capsys, place, "--id", broken["id"][:10])
    assert story["id"] == broken["id"]
    assert [row["step"] for row in story["events"]] == ["clean"]
    assert story["text"].startswith("A avó não está")
    if story["fate"] == "training":
        assert story["order"]["repeats"] == 2
    assert "fate: " in said(capsys, "show", str(place / "feito"), "--id", broken["id"])
    assert said(capsys, "show", str(place / "feito"), "--id", "f" * 24, code=3)


@pytest.mark.parametrize(
    "arguments, code",
    [
        (["build", "--out", "x"], 2),
        (["build", "nada-aqui", "--out", "x"], 3),
        (["show", "nada-aqui"], 3),
        (["build", "world"], 2),
        (["build", "world", "--out", "x", "--set", "order.difficulty=altura"], 2),
        (["build", "world", "--out", "x", "--set", "order.difficulty=loss"], 2),
        (["build", "world", "--out", "x", "--set", "order.model=ausente", "--set", "order.difficulty=loss"], 3),
    ],
)
def test_mistakes_have_their_exit_codes(
    arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TREINO_RUNS", str(tmp_path / "runs"))
    assert said(capsys, *arguments, code=code)
    assert not list(tmp_path.iterdir()), "a mistake leaves nothing behind"


def test_a_folder_of_other_things_is_left_alone(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "meu.txt").write_text("meu", encoding="utf-8")
    assert "not empty" in said(capsys, "build", str(place / "textos"), "--out", str(tmp_path), code=2)
    assert (tmp_path / "training" / "meu.txt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not a signal of Windows")
@pytest.mark.parametrize(
    "point", ["clean:before-publish", "00000.json:after-rename", "held_out:before-publish", "card.json:before-write"]
)
def test_a_build_that_is_killed_goes_on_and_ends_alike(place: Path, tmp_path: Path, point: str) -> None:
    command = [sys.executable, "-m", "treino", "corpus", "build", "--recipe", str(place / "corpus.toml")]
    command += ["--out", str(tmp_path / "c")]
    child = subprocess.run(
        command, env=os.environ | {"TREINO_FAULT": point}, capture_output=True, check=False, timeout=60
    )
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert run_command(command[3:]) == 0
    for part in ("training", "held_out"):
        assert list(read_rows(tmp_path / "c", part)) == list(read_rows(place / "feito", part))
    one, other = (
        json.loads((folder / "card.json").read_text("utf-8"))["digests"] for folder in (tmp_path / "c", place / "feito")
    )
    assert one == other


def test_sizes_as_the_hub_names_them() -> None:
    assert [size_category(count) for count in (0, 999, 1000, 99_999, 10**6, 10**9 - 1, 10**9)] == [
        "n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "1M<n<10M", "100M<n<1B", "1B<n",
    ]  # fmt: skip


def test_a_card_of_nothing_is_still_a_card() -> None:
    assert data_card({"name": "x | y"}, "pt_BR").startswith("---\n")

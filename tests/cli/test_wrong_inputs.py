"""Thirty and more wrong inputs: exit code, place, fix, no traceback, and a runs folder that stays as it was."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from treino import files
from treino.cli.main import run_command
from treino.pipeline.run_folder import RunFolder

MINI = """name = "mini"
[corpus]
sources = ["{source}"]
held_out = 0.1
[tokens]
vocabulary = 300
[model]
width = 16
layers = 1
heads = 2
context = 32
[pretrain]
budget = "2 steps"
batch = 2
precision = "float32"
[evaluate]
ngrams = false
compressor = false
bootstrap = 100
"""
SENTENCES = [
    f"A menina número {number} gosta de ler livros perto da janela da casa {number % 7}." for number in range(60)
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good recipe, its data and a finished run, copied by every test."""
    folder = tmp_path_factory.mktemp("wrong") / "pasta com acento é"
    (folder / "dados").mkdir(parents=True)
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in SENTENCES)
    (folder / "dados" / "bom.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "mini.toml").write_text(MINI.replace("{source}", "dados"), encoding="utf-8")
    assert run_command(["run", str(folder / "mini.toml"), "--runs", str(folder / "runs")]) == 0
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Path:
    """A copy of the folder, for one test."""
    return Path(shutil.copytree(finished, tmp_path / "cópia", symlinks=False))


def snapshot(folder: Path) -> dict[str, str]:
    """Digest of every file."""
    return {
        path.relative_to(folder).as_posix(): files.sha256_file(path) for path in folder.rglob("*") if path.is_file()
    }


@dataclass(frozen=True)
class Wrong:
    """One wrong input: what is done to the folder, the arguments, and what must come of it."""

    arguments: tuple[str, ...]
    code: int
    said: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda place: None


def recipe(text: str) -> Callable[[Path], object]:
    return lambda place: (place / "mini.toml").write_text(text, encoding="utf-8")


def changed(old: str, new: str) -> Callable[[Path], object]:
    def change(place: Path) -> None:
        text = (place / "mini.toml").read_text(encoding="utf-8")
        assert old in text
        (place / "mini.toml").write_text(text.replace(old, new), encoding="utf-8")

    return change


def source(name: str, content: bytes) -> Callable[[Path], object]:
    def write(place: Path) -> None:
        (place / name).write_bytes(content)
        changed('"dados"', f'"{name}"')(place)

    return write


RUN = ("run", "mini.toml")
LOST = gzip.compress("".join(f'{{"text": "{text}"}}\n' for text in SENTENCES).encode())[:40]
NEWER = "newer version"

WRONG: dict[str, Wrong] = {
    "no recipe there": Wrong(("run", "nada.toml"), 2, ("nada.toml", "quickstart")),
    "a folder for a recipe": Wrong(("run", "dados"), 2, ("dados", "TOML")),
    "a binary recipe": Wrong(RUN, 2, ("UTF-8",), lambda place: (place / "mini.toml").write_bytes(b"\x80\x81\x00")),
    "not TOML": Wrong(RUN, 2, ("mini.toml:2", "not TOML"), recipe("name = 'x'\n[model\n")),
    "typo at the top": Wrong(RUN, 2, ("mini.toml:1", "seed"), recipe("sed = 1")),
    "typo in corpus": Wrong(RUN, 2, ("mini.toml:3", "sources"), changed("sources", "sorces")),
    "typo in tokens": Wrong(RUN, 2, ("mini.toml:6", "vocabulary"), changed("vocabulary", "vocabulry")),
    "typo in model": Wrong(RUN, 2, ("mini.toml:9", "model.layers"), changed("layers", "layer")),
    "typo in pretrain": Wrong(RUN, 2, ("mini.toml:13", "pretrain.budget"), changed("budget", "buget")),
    "typo in evaluate": Wrong(RUN, 2, ("mini.toml:17", "ngrams"), changed("ngrams", "ngrms")),
    "typo in a table's name": Wrong(RUN, 2, ("mini.toml:7", "model"), changed("[model]", "[modle]")),
    "key in the wrong table": Wrong(RUN, 2, ("[pretrain]",), changed("[tokens]", "[tokens]\nbudget = '1 min'")),
    "wrong type": Wrong(RUN, 2, ("mini.toml:9", "whole number"), changed("layers = 1", 'layers = "1"')),
    "out of range": Wrong(RUN, 2, ("mini.toml:4", "less than 1"), changed("held_out = 0.1", "held_out = 1.5")),
    "shape that does not fit": Wrong(RUN, 2, ("mini.toml:8", "multiple of"), changed("width = 16", "width = 18")),
    "wrong --set": Wrong((*RUN, "--set", "model.widht=3"), 2, ("--set", "model.width")),
    "--set without a value": Wrong((*RUN, "--set", "model.width"), 2, ("table.name=value",)),
    "unknown option": Wrong((*RUN, "--fast"), 2, ("--fast",)),
    "unknown command": Wrong(("rum",), 2, ("rum",)),
    "no lock there": Wrong((*RUN, "--lock", "nada.lock"), 2, ("nada.lock",)),
    "a damaged lock given": Wrong(
        (*RUN, "--lock", "x.lock"), 2, ("x.lock", "measured again"), lambda place: (place / "x.lock").write_text("[[")
    ),
    "missing source": Wrong(RUN, 3, ("nada", "corpus.sources"), changed('"dados"', '"nada"')),
    "empty folder": Wrong(
        RUN, 3, ("vazia", ".jsonl"), lambda place: ((place / "vazia").mkdir(), changed('"dados"', '"vazia"')(place))
    ),
    "empty file": Wrong(RUN, 3, ("x.txt", "empty"), source("x.txt", b"")),
    "binary file": Wrong(RUN, 3, ("x.txt", "not a text file"), source("x.txt", b"\x00\x01\x02" * 99)),
    "truncated gz": Wrong(RUN, 3, ("x.jsonl.gz", "breaks off"), source("x.jsonl.gz", LOST)),
    "not a gz": Wrong(RUN, 3, ("x.jsonl.gz:1", "not JSON"), source("x.jsonl.gz", b"no gzip at all")),
    "only broken JSON lines": Wrong(RUN, 3, ("x.jsonl:1", "not JSON"), source("x.jsonl", b'{"text": \n{{{\n')),
    "JSON lines without the key": Wrong(RUN, 3, ("x.jsonl:1", "row without text"), source("x.jsonl", b'{"a": 1}\n')),
    "CSV without the column": Wrong(RUN, 3, ("x.csv:1", "a, b", "text ="), source("x.csv", b"a,b\n1,2\n")),
    "no text left": Wrong(
        RUN, 3, ("minimum_characters",), changed("[tokens]", "[clean]\nminimum_characters = 9000\n[tokens]")
    ),
    "held-out file not there": Wrong(RUN, 2, ("nada.txt", "bom.jsonl"), changed("0.1", '["nada.txt"]')),
    "generate without a run": Wrong(("generate", "nenhuma", "O gato"), 3, ("nenhuma", "mini")),
    "generate from a file with a prompt": Wrong(("generate", "mini", "O gato", "--file", "x.txt"), 2, ("--file",)),
    "generate from a file and bars": Wrong(("generate", "--file", "x.txt", "--top", "3"), 2, ("--top",)),
    "generate from no file": Wrong(("generate", "--file", "nenhum.txt"), 3, ("nenhum.txt",)),
    "generate without a prompt": Wrong(("generate",), 2, ("prompt",)),
    "generate with a wrong temperature": Wrong(("generate", "O gato", "--temperature", "0"), 2, ("greedy",)),
    "show an unknown stage": Wrong(("show", "mini", "assar"), 2, ("assar", "pretrain")),
    "new over a file": Wrong(("new", "mini"), 2, ("mini.toml", "another name")),
    "new from nothing": Wrong(("new", "outra", "--from", "nada"), 2, ("nada", "quickstart")),
}


def check(wrong: Wrong, code: int, errors: str, before: dict[str, str], runs: Path) -> None:
    assert code == wrong.code, errors
    for words in wrong.said:
        assert words in errors
    assert "Traceback" not in errors
    assert snapshot(runs) == before


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_input_is_explained_and_changes_nothing(
    place: Path, wrong: Wrong, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong.prepare(place)
    monkeypatch.chdir(place)
    before = snapshot(place / "runs")
    code = run_command(list(wrong.arguments))
    check(wrong, code, capsys.readouterr().err, before, place / "runs")


REAL = ["no recipe there", "typo in model", "missing source", "truncated gz", "unknown option"]


@pytest.mark.parametrize("name", REAL)
def test_the_same_in_a_process_of_its_own(place: Path, name: str) -> None:
    wrong = WRONG[name]
    wrong.prepare(place)
    before = snapshot(place / "runs")
    command = [sys.executable, "-m", "treino", *wrong.arguments]
    environment = os.environ | {"TREINO_LANG": "en"}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=120, check=False
    )
    check(wrong, done.returncode, done.stderr, before, place / "runs")


def test_an_unreadable_file_among_good_ones_is_set_aside(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root may read everything, so the refusal is injected."""
    import treino.corpus.sources.raw as raw

    (place / "dados" / "fechado.txt").write_text("segredo", encoding="utf-8")
    original = raw.open_bytes

    def refuse(path: Path):
        if path.name == "fechado.txt":
            raise raw.Unreadable("unreadable")
        return original(path)

    monkeypatch.setattr(raw, "open_bytes", refuse)
    monkeypatch.chdir(place)
    assert run_command(["run", "mini.toml"]) == 0
    assert "fechado.txt" in capsys.readouterr().err


STAGES = {
    "collect": "corpus.held_out=0.2",
    "clean": "clean.minimum_characters=21",
    "tokenise": "tokens.vocabulary=301",
    "pretrain": "pretrain.clip=0.9",
    "evaluate": "evaluate.bootstrap=101",
    "report": "report.examples=true",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_failing_write_at_each_stage_leaves_everything_as_it_was(
    place: Path, stage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk is full from the stage's first write on (injected); afterwards the same command goes through."""
    monkeypatch.chdir(place)
    arguments = ["run", "mini.toml", "--set", STAGES[stage], "--lock", "runs/mini/recipe.lock.toml"]
    before = snapshot(place / "runs")
    original = files.write_bytes

    def full(path: Path | str, data: bytes) -> None:
        if f".{stage}-" in str(path):
            with files.machine_errors(path):
                raise OSError(28, "No space left on device")
        original(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_bytes", full)
        assert run_command(arguments) == 6
    errors = capsys.readouterr().err
    assert "No space left" in errors
    assert "--runs" in errors
    after = snapshot(place / "runs")
    if (
        stage == "pretrain"
    ):  # what was measured before the disk was full is kept: the lock and the event that tells of it
        before, after = ({name: value for name, value in old.items() if "mini/" not in name} for old in (before, after))
    assert after == before
    assert run_command(arguments) == 0


def test_a_run_folder_in_use_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = snapshot(place / "runs")
    with RunFolder(place / "runs", "mini").exclusive():
        assert run_command(["run", "mini.toml"]) == 6
    assert "in use" in capsys.readouterr().err
    assert snapshot(place / "runs") == before


def test_an_artefact_of_a_newer_schema_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    record = next((place / "runs" / "store").glob("clean-*")) / "stage.json"
    record.write_text(json.dumps(files.read_json(record) | {"schema": 99}), encoding="utf-8")
    before = snapshot(place / "runs")
    assert run_command(["run", "mini.toml"]) == 3
    assert NEWER in capsys.readouterr().err
    assert snapshot(place / "runs") == before


def test_a_corrupted_shard_is_named_set_aside_and_made_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    shard = next((place / "runs" / "store").glob("tokenise-*")) / "training.bin"
    before = shard.read_bytes()
    shard.write_bytes(before[:-2] + b"\x07\x07")
    assert run_command(["run", "mini.toml"]) == 0
    assert "training.bin" in capsys.readouterr().err
    assert shard.read_bytes() == before

"""A pretraining in several processes: one that is lost, the same command again, torchrun by hand, and the script for Slurm."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import restarting
from treino import environment
from treino.cli.main import run_command
from treino.pipeline.run_folder import RunFolder
from treino.pipeline.slurm import parse, script

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and torch's agent differ on Windows")


def workers(folder: Path) -> dict[int, psutil.Process]:
    """The training's processes of a runs folder by rank."""
    found = {}
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "treino.training.worker" in line and str(folder) in line[-1] and "torch.distributed.run" not in line:
            found[int(process.environ()["RANK"])] = process
    return found


def kill_one(folder: Path) -> None:
    """Kill the second process as soon as there is a checkpoint."""
    while not any(folder.glob("store/.pretrain-*/checkpoints/step-*")):
        time.sleep(0.02)
    workers(folder)[1].kill()


@on_posix
def test_a_lost_process_ends_the_job_with_a_sentence_and_the_same_command_finishes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TREINO_LANG", "en")
    path, runs = restarting.recipe(tmp_path, steps=100), tmp_path / "runs é"
    command = ["run", str(path), "--runs", str(runs), "--on", "torchrun:2", "--json"]
    killer = threading.Thread(target=kill_one, args=(runs,), daemon=True)
    killer.start()
    assert run_command(command) == 6
    err = capsys.readouterr().err
    assert "a process of the training was lost; run the same command again" in err
    assert "it goes on from the checkpoint at step" in err
    assert "Traceback" not in err
    assert not workers(runs)

    assert run_command(command) == 0
    kinds = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    resumed = next(line for line in kinds if line["kind"] == "train.resumed")
    assert 0 < resumed["step"] < 100
    facts = kinds[-1]["facts"]["pretrain"]
    assert (facts["steps"], facts["ranks"], facts["shard"]) == (100, 2, "ddp")
    assert facts["last_loss"] < facts["first_loss"] - 1
    record = RunFolder(runs, "mini").artefacts()["pretrain"].record
    assert record["machine"]["ranks"] == 2
    assert not record["lock_differs"]
    left = {path.name for path in record_files(runs)}
    assert not any("ranks" in name or name.endswith(".lock") for name in left), left


def record_files(runs: Path) -> list[Path]:
    return [*runs.glob("store/*"), *runs.glob("store/pretrain-*/*")]


@on_posix
def test_processes_that_a_launcher_started_share_the_run_and_the_first_one_tells(tmp_path: Path) -> None:
    """As srun starts them, without torchrun's agent; the lock of a run in one process marks the result."""
    path, runs = restarting.recipe(tmp_path, steps=6), tmp_path / "runs"
    assert run_command(["run", str(path), "--runs", str(runs), "--json"]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in ("0", "1"):
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TREINO_LANG": "en"}
        command = [sys.executable, "-m", "treino", "run", str(path), "--runs", str(runs), "--json"]
        shape = ["--set", 'pretrain.shard="fsdp"', "--set", "pretrain.clip=0.9", "--set", 'pretrain.optimiser="adamw"']
        children.append(
            subprocess.Popen(
                [*command, *shape],
                env=environment.for_ranks(1) | names,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    (out, err), silent = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], err
    assert silent == ("", "")
    last = json.loads(out.splitlines()[-1])
    assert last["facts"]["pretrain"]["shard"] == "fsdp"
    assert last["facts"]["evaluate"]["loss"] == pytest.approx(
        last["facts"]["pretrain"]["last_validation_loss"], rel=1e-3
    )


RUN = ("run", "mini.toml")
WRONG = {
    "unknown launcher": (("--on", "mpi:2"), ("unknown launcher mpi", "torchrun:2")),
    "no launcher": (("--on", ""), ("unknown launcher", "torchrun:2")),
    "zero processes": (("--on", "torchrun:0"), ("at least 1",)),
    "no number": (("--on", "torchrun:"), ("whole number",)),
    "more processes than rows": (("--on", "torchrun:10"), ("10 processes cannot share the 9 rows", "pretrain.batch")),
    "no nodes": (("--on", "slurm:gpus=8", "--show"), ("number of nodes is missing", "slurm:nodes=2,gpus=8")),
    "zero nodes": (("--on", "slurm:nodes=0", "--show"), ("at least 1",)),
    "unknown key": (("--on", "slurm:nodes=2,gpu=8", "--show"), ("gpu is unknown", "gpus")),
    "words in a time": (("--on", "slurm:nodes=2,time=$(rm)", "--show"), ("$(rm) cannot stand there",)),
    "more GPUs than rows": (("--on", "slurm:nodes=2,gpus=8", "--show"), ("16 processes cannot share the 9 rows",)),
    "no Slurm": (("--on", "slurm:nodes=2"), ("sbatch is missing", "--show")),
    "--show alone": (("--show",), ("slurm",)),
    "nothing to pretrain": (("--on", "torchrun:2", "--set", 'finetune.base="x"'), ("pretrains nothing",)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_place_is_explained(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = WRONG[name]
    if name == "nothing to pretrain":
        arguments = (*arguments, "--set", 'labels.source="world"')
    restarting.recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TREINO_LANG", "en")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_command([*RUN, *arguments]) == 2
    out, err = capsys.readouterr()
    assert not out
    for words in said:
        assert words in err, err
    assert not (tmp_path / "runs").exists()


@on_posix
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_the_script_for_slurm_is_bash_and_says_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pasta d'água"
    folder.mkdir()
    restarting.recipe(folder)
    monkeypatch.chdir(folder)
    wanted = "slurm:nodes=2,gpus=4,cpus=32,time=1-00:00:00,partition=a100"
    batch = ("--set", "pretrain.batch=64", "--set", "name=\"casa ; rm\"")  # fmt: skip
    code = run_command([*RUN, *batch, "--on", wanted, "--show"])
    assert code == 2, "a name with a semicolon is no name of a run"
    capsys.readouterr()
    batch = ("--set", "pretrain.batch=64", "--set", 'name="casa da água"')
    assert run_command([*RUN, *batch, "--on", wanted, "--show"]) == 0
    text = capsys.readouterr().out
    path = folder / "job.sh"
    path.write_text(text, encoding="utf-8")
    subprocess.run(["bash", "-n", str(path)], check=True)
    for line in (
        "#SBATCH --nodes=2",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --cpus-per-task=32",
        "#SBATCH --time=1-00:00:00",
        "#SBATCH --partition=a100",
        "#SBATCH --job-name=casa-da--gua",
    ):
        assert line in text.splitlines()
    assert "--nproc-per-node=4" in text

    # With stand-ins for Slurm's commands and for Python, the script calls the launcher with the arguments as they were given.
    tools = folder / "ferramentas"
    tools.mkdir()
    heard = folder / "heard.json"
    for name, body in (
        ("scontrol", "echo first-node; echo second-node"),
        ("srun", 'shift; shift; printf "%s\\n" "$@" > "$HEARD"'),
    ):
        (tools / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    values = {"SLURM_JOB_NODELIST": "x", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "HEARD": str(heard)}
    values["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", str(path)], env=values, check=True, cwd=tmp_path)
    got = heard.read_text(encoding="utf-8").splitlines()
    assert "--rdzv-endpoint=first-node:29500" in got
    assert got[got.index("treino") + 1 :] == ["run", "mini.toml", *batch]


def test_a_job_without_gpus_takes_whole_nodes() -> None:
    job = parse("slurm:nodes=3")
    assert not isinstance(job, int)
    assert job.ranks == 3
    assert "#SBATCH --exclusive" in script(job, "x", ["run"], Path("runs"))

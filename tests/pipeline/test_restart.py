"""The whole pipeline in child processes: equal digests from equal locks, killed and interrupted or not.

The undisturbed run and those that a signal stops are the command as a user starts it; the others begin as copies.
"""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import restarting

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not a signal of Windows")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """A recipe, the lock of its first run, and the digests that every other run must reach."""
    folder = tmp_path_factory.mktemp("ação e reação")
    path = restarting.recipe(folder)
    code, lines, err = restarting.finish(restarting.start(path, folder / "runs"))
    assert code == 0, err
    return path, folder / "runs" / "mini" / "recipe.lock.toml", restarting.digests(lines)


POINTS = [
    "00000.json:after-rename#2",
    "tokenizer.json:after-write",
    "pretrain:started",
    "state.json:after-rename#5",
    "step:before-publish#7",
    "pretrain:after-publish",
    "run.json:before-write#3",
]
"""A short form of the proof; `make proof` takes every point."""


@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_a_fault_point_ends_as_if_nothing_had_been(
    undisturbed: tuple[Path, Path, dict[str, str]], tmp_path: Path, point: str
) -> None:
    path, lock, expected = undisturbed
    assert restarting.killed_at(point, path, tmp_path / "runs", lock, restarting.copy) == expected


def test_a_run_killed_at_a_random_moment_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    path = restarting.recipe(tmp_path, "lstm", steps=40)
    code, lines, err = restarting.finish(restarting.copy(path, tmp_path / "whole"))
    assert code == 0, err
    lock = tmp_path / "whole" / "mini" / "recipe.lock.toml"
    draw = random.Random(4)
    _, got = restarting.killed_in_training(path, tmp_path / "runs", lock, draw, restarting.copy)
    assert got == restarting.digests(lines)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_says_how_to_go_on_and_the_next_run_does(
    undisturbed: tuple[Path, Path, dict[str, str]], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    path, lock, expected = undisturbed
    child = restarting.start(path, tmp_path / "runs", lock=lock)
    assert child.stdout
    for line in child.stdout:
        if '"train.step"' in line:
            break
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, out + err
    assert "goes on" in err
    assert "Traceback" not in err
    code, lines, err = restarting.finish(restarting.copy(path, tmp_path / "runs", lock=lock))
    assert code == 0, err
    assert any(line["kind"] == "train.resumed" for line in lines)
    assert restarting.digests(lines) == expected

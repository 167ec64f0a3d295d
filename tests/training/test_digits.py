"""The protocol of the digits: what is open to choose, and that the cures do what they are for, on a small scale."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import digits as protocol


def test_the_outputs_of_each_scenario() -> None:
    def open_ones(scenario: str, task: int, seen: int) -> list[int]:
        return protocol.Protocol(scenario, 5, 2).choices(task, seen).nonzero()[:, 0].tolist()

    assert open_ones("task", 1, 3) == [2, 3]
    assert open_ones("domain", 1, 3) == [0, 1]
    assert open_ones("class", 1, 3) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_no_row_is_in_two_parts_and_permutations_differ() -> None:
    tasks = protocol.digits("permuted", 0)
    assert len(tasks) == 10
    assert not torch.equal(tasks[0]["test"][0], tasks[1]["test"][0])
    assert torch.equal(tasks[0]["test"][0].sort(1).values, tasks[1]["test"][0].sort(1).values)
    assert sum(len(tasks[0][part][1]) for part in protocol.SHARES) == 1797
    split = protocol.digits("split", 0)
    assert sum(len(task[part][1]) for task in split for part in protocol.SHARES) == 1797


def test_classes_are_forgotten_unless_they_are_rehearsed() -> None:
    found = {m: protocol.sequence("split", "class", m, 0, steps=30) for m in ("none", "replay", "joint")}
    assert found["none"] < 0.3
    assert found["none"] < found["replay"] - 0.2
    assert found["replay"] < found["joint"]

"""What the environment allows: the number of threads."""

from __future__ import annotations

import os
import sys

import pytest

from treino import environment


@pytest.mark.parametrize(
    ("asked", "given"),
    [(None, 8), ("3", 3), ("64", 8), ("4,2", 4), (" 2 ", 2), ("0", 8), ("-1", 8), ("many", 8), ("", 8), ("²", 8)],
)
def test_threads_are_those_there_or_fewer_where_asked(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, given: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    if sys.platform == "linux":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert environment.processors() == given

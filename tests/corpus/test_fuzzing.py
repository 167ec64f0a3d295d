"""A sample of the long proof by mutation (`benchmarks/proof.py damaged_files`): damaged files cost themselves at most."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import fuzzing
from treino.corpus.sources import tables


def test_damaged_files_give_documents_or_a_named_reason_and_spoil_no_others(tmp_path: Path) -> None:
    found = fuzzing.run(tmp_path, 100, seed=7)
    assert found.broken == []
    assert found.files == 100
    assert len(found.rules) >= 5
    assert found.documents > 2 * 100


def test_the_sample_sees_what_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that passes over rows in silence is seen."""
    really = tables.csv_rows
    monkeypatch.setitem(
        fuzzing.read_source.__globals__["ROWS"], "csv", lambda *given: (row for row in really(*given) if row[0] % 5)
    )
    assert any("whole file lost" in line for line in fuzzing.run(tmp_path, 1, seed=7).broken)

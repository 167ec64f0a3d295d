"""What the tests of commands share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands speak English, unless a test asks for another language."""
    monkeypatch.setenv("TREINO_LANG", "en")

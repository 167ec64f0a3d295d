"""Errors of others, told in a line."""

from __future__ import annotations

import pytest

from treino.errors import first_line


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such instruction\nand more"), "ValueError: no such instruction"),
        (RuntimeError(), "RuntimeError: "),
        (KeyError("x" * 300), f"KeyError: '{'x' * 199}"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, told: str) -> None:
    assert first_line(error) == told

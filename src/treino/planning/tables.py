"""The planner's own TOML files: facts, scenarios and claims."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from treino.errors import UsageError, reason_of
from treino.messages import N_

MOST = 1e40
"""A number in a file that is larger than this is a slip of the pen."""


def read_table(path: Path) -> dict[str, Any]:
    """A file's values.

    Raises:
        UsageError: with the line where it is no TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        from treino.recipe.source_lines import syntax_error_line, syntax_reason

        line = syntax_error_line(error)
        where = f"{path}:{line}" if line else str(path)
        raise UsageError(N_("this is not TOML: {reason}"), where=where, reason=syntax_reason(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(N_("cannot read {path}: {reason}"), path=str(path), reason=reason_of(error)) from None


def is_number(value: Any, least: float = 0.0, *, above: bool = False) -> bool:
    """Whether a value of a file is a number from `least` (`above`: not itself) to something that can be meant."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return (least < value if above else least <= value) and value <= MOST

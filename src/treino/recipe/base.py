"""What all settings share: frozen, strict about types, and no unknown key."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

DERIVED = 0
"""Default of a setting that follows from a dial: `derive.py` gives it its value before any stage sees it."""


class Settings(BaseModel):
    """A table of a recipe. Values are checked strictly: `"3"` is not a number and `widht` is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def setting(default: Any, description: str, *, beginner: bool = False, **limits: Any) -> Any:
    """A setting with the reason that it exists; `beginner` ones are shown in a new recipe."""
    return Field(default, description=description, json_schema_extra={"beginner": beginner}, **limits)

"""What every reader of a source gives: a text and where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RawDocument:
    """A text as its source gives it: the file's path below the source, the row in it (0 for a whole file), what else is
    known, and whether it may be held out.
    """

    name: str
    row: int
    text: str
    meta: dict[str, Any]
    may_be_held_out: bool = True

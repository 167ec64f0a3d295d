"""Tables of `RESULTS.md` that scripts keep: each between `<!-- NAME -->` and `<!-- end NAME -->`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")


def record(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, keys: int = 1) -> None:
    """Put rows into a table; a row takes the place of the one whose first `keys` cells are the same.

    Raises:
        LookupError: where the file has no such marks.
    """
    text = RESULTS.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
    if begin not in text or end not in text:
        raise LookupError(f"{RESULTS} has no table between {begin.strip()} and {end}")
    before, rest = text.split(begin, 1)
    old, after = rest.split(end, 1)
    table = {tuple(row[:keys]): row for row in [*_rows(old), *(list(row) for row in rows)]}
    lines = [columns, ["---"] * len(columns), *table.values()]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    RESULTS.write_text(before + begin + body + end + after, encoding="utf-8")


def _rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]

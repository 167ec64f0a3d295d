"""On which line of a TOML file a key stands: the standard parser does not say, and an error without a line is half an error."""

from __future__ import annotations

import re
import tomllib

_HEADER = re.compile(r"^\s*\[+\s*([^\]]+?)\s*\]+")
_KEY = re.compile(r"^\s*([\w.\"'-]+)\s*=")
_SYNTAX_LINE = re.compile(r"\(at line (\d+), column \d+\)")


def key_lines(text: str) -> dict[str, int]:
    """Line (from 1) of every table and key by dotted path. Lines inside multi-line values are passed over: a line
    begins a statement if and only if all that stands before it is valid TOML by itself.
    """
    lines = text.splitlines()
    found: dict[str, int] = {}
    table = ""
    for number, line in enumerate(lines, 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if not (header or key) or not _is_valid("\n".join(lines[: number - 1])):
            continue
        if header:
            table = _plain(header[1])
            found.setdefault(table, number)
        elif key:
            found.setdefault(f"{table}.{_plain(key[1])}".lstrip("."), number)
    return found


def syntax_error_line(error: tomllib.TOMLDecodeError) -> int | None:
    """Line that the parser names in its message, if it names one."""
    match = _SYNTAX_LINE.search(str(error))
    return int(match[1]) if match else None


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _is_valid(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True

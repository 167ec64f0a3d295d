"""On which line of a TOML file a key stands: the standard parser does not say, and an error without a line is half an error."""

from __future__ import annotations

import re
import tomllib

from treino.messages import N_, Message

_HEADER = re.compile(r"^\s*\[+\s*([^\]]+?)\s*\]+")
_KEY = re.compile(r"^\s*([\w.\"'-]+)\s*=")
_SYNTAX_LINE = re.compile(r"\(at line (\d+), column \d+\)")

_SYNTAX = {
    "Invalid statement": N_("a line begins with neither a key nor a table"),
    "Expected newline": N_("something stands after the value"),
    "Expected '='": N_("no = stands after the key"),
    "Expected ']": N_("the name of a table is not closed with ]"),
    "Found invalid character": N_("there is a character that is not allowed"),
    "Illegal character": N_("there is a character that is not allowed"),
    "Cannot declare": N_("a table is there twice"),
    "Cannot overwrite": N_("a key is there twice"),
    "Cannot mutate": N_("a key is there twice"),
    "Cannot redefine": N_("a table is there twice"),
    "Duplicate inline": N_("a key is there twice"),
    "Invalid initial character": N_("a key begins with a character that is not allowed"),
    "Unclosed array": N_("a list is not closed with ]"),
    "Unclosed inline table": N_("a table is not closed with }}"),
    "Unescaped": N_("a single \\ stands in a text; write \\\\ for it"),
    "Invalid hex": N_("a \\ in a text is followed by a wrong code"),
    "Escaped character": N_("a \\ in a text is followed by a wrong code"),
    "Unterminated string": N_("a text is not closed with its quotes"),
    "Invalid date": N_("there is no such date or time"),
    "Invalid value": N_("a value is missing, or is a text without quotes"),
}
"""How the standard parser's messages begin, and the same in words of ours."""


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


def syntax_reason(error: tomllib.TOMLDecodeError) -> Message | str:
    """What the parser found wrong."""
    said = str(error)
    return next((Message(text) for start, text in _SYNTAX.items() if said.startswith(start)), said)


def _plain(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def _is_valid(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True

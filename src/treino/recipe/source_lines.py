"""On which line of a TOML file a key stands: the standard parser does not say, and an error without a line is half an error."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from treino.messages import N_, Message

_HEADER = re.compile(r"^\s*\[+\s*([^\]]+?)\s*\]+")
_KEY = re.compile(r"^\s*([\w.\"'-]+)\s*=")
_SIGNS = re.compile(
    r'''
    """ (?: \\. | [^\\] )*? "{3,5} | \'\'\' .*? \'{3,5} | " (?: \\. | [^"\\\n] )* " | \' [^'\n]* \' | \# [^\n]* | [][{}\n]
    ''',
    re.VERBOSE | re.DOTALL,
)
"""What decides where a statement ends: texts (two quotes may stand before the last three), comments, brackets, lines."""
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
    """Line (from 1) of every table and key of valid TOML by dotted path; what stands inside a value is passed over."""
    lines = text.split("\n")
    found: dict[str, int] = {}
    table = ""
    for number in _statements(text):
        line = lines[number - 1]
        if header := _HEADER.match(line):
            table = _plain(header[1])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault(f"{table}.{_plain(key[1])}".lstrip("."), number)
    return found


def _statements(text: str) -> Iterator[int]:
    """The lines (from 1) that begin inside no text, list or inline table."""
    number, depth = 1, 0
    yield number
    for match in _SIGNS.finditer(text):
        sign = match[0]
        depth += (sign in "[{") - (sign in "]}")
        number += sign.count("\n")
        if sign == "\n" and not depth:
            yield number


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

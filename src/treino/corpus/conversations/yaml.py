"""YAML as plain lists, tables and texts: bounded, and without anything that could run or unfold.

The parser's events are put together here: no tag makes an object, a text stays a text (YAML itself makes False of "no"), a
reference (`&a … *a`, which a few lines can unfold into billions of items) ends the reading, as does nesting without end, and
each item of a list knows its line.
"""

from __future__ import annotations

from typing import Any

LARGEST_YAML = 64_000_000
"""Characters of a file."""

MOST_VALUES = 5_000_000
"""Texts, lists and tables of a file: each takes hundreds of bytes, however few characters it has."""

DEEPEST = 32
"""Lists and tables within each other."""


class Rows(list):
    """A list that knows the line on which each of its items begins."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


def read_yaml(text: str) -> tuple[Any, tuple[int, str] | None]:
    """The first document of a text, and where it could not be read further: (line, rule), or None. Then what stood whole before
    that line, in the root or in a list of the root, is there.
    """
    import yaml

    if len(text) > LARGEST_YAML:
        return None, (1, "too_large")
    stack: list[_Open] = []
    line = 1
    try:
        for number, event in enumerate(yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))):
            line = event.start_mark.line + 1
            if number > MOST_VALUES:
                return _so_far(stack), (line, "too_large")
            if isinstance(event, yaml.AliasEvent):
                return _so_far(stack), (line, "yaml_reference")
            if isinstance(event, yaml.ScalarEvent):
                done = _Open(line, event.value)
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                if len(stack) == DEEPEST:
                    return _so_far(stack), (line, "yaml_too_deep")
                stack.append(_Open(line, Rows() if isinstance(event, yaml.SequenceStartEvent) else {}))
                continue
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                done = stack.pop()
            else:
                continue
            if not stack:
                return done.value, None
            stack[-1].take(done)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return _so_far(stack), (mark.line + 1 if mark else line, "broken_yaml")
    return None, None


class _Open:
    """A value that begins on a line; of a table, with the key whose value is to come."""

    __slots__ = ("key", "line", "value")

    def __init__(self, line: int, value: Any) -> None:
        self.line, self.value, self.key = line, value, None

    def take(self, done: _Open) -> None:
        if isinstance(self.value, Rows):
            self.value.append(done.value)
            self.value.lines.append(done.line)
        elif self.key is None:
            self.key = str(done.value)
        else:
            self.value[self.key] = done.value
            self.key = None


def _so_far(stack: list[_Open]) -> Any:
    """What is whole of what is open: the root, and with a table the list in work."""
    if not stack:
        return None
    root = stack[0]
    if isinstance(root.value, dict) and root.key is not None and len(stack) > 1 and isinstance(stack[1].value, Rows):
        root.value[root.key] = stack[1].value
    return root.value

"""From a validation error to a sentence that says where, what, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from treino.errors import UsageError
from treino.messages import N_, Message
from treino.recipe.corpus import SourceSettings
from treino.recipe.recipe import setting_paths

_INTEGER = N_("{key} must be a whole number, not {value}")
_NUMBER = N_("{key} must be a number, not {value}")
_TEXT = N_("{key} must be text in quotes, not {value}")
_SWITCH = N_("{key} must be true or false, not {value}")
_LIST = N_('{key} must be a list such as ["a", "b"], not {value}')
_TABLE = N_("{key} must be a table such as [{key}], not {value}")

WHAT_IS_WRONG: dict[str, str] = {
    "int_type": _INTEGER,
    "int_parsing": _INTEGER,
    "int_from_float": _INTEGER,
    "int_parsing_size": _INTEGER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": N_("{key} must be a finite number, not {value}"),
    "string_type": _TEXT,
    "string_unicode": _TEXT,
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "dict_type": _TABLE,
    "greater_than": N_("{key} must be more than {gt}, not {value}"),
    "greater_than_equal": N_("{key} must be at least {ge}, not {value}"),
    "less_than": N_("{key} must be less than {lt}, not {value}"),
    "less_than_equal": N_("{key} must be at most {le}, not {value}"),
    "literal_error": N_("{key} must be one of {expected}, not {value}"),
    "too_short": N_("{key} needs at least {min_length} entries"),
    "too_long": N_("{key} may have at most {max_length} entries"),
    "string_too_short": N_("{key} must not be empty"),
    "string_too_long": N_("{key} is longer than {max_length} characters"),
    "string_pattern_mismatch": N_("{key} may hold letters, digits, spaces, dots, - and _ only, not {value}"),
    "missing": N_("{key} is missing"),
    "source": N_("{key}: each source has either a path or lines"),
    "budget": N_(
        '{key} must be an amount and a unit, such as "2M tokens", "10 min", "100 epochs" or "500 steps", not {value}'
    ),
    "condition": N_(
        "{key} holds {value}, which is no threshold: {unknown} is not known. Measures: {known}; baselines: {baselines}; "
        'for example "macro_f1 >= tfidf + 0.02"'
    ),
    "labels": N_("{key} has both a source and rows; it needs one of them"),
    "sequence": N_("{key}: each task needs a name of its own without a slash, and order names tasks that are there"),
    "label_columns": N_("{key} has columns, one a class, so it takes no label, separator or rows beside them"),
}
OTHERWISE = N_("{key} cannot be {value}")


@dataclass(frozen=True)
class Place:
    """Where each setting was written: the lines of a file, and the flags that were given."""

    title: str
    lines: Mapping[str, int]
    flags: frozenset[str] = frozenset()

    def line(self, key: str) -> int | None:
        """Line of the key, or of the nearest table that holds it."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key.rpartition(".")[0]
        return None

    def __call__(self, key: str) -> str:
        """`--set key`, `file:line` or `file`."""
        if key in self.flags:
            return f"--set {key}"
        line = self.line(key)
        return f"{self.title}:{line}" if line else self.title


def sentence(kind: str, key: str, value: Any, context: Mapping[str, Any] | None = None) -> Message:
    """The sentence for one kind of validation error."""
    values = {name: str(item) for name, item in (context or {}).items()}
    return Message(WHAT_IS_WRONG.get(kind, OTHERWISE), values | {"key": key, "value": _shown(value)})


def from_validation(error: ValidationError, place: Place) -> UsageError:
    """The first mistake of a recipe as an error with its place, what is wrong and what was probably meant."""
    details = min(error.errors(include_url=False), key=lambda item: place.line(_dotted(item["loc"])) or 0)
    key = _dotted(details["loc"])
    where = place(key)
    if details["type"] == "extra_forbidden":
        return _unknown_key(key, where)
    message = sentence(details["type"], key, details["input"], _context(details))
    return UsageError(message.text, where=where, **message.values)


def _unknown_key(key: str, where: str) -> UsageError:
    known = [*setting_paths(), *(f"corpus.sources.{name}" for name in SourceSettings.model_fields)]
    tables = sorted({path.partition(".")[0] for path in known if "." in path})
    table, _, name = key.rpartition(".")
    elsewhere = [path for path in known if path.rpartition(".")[2] == name and path != key]
    siblings = [path.rpartition(".")[2] for path in known if path.rpartition(".")[0] == table]
    near = difflib.get_close_matches(name, siblings + ([] if table else tables), n=1, cutoff=0.6)
    if near:
        guess = f"{table}.{near[0]}".lstrip(".")
        return UsageError(
            N_("there is no setting {key}"), where=where, fix=N_("did you mean {guess}?"), key=key, guess=guess
        )
    if elsewhere:
        other = elsewhere[0]
        fix = (
            N_("{name} belongs to the table [{table}]")
            if "." in other
            else N_("{name} belongs to the top, before any table")
        )
        return UsageError(
            N_("there is no setting {key}"), where=where, fix=fix, key=key, name=name, table=other.rpartition(".")[0]
        )
    if table and not siblings:
        near = difflib.get_close_matches(table, tables, n=1) or tables
        return UsageError(
            N_("there is no table [{key}]"), where=where, fix=N_("did you mean {guess}?"), key=table, guess=near[0]
        )
    far = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return UsageError(
        N_("there is no setting {key}"), where=where, fix=N_("did you mean {guess}?"), key=key, guess=far[0]
    )


def _dotted(location: tuple[int | str, ...]) -> str:
    """Dotted path of an error: names of the variants that pydantic tried (a union's) and positions are left out."""
    paths = setting_paths()
    parts = [str(part) for part in location if isinstance(part, str)]
    while (
        len(parts) > 1
        and ".".join(parts) not in paths
        and ".".join(parts[:-1]) in paths
        and not _is_source_field(parts)
    ):
        parts.pop()
    return ".".join(parts)


def _is_source_field(parts: list[str]) -> bool:
    return parts[:2] == ["corpus", "sources"] and parts[-1].isidentifier()


def _context(details: ErrorDetails) -> Mapping[str, Any]:
    context = dict(details.get("ctx") or {})
    if "expected" in context:
        context["expected"] = str(context["expected"]).replace("'", '"').replace(" or ", ", ")
    return context


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else "[...]" if isinstance(value, dict) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."

"""Reading a recipe: TOML file, then `--set` flags, then what follows from the dials, each value with its origin."""

from __future__ import annotations

import difflib
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from treino.errors import UsageError, reason_of
from treino.messages import N_
from treino.recipe.derive import derive
from treino.recipe.mistakes import Place, from_validation
from treino.recipe.recipe import Recipe, setting_paths
from treino.recipe.source_lines import key_lines, syntax_error_line, syntax_reason

READY_FOLDER = Path(__file__).parent / "ready"
READY = {
    "quickstart": N_("the embedded town and a small Transformer: three minutes on a laptop"),
    "books": N_("a folder of texts of your own and ten minutes of training"),
    "corpus": N_("files of your own and a web site: a clean corpus with its data card, and a small model of it"),
    "classify": N_("a table with a text and a label column: a classifier on a pretrained body"),
    "chat": N_("conversations of the embedded town: a small model that answers"),
    "modulo7": N_("eight sentences and an LSTM, as in the course, in seconds"),
}


@dataclass(frozen=True)
class LoadedRecipe:
    """A full recipe, where each value came from, and the folder that relative paths in it start from.

    `origins` maps dotted paths to "default", "derived", "flag" or "file:line".
    """

    recipe: Recipe
    origins: Mapping[str, str]
    base: Path
    text: str = ""
    title: str = "quickstart"
    overrides: tuple[str, ...] = field(default=())


def load_recipe(source: str | Path | Mapping[str, Any] | None = None, overrides: Iterable[str] = ()) -> LoadedRecipe:
    """Read a recipe from a TOML file, from the name of a ready one (None: quickstart) or from a dictionary.

    Raises:
        UsageError: with `file:line`, what is wrong and what was probably meant.
    """
    overrides = tuple(overrides)
    if isinstance(source, Mapping):
        values, text, title, base, name = _lists_to_tuples(dict(source)), "", "dict", Path(), ""
    else:
        path, title, base = _find(source)
        text, name = _read(path), _name_of(path)
        values = _parse(text, title)
    lines = key_lines(text)
    origins = {path: f"{title}:{line}" if line else "file" for path, line in _paths_of(values, lines)}
    if name and "name" not in values:
        values["name"], origins["name"] = name, "derived"
    for override in overrides:
        origins[_apply(values, override)] = "flag"
    place = Place(title, lines, frozenset(path for path, origin in origins.items() if origin == "flag"))
    try:
        full, derived = derive(Recipe.model_validate(values))
    except ValidationError as error:
        raise from_validation(error, place) from None
    except UsageError as error:
        error.where = place(error.message.values["key"])
        raise
    known = dict.fromkeys(setting_paths(), "default")
    return LoadedRecipe(full, known | origins | dict.fromkeys(derived, "derived"), base, text, title, overrides)


def setting_rows(values: Mapping[str, Any], origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows {where, value, origin} for every setting; `values` is a recipe's `model_dump(mode="json", by_alias=True)`."""
    rows = []
    for path, origin in origins.items():
        table, _, name = path.rpartition(".")
        holder = values.get(table) if table else values
        if isinstance(holder, Mapping) and name in holder:
            rows.append({"where": path, "value": holder[name], "origin": origin})
    return rows


def _find(source: str | Path | None) -> tuple[Path, str, Path]:
    """File of a recipe, how messages call it, and the folder for its relative paths (a ready one: where the user is)."""
    if source is None or (str(source) in READY and not Path(source).exists()):
        name = str(source or "quickstart")
        return READY_FOLDER / f"{name}.toml", f"{name}.toml", Path()
    path = Path(source)
    if path.is_dir() and (path / "recipe.toml").is_file():
        path = path / "recipe.toml"
    if path.name == "recipe.toml" and (path.parent / "run.json").is_file():
        raise UsageError(
            N_("{path} is a run, whose recipe.toml tells what it was asked without the options of its command"),
            fix=N_("name the recipe that it was made from, or give its command again"),
            path=str(path.parent),
        )
    return path, str(path), path.parent


def _name_of(path: Path) -> str:
    """The name of a run whose recipe gives none: its file's, or its folder's where the file is called recipe.toml."""
    return plain_name(path.resolve().parent.name if path.name == "recipe.toml" else path.stem)


def plain_name(text: str, most: int = 80) -> str:
    """A text as (a part of) a run's name: letters, digits, spaces, dots, - and _ alone, of those a letter or digit first."""
    signs = (sign if sign.isalnum() or sign in " .-_" else "-" for sign in unicodedata.normalize("NFC", text))
    return "".join(signs).lstrip(" .-")[:most] or "x"


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        if near := difflib.get_close_matches(str(path), READY, n=1):
            raise UsageError(
                N_("there is no recipe {path}"), fix=N_("did you mean {guess}?"), path=str(path), guess=near[0]
            ) from None
        raise UsageError(
            N_("there is no recipe {path}"),
            fix=N_("give the path of a TOML file, or one of: {ready}"),
            path=str(path),
            ready=", ".join(READY),
        ) from None
    except IsADirectoryError:
        raise UsageError(
            N_("{path} is a folder without a recipe.toml"), fix=N_("give the path of a TOML file"), path=str(path)
        ) from None
    except OSError as error:
        raise UsageError(N_("cannot read {path}: {reason}"), path=str(path), reason=reason_of(error)) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            N_("{path} is not UTF-8 text (byte {position:raw})"),
            fix=N_("is this a recipe? Save it as UTF-8"),
            path=str(path),
            position=error.start,
        ) from None


def _parse(text: str, title: str) -> dict[str, Any]:
    try:
        return _lists_to_tuples(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        line = syntax_error_line(error)
        raise UsageError(
            N_("this is not TOML: {reason}"),
            where=f"{title}:{line}" if line else title,
            fix=N_('a setting is written as: name = value, and text stands in "quotes"'),
            reason=syntax_reason(error),
        ) from None


def _lists_to_tuples(value: Any) -> Any:
    """Settings are frozen, so their lists are tuples."""
    if isinstance(value, dict):
        return {key: _lists_to_tuples(item) for key, item in value.items()}
    return tuple(_lists_to_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _paths_of(values: Mapping[str, Any], lines: Mapping[str, int]) -> Iterable[tuple[str, int | None]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{name}", lines.get(f"{key}.{name}")) for name in value)
        else:
            yield key, lines.get(key)


def _apply(values: dict[str, Any], override: str) -> str:
    """Put `a.b=value` of a `--set` flag into the values; returns the dotted path."""
    path, equals, text = override.partition("=")
    path = path.strip()
    if not equals or not path:
        raise UsageError(N_("--set {flag} is not of the form table.name=value"), where="--set", flag=override)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table, _, name = path.rpartition(".")
    target = values
    for part in filter(None, table.split(".")):
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UsageError(N_("there is no table [{table}]"), where="--set", table=table)
        target = inner
    target[name] = _lists_to_tuples(value)
    return path

"""A commented recipe to start from: the settings of a ready one, each with its reason in the reader's language."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

from treino.messages import N_
from treino.recipe.corpus import SourceSettings
from treino.recipe.load import READY, READY_FOLDER
from treino.recipe.recipe import Recipe, setting_paths

HEADER = N_("A recipe for treino. Run it with: treino run {file}")
REST = N_("Everything else has a value already; see all of it with: treino explain {file} --settings")


def commented_recipe(ready: str, name: str, file: str, text: Callable[..., str]) -> str:
    """TOML of a new recipe. `text` renders a message id in the reader's language.

    Settings that the ready recipe writes stand as they are; the other ones that a beginner may want to know follow as
    comments with their defaults.
    """
    written: dict[str, Any] = tomllib.loads((READY_FOLDER / f"{ready}.toml").read_text(encoding="utf-8")) | {
        "name": name
    }
    whole = Recipe.model_validate({})
    lines = [f"# {text(HEADER, file=file)}", f"# {text(READY[ready])}", ""]
    table = ""
    for path, owner in setting_paths().items():
        where, _, key = path.rpartition(".")
        fields = type(owner).model_fields
        field = fields["schema_version" if path == "schema" else key]
        values: dict[str, Any] = written.get(where, {}) if where else written
        beginner = bool(isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("beginner"))
        if key not in values and not beginner:
            continue
        if where != table:
            table = where
            lines += ["", f"[{table}]"]
        default = getattr(getattr(whole, where) if where else whole, key)
        line = f"{key} = {to_toml(values.get(key, default))}"
        lines += [f"# {text(field.description or '')}", line if key in values else f"# {line}"]
    return "\n".join([*lines, "", f"# {text(REST, file=file)}", ""])


def to_toml(value: Any) -> str:
    """A setting's value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    if isinstance(value, SourceSettings):
        return to_toml(value.path)
    if isinstance(value, dict):
        given = (f"{key} = {to_toml(item)}" for key, item in value.items() if item not in (None, "", [], ()))
        return "{ " + ", ".join(given) + " }"
    return "–" if value is None else repr(value)

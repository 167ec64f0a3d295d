"""`treino schema`."""

from __future__ import annotations

from typing import Any

import click

from treino.cli.options import Command, echo_json
from treino.cli.text import _


@click.command(
    "schema",
    cls=Command,
    help=_("Print the JSON Schema of recipes, for editors that complete and check them."),
    short_help=_("JSON Schema of recipes, for editors."),
)
def command() -> None:
    from treino.recipe import Recipe

    echo_json(_explained(Recipe.model_json_schema(by_alias=True)))


def _explained(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with the reasons of its settings in the reader's language, in place of the English docstrings of tables."""
    for table in (schema, *schema["$defs"].values()):
        table.pop("description", None)
        for entry in table["properties"].values():
            if "description" in entry:
                entry["description"] = _(entry["description"])
    return schema

"""`treino schema`."""

from __future__ import annotations

import click

from treino.cli.options import echo_json
from treino.cli.text import _


@click.command(
    "schema",
    help=_("Print the JSON Schema of recipes, for editors that complete and check them."),
    short_help=_("JSON Schema of recipes, for editors."),
)
def command() -> None:
    from treino.recipe import Recipe

    echo_json(Recipe.model_json_schema(by_alias=True))

"""`treino new`."""

from __future__ import annotations

from pathlib import Path

import click

from treino.cli.options import Command
from treino.cli.text import _


@click.command(
    "new",
    cls=Command,
    help=_("Write a commented recipe to start from.\n\n\b\nExample:\n  treino new meu-modelo --from books"),
    short_help=_("Write a commented recipe to start from."),
)
@click.argument("name", metavar=_("NAME"))
@click.option(
    "--from",
    "ready",
    default="quickstart",
    show_default=True,
    metavar=_("RECIPE"),
    help=_("Ready recipe: quickstart, books, corpus, classify, chat or modulo7."),
)
def command(name: str, ready: str) -> None:
    from treino import files
    from treino.errors import UsageError
    from treino.messages import N_
    from treino.recipe.load import READY, load_recipe
    from treino.recipe.new import commented_recipe

    if ready not in READY:
        raise UsageError(
            N_("there is no ready recipe {name}"), fix=N_("choose one of: {ready}"), name=ready, ready=", ".join(READY)
        )
    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    if path.exists():
        raise UsageError(
            N_("{path} is there already"), fix=N_("choose another name, or delete it first"), path=str(path)
        )
    if not path.parent.is_dir():
        raise UsageError(N_("there is no folder {path}"), fix=N_("make it first"), path=str(path.parent))
    load_recipe(None, [f'name="{path.stem}"'])
    files.write_text(path, commented_recipe(ready, path.stem, str(path), _))
    click.echo(_("wrote {path}; run it with: treino run {path}", path=str(path)))

"""`treino corpus`: its two commands."""

from __future__ import annotations

import click

from treino.cli.corpus_build import build
from treino.cli.corpus_show import show
from treino.cli.text import _

command = click.Group(
    "corpus",
    commands={"build": build, "show": show},
    options_metavar=_("[OPTIONS]"),
    subcommand_metavar=_("COMMAND [ARGUMENTS]..."),
    help=_("Build a clean corpus from whatever you have, without training on it, and look into one."),
    short_help=_("Build a corpus, or look into one."),
)

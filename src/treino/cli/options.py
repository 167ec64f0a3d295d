"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from treino.cli.text import _


def runs_option(function: Any) -> Any:
    return click.option(
        "--runs",
        type=click.Path(path_type=Path, file_okay=False),
        help=_("Folder of runs and results (default: ./runs)."),
    )(function)


def json_option(function: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help=_("Print JSON for programs."))(function)


def set_option(function: Any) -> Any:
    return click.option(
        "--set", "overrides", multiple=True, metavar="TABLE.NAME=VALUE", help=_("Change one setting; may be repeated.")
    )(function)


def runs_folder(runs: Path | None) -> Path:
    from treino import environment

    return runs or environment.runs_folder()


def echo_json(value: Any) -> None:
    """One JSON document on standard output."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))

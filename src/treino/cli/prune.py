"""`treino prune`."""

from __future__ import annotations

from pathlib import Path

import click

from treino.cli.options import Command, echo_json, json_option, runs_folder, runs_option
from treino.cli.text import _, translator


@click.command(
    "prune",
    cls=Command,
    help=_(
        "List what the store holds and how large it is; remove what no run uses with --yes: what was interrupted, too, so "
        "that its training begins anew.\n\n"
        "\b\nExamples:\n  treino prune\n  treino prune --yes"
    ),
    short_help=_("Sizes and removal of old results."),
)
@click.option("--yes", is_flag=True, help=_("Remove what no run uses."))
@runs_option
@json_option
def command(yes: bool, runs: Path | None, as_json: bool) -> None:
    from treino.pipeline.prune import prune, sizes

    rows = sizes(runs_folder(runs))
    removed = prune(runs_folder(runs)) if yes else []
    if as_json:
        echo_json({"items": rows, "removed": removed})
        return
    for row in rows:
        users = ", ".join(row["used_by"]) or (_("being made") if row["running"] else _("unused"))
        click.echo(f"{translator().bytes(row['bytes']):>10}  {row['folder']:<40} {users}")
    if yes:
        size = sum(row["bytes"] for row in rows if row["folder"] in removed)
        click.echo(_("removed {count} folders, {size:bytes}", count=len(removed), size=size))
    else:
        unused = sum(row["bytes"] for row in rows if not (row["used_by"] or row["running"]))
        click.echo(_("{size:bytes} are used by no run; remove them with: treino prune --yes", size=unused))

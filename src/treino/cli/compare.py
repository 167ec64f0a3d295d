"""`treino compare`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from treino.cli.options import Command, decimal_number, echo_json, json_option, runs_option, set_option
from treino.cli.text import _, translator


@click.command(
    "compare",
    cls=Command,
    help=_(
        "Fine-tune by every method, and set quality, time, memory and forgetting side by side.\n\n"
        "RECIPE has labelled texts: a TOML file or the name of a ready one. The methods are scratch, frozen, lora, qlora, "
        "full and, where the recipe names a remote, prompt; what they share is made once.\n\n"
        "\b\nExamples:\n  treino compare classify\n  treino compare meu.toml --methods full,lora --price 1.2"
    ),
    short_help=_("Measure the ways of fine-tuning against each other."),
)
@click.argument("recipe", metavar=_("RECIPE"))
@click.option("--methods", metavar=_("METHOD,..."), default="", help=_("Some of the methods (default: all)."))
@click.option(
    "--price", type=decimal_number(), default=0.0, metavar=_("NUMBER"), help=_("Price of an hour of this machine.")
)
@set_option
@runs_option
@json_option
def command(
    recipe: str, methods: str, price: float, overrides: tuple[str, ...], runs: Path | None, as_json: bool
) -> None:
    from treino.cli.terminal import TerminalView
    from treino.pipeline.comparison import compare

    if not 0 <= price < float("inf"):
        raise click.UsageError(_("--price must be 0 or more"))
    asked = [name for name in re.split(r"[,\s]+", methods) if name]
    if as_json:
        echo_json(compare(recipe, asked, overrides=overrides, runs=runs, price=price))
        return
    with TerminalView() as view:
        found = compare(recipe, asked, overrides=overrides, runs=runs, price=price, listener=view)
    _print(found)


def _print(found: dict) -> None:
    from treino.report.comparison import columns, shown
    from treino.report.labels import METHODS
    from treino.report.writer import Writer

    writer, rows = Writer(translator().language), found["rows"]
    known = columns(rows)
    lines = [[_("method"), *(_(title) for _name, title in known)]]
    for row in rows:
        cells = [re.sub("<[^>]*>", "", shown(row, name, writer)) for name, _title in known]
        lines.append([_(METHODS[row["method"]]), *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        click.echo(
            "  ".join(
                [
                    f"{line[0]:<{widths[0]}}",
                    *(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)),
                ]
            )
        )
    click.echo("\n" + str(Path(found["folder"]) / "comparison.html"))

"""`treino compare`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from treino.cli.options import Command, decimal_number, echo_json, json_option, runs_option, set_option, whole_number
from treino.cli.text import _, translator


@click.command(
    "compare",
    cls=Command,
    help=_(
        "Fine-tune by every method, and set quality, time, memory and forgetting side by side.\n\n"
        "RECIPE has labelled texts: a TOML file or the name of a ready one (quickstart if left out). The methods are scratch, "
        "frozen, lora, qlora, full and, where the recipe names a remote, prompt; what they share is made once.\n\n"
        "\b\nExamples:\n  treino compare classify\n  treino compare meu.toml --methods full,lora --price 1.2\n"
        "  treino compare meu.toml --pilot 5min\n  treino compare meu.toml --seeds 3 --gpu RTX-4090"
    ),
    short_help=_("Measure the ways of fine-tuning against each other."),
)
@click.argument("recipe", required=False, metavar=_("[RECIPE]"))
@click.option("--methods", metavar=_("METHOD,..."), default="", help=_("Some of the methods (default: all)."))
@click.option(
    "--price", type=decimal_number(), default=0.0, metavar=_("NUMBER"), help=_("Price of an hour of this machine.")
)
@click.option(
    "--seeds",
    type=whole_number(1, 10),
    default=1,
    metavar=_("NUMBER"),
    help=_("Trainings of each method, for intervals."),
)
@click.option(
    "--gpu", metavar=_("NAME[:COUNT]"), default="", help=_("Project time, memory and cost to another chip, too.")
)
@click.option(
    "--pilot",
    "pilot_time",
    metavar=_("TIME"),
    default="",
    help=_("Measure only so long in all (90s, 5min, 1h), on parts of the rows, and extrapolate with intervals."),
)
@set_option
@runs_option
@json_option
def command(
    recipe: str | None,
    methods: str,
    price: float,
    seeds: int,
    gpu: str,
    pilot_time: str,
    overrides: tuple[str, ...],
    runs: Path | None,
    as_json: bool,
) -> None:
    from treino.cli.terminal import TerminalView
    from treino.pipeline.comparison import compare

    if not 0 <= price < float("inf"):
        raise click.UsageError(_("--price must be 0 or more"))
    asked = [name for name in re.split(r"[,\s]+", methods) if name]
    given = {"seeds": seeds, "gpu": gpu, "pilot_time": pilot_time, "price": price}
    if as_json:
        echo_json(compare(recipe, asked, overrides=overrides, runs=runs, **given))
        return
    with TerminalView() as view:
        found = compare(recipe, asked, overrides=overrides, runs=runs, listener=view, **given)
    _print(found)


def _print(found: dict) -> None:
    """The tables of the page as lines of text."""
    from treino.report.comparison import comparison_tables
    from treino.report.writer import Writer, text_table

    for title, head, rows, notes in comparison_tables(found, Writer(translator().language)):
        click.echo(title)
        for line in text_table([[_plain(cell) for cell in line] for line in (head, *rows)]):
            click.echo(line)
        for note in notes:
            click.echo(_plain(note))
        click.echo()
    click.echo(str(Path(found["folder"]) / "comparison.html"))


def _plain(cell: str) -> str:
    """HTML as text."""
    import html

    return html.unescape(re.sub("<[^>]*>", "", cell))

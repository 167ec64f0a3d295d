"""`treino lab`: what a course simulates, measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from treino.cli.options import Command, echo_json, json_option, runs_option, whole_number
from treino.cli.text import _, translator

FOLDER = "labs"


@click.group(
    "lab",
    help=_("Measure what the course simulates: forgetting, and the rank of LoRA."),
    short_help=_("Labs: the course's figures from measurement."),
    options_metavar=_("[OPTIONS]"),
    subcommand_metavar=_("LAB [ARGUMENTS]..."),
)
def command() -> None:
    pass


def _common(function: Any) -> Any:
    options: tuple[Callable[[Any], Any], ...] = (
        click.option(
            "--base", metavar=_("BASE"), help=_("Run or model folder to start from (default: a small town model).")
        ),
        click.option("--seeds", type=whole_number(1, 100), metavar="N", help=_("Repetitions (default: 4).")),
        click.option("--quick", is_flag=True, help=_("A look in less time: fewer texts, no measurement.")),
        click.option(
            "--output",
            type=click.Path(path_type=Path, file_okay=False),
            metavar=_("FOLDER"),
            help=_("Folder of figures and page (default: labs in the runs folder)."),
        ),
        runs_option,
        json_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command(
    "forgetting",
    cls=Command,
    help=_(
        "One body learns A, then B, then C, with and without each cure, at equal FLOPs.\n\n"
        "FILES are three tables of labelled texts; none: the town's.\n\n"
        "\b\nExamples:\n  treino lab forgetting\n  treino lab forgetting a.csv b.csv c.csv --base quickstart --seeds 8"
    ),
    short_help=_("A, then B, A again, C, A again: with and without cures."),
)
@click.argument("files", metavar=_("[FILES]..."), nargs=-1, type=click.Path(path_type=Path))
@_common
def forgetting(files: tuple[Path, ...], output: Path | None, as_json: bool, **given: Any) -> None:
    from treino.course.forgetting import bars_of, forgetting_lab
    from treino.report.labs import forgetting_figures, forgetting_lines, forgetting_page

    found, folder = _measured(forgetting_lab, files, output, as_json, given)
    bars = bars_of(found)
    paths = [
        *forgetting_figures(found, bars, folder, translator()),
        forgetting_page(found, bars, folder, translator().language),
    ]
    _tell({**found, "bars": bars}, paths, forgetting_lines(bars, translator()), as_json)


@command.command(
    "lora-ranks",
    cls=Command,
    help=_(
        "What an adapter of each rank trains, counted, and what it learns, measured.\n\n"
        "FILE is a table of labelled texts; none: the town's moods.\n\n"
        "\b\nExamples:\n  treino lab lora-ranks\n  treino lab lora-ranks mensagens.csv --base quickstart"
    ),
    short_help=_("Parameters, memory and quality by the rank of LoRA."),
)
@click.argument("file", metavar=_("[FILE]"), required=False, type=click.Path(path_type=Path))
@_common
def lora_ranks(file: Path | None, output: Path | None, as_json: bool, **given: Any) -> None:
    from treino.course.ranks import ranks_lab
    from treino.report.labs import ranks_figure, ranks_lines, ranks_page

    found, folder = _measured(ranks_lab, file, output, as_json, given)
    paths = [*ranks_figure(found, folder, translator()), ranks_page(found, folder, translator().language)]
    _tell(found, paths, ranks_lines(found, translator()), as_json)


def _measured(
    lab: Callable[..., dict[str, Any]], what: Any, output: Path | None, as_json: bool, given: dict[str, Any]
) -> tuple[dict[str, Any], Path]:
    """What a lab found, and the folder of its figures; progress is shown but where programs read."""
    from treino.cli.options import runs_folder
    from treino.cli.terminal import TerminalView

    asked = {name: value for name, value in given.items() if value is not None}
    folder = output or runs_folder(given["runs"]) / FOLDER
    if as_json:
        return lab(what, **asked), folder
    with TerminalView() as view:
        return lab(what, **asked, listener=view), folder


def _tell(found: dict[str, Any], paths: list[Path], lines: list[str], as_json: bool) -> None:
    if as_json:
        echo_json(found | {"files": [str(path) for path in paths]})
        return
    for line in [*lines, "", *map(str, paths)]:
        click.echo(line)

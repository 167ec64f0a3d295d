"""`treino advise`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from treino.cli.options import Command, echo_json, json_option, runs_folder, runs_option
from treino.cli.text import _, translator


@click.command(
    "advise",
    cls=Command,
    help=_(
        "Recommend a strategy: from scratch, full fine-tuning, a frozen body, LoRA, QLoRA or an API, for a budget, a deadline, "
        "a card, your data and your traffic. Without a scenario, the most important things are asked.\n\n"
        "\b\nExamples:\n  treino advise startup\n  treino advise meu.toml --gpu RTX-4090 --figure figuras\n"
        "  treino advise meu.toml --comparison classify"
    ),
    short_help=_("Recommend a strategy for a budget, a deadline and your data."),
)
@click.argument("scenario", required=False, metavar=_("[SCENARIO.toml]"))
@click.option("--gpu", metavar=_("NAME[:COUNT]"), help=_("The card, in place of the scenario's."))
@click.option(
    "--figure",
    type=click.Path(path_type=Path, file_okay=False),
    metavar=_("FOLDER"),
    help=_("Draw cost against quality, and which option wins for which weights."),
)
@click.option(
    "--comparison",
    "comparisons",
    multiple=True,
    metavar=_("NAME"),
    help=_("What treino compare measured on such texts: a path, or its name among the runs; may be repeated."),
)
@runs_option
@json_option
def command(
    scenario: str | None,
    gpu: str | None,
    figure: Path | None,
    comparisons: tuple[str, ...],
    runs: Path | None,
    as_json: bool,
) -> None:
    from treino import environment
    from treino.planning.advise import advise
    from treino.planning.scenario import from_values
    from treino.report.advice import advice_lines

    source = scenario if scenario is not None else from_values(_asked())
    given = {"configuration": environment.configuration_folder(), "runs": runs_folder(runs)}
    answers = advise(source, gpu=gpu, comparisons=comparisons, **given)
    paths = []
    if figure:
        from treino.report.planning_figures import advice_figure

        paths = [path for answer in answers for path in advice_figure(answer, figure, translator())]
    if as_json:
        echo_json({"advice": [answer.plain() for answer in answers], "figures": paths})
        return
    for answer in answers:
        for line in advice_lines(answer, translator()):
            click.echo(line)
        click.echo()
    for path in paths:
        click.echo(str(path))


def _asked() -> dict[str, Any]:
    """The answers to the most important questions, in the form of a scenario's file."""

    def number(question: str, default: float) -> float:
        return click.prompt(question, default=default, type=float, err=True)

    return {
        "name": "advice",
        "budget": number(_("Budget, US dollars"), 10_000.0),
        "days": number(_("Days until it must be there"), 14.0),
        "gpu": click.prompt(_("Card"), default="A100-80", err=True),
        "minimum_quality": number(_("Least quality, points of 100"), 70.0),
        "data": {
            "rows": number(_("Rows of data"), 50_000.0),
            "personal": click.confirm(_("Do they hold personal data?"), default=False, err=True),
            "may_leave": click.confirm(_("May they go to a vendor's API?"), default=True, err=True),
        },
        "traffic": {"answers_per_month": number(_("Answers a month"), 10_000.0)},
    }

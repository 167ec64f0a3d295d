"""`treino plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from treino.cli.options import Command, decimal_number, echo_json, json_option, whole_number
from treino.cli.text import _, translator


@click.command(
    "plan",
    cls=Command,
    help=_(
        "Calculate what a training needs and costs: memory by part, time, energy, money and carbon, each with the interval "
        "that published runs leave open. Nothing is run.\n\n"
        "\b\nExamples:\n"
        "  treino plan --model Llama-2-7B --method qlora --gpu RTX-4090 --seq 1024 --tokens 10M\n"
        "  treino plan --model config.json --tokens 2T --gpu H100:512 --shard weights --days 30\n"
        "  treino plan --course\n"
        "  treino plan --check claims.toml"
    ),
    short_help=_("Calculate what a training needs and costs."),
)
@click.option("--model", metavar=_("NAME|FILE|SIZE"), help=_("A known model, a config.json, or a size such as 7B."))
@click.option("--shape", metavar="width=…,…", help=_("A shape: width, layers, heads, vocabulary and what differs."))
@click.option("--tokens", metavar=_("NUMBER"), help=_("Tokens of the whole training, such as 300B."))
@click.option("--unique", metavar=_("NUMBER"), help=_("Tokens of text that there are, if they are repeated."))
@click.option("--method", default="scratch", metavar=_("NAME"), help=_("scratch, full, frozen, lora or qlora."))
@click.option("--gpu", default="A100-80", metavar=_("NAME[:COUNT]"), help=_("The chip, and how many."))
@click.option("--batch", type=whole_number(), default=1, help=_("Rows on a chip at a time."))
@click.option("--seq", type=whole_number(), help=_("Tokens of a row."))
@click.option("--precision", metavar=_("NAME"), help=_("fp32, mixed or bf16 (the weights, too)."))
@click.option("--recompute", is_flag=True, help=_("Compute activations again in the backward pass."))
@click.option("--compiled", is_flag=True, help=_("Layers are compiled."))
@click.option(
    "--loss", default="chunks", metavar=_("NAME"), help=_("How the head's loss is made: chunks, split or whole.")
)
@click.option(
    "--shard", default="none", metavar=_("NAME"), help=_("What chips divide: none, optimiser, gradients, weights.")
)
@click.option("--offload", multiple=True, metavar=_("NAME"), help=_("To the host: optimiser, gradients, activations."))
@click.option("--stream", is_flag=True, help=_("Frozen weights come layer by layer from the host."))
@click.option(
    "--optimizer", default="adamw", metavar=_("NAME"), help=_("adamw, adamw8bit, lion, muon, sgd or adafactor.")
)
@click.option("--rank", type=whole_number(), default=16, help=_("Rank of adapters."))
@click.option("--targets", default="all", metavar=_("NAME"), help=_("Which matrices get adapters: all, attention, qv."))
@click.option("--classes", type=whole_number(), default=0, help=_("Classes of a classifier; 0: a language model."))
@click.option("--days", type=decimal_number(), help=_("Say how many chips would do it in so many days."))
@click.option("--price", type=decimal_number(), help=_("US dollars for an hour of a chip."))
@click.option(
    "--grid", default="us", metavar=_("NAME|GRAMS"), help=_("Power grid, or its grams of CO2 for a kilowatt-hour.")
)
@click.option("--mfu", type=decimal_number(), help=_("An efficiency of your own, 0 to 1."))
@click.option("--explain", is_flag=True, help=_("Say how each figure is made."))
@click.option("--course", is_flag=True, help=_("Draw the course's four panels beside the calculated figures."))
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), metavar=_("FOLDER"))
@click.option("--check", type=click.Path(path_type=Path), metavar=_("FILE"), help=_("Grade the claims of a TOML file."))
@json_option
def command(explain: bool, course: bool, output: Path, check: Path | None, as_json: bool, **wanted: Any) -> None:
    from treino import environment

    configuration = environment.configuration_folder()
    if course:
        _course(configuration, output, as_json)
    elif check:
        _check(configuration, check, as_json)
    else:
        from treino.planning.plan import plan
        from treino.report.planning import formula_lines, plan_lines

        answer = plan(configuration=configuration, **wanted)
        if as_json:
            echo_json(answer.plain())
            return
        for line in plan_lines(answer, translator()):
            click.echo(line)
        for line in formula_lines(answer, translator()) if explain else ():
            click.echo(line)


def _course(configuration: Path, output: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from treino.planning.course import course
    from treino.planning.facts import Facts
    from treino.report.planning import course_lines
    from treino.report.planning_figures import course_figure

    bars = course(Facts(configuration))
    paths = course_figure(bars, output, translator())
    if as_json:
        echo_json({"bars": [asdict(bar) | {"grades": bar.graded.grades} for bar in bars], "figures": paths})
        return
    for line in course_lines(bars, translator()):
        click.echo(line)
    for path in paths:
        click.echo(str(path))


def _check(configuration: Path, file: Path, as_json: bool) -> None:
    from dataclasses import asdict

    from treino.planning.claims import check_file
    from treino.planning.facts import Facts
    from treino.report.planning import claim_lines

    claims = check_file(file, Facts(configuration))
    if as_json:
        echo_json([asdict(claim) | {"grades": claim.grades} for claim in claims])
        return
    for line in claim_lines(claims, translator()):
        click.echo(line)

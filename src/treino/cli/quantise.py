"""`treino quantise`."""

from __future__ import annotations

from pathlib import Path

import click

from treino.cli.options import Command, echo_json, json_option, runs_option
from treino.cli.text import _, translator


@click.command(
    "quantise",
    cls=Command,
    help=_(
        "Write a model once more with its layers in 4 bits (NF4), one layer at a time in memory.\n\n"
        "MODEL is the name or path of a run, a model folder, or owner/name@revision of the hub. The new folder may be "
        "finetune.base of the method qlora, and transformers reads it, too.\n\n"
        "\b\nExamples:\n  treino quantise quickstart modelo-nf4\n  treino quantise ./llama llama-nf4"
    ),
    short_help=_("Write a model with its layers in 4 bits."),
)
@click.argument("model", metavar=_("MODEL"))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar=_("FOLDER"))
@runs_option
@json_option
def command(model: str, folder: Path, runs: Path | None, as_json: bool) -> None:
    from treino.pipeline.standalone import quantise_model

    found = quantise_model(model, folder, runs=runs)
    if as_json:
        echo_json(found)
        return
    sizes = {name: translator().bytes(found[name]) for name in ("before", "after")}
    click.echo(_("{folder}: {before} became {after}", folder=str(folder), **sizes))

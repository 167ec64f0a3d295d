"""`treino run`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from treino.cli.options import Command, json_option, runs_option, set_option
from treino.cli.text import _


@click.command(
    "run",
    cls=Command,
    help=_(
        "Run a recipe: raw text to a trained model and its report.\n\n"
        "RECIPE is a TOML file or the name of a ready one (quickstart, books, modulo7). What is ready is not made again.\n\n"
        '\b\nExamples:\n  treino run\n  treino run modulo7\n  treino run meu.toml --set pretrain.budget="10 min"'
    ),
    short_help=_("Run a recipe from raw text to a trained model."),
)
@click.argument("recipe", required=False, metavar=_("[RECIPE]"))
@set_option
@runs_option
@click.option(
    "--lock",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar=_("FILE"),
    help=_("Take the measured decisions from this recipe.lock.toml."),
)
@json_option
def command(
    recipe: str | None, overrides: tuple[str, ...], runs: Path | None, lock: Path | None, as_json: bool
) -> None:
    from treino.pipeline.api import Run, run

    if as_json:
        from treino import events

        def listener(event: events.Event) -> None:
            if event.kind != "progress":
                click.echo(
                    json.dumps(
                        {"kind": event.kind, "time": event.time, **event.values}, ensure_ascii=False, default=str
                    )
                )

        finished = run(recipe, overrides=overrides, runs=runs, lock=lock, listener=listener)
        result = {"kind": "result", "run": finished.name, "folder": str(finished.folder), "digests": finished.digests}
        paths = {"model": str(finished.model_folder), "report": str(finished.report)}
        click.echo(json.dumps(result | paths | {"facts": finished.facts}, ensure_ascii=False, default=str))
        return
    from treino.cli.terminal import TerminalView

    with TerminalView() as view:
        finished: Run = run(recipe, overrides=overrides, runs=runs, lock=lock, listener=view)
    _close(finished)


def _close(finished) -> None:
    """What the model says, and where to go from here."""
    sample = finished.sample
    if sample:
        click.echo(_("The model says:"))
        click.echo(f"  {sample['prompt']}{sample['text']}".replace("\n", "\n  "))
    click.echo(_("Report: {path}", path=str(finished.report)))
    click.echo(_("Model: {path}", path=str(finished.model_folder)))
    prompt = sample["prompt"] if sample else "..."
    click.echo(_('Talk to it: treino generate "{prompt}"', prompt=prompt))

"""`treino explain`."""

from __future__ import annotations

from pathlib import Path

import click

from treino.cli.options import Command, echo_json, json_option, runs_folder, runs_option, set_option, setting_line
from treino.cli.text import _, translator


@click.command(
    "explain",
    cls=Command,
    help=_(
        "Say what each stage would do, what is ready, and exactly why a stage will run again. Nothing is run.\n\n"
        "\b\nExamples:\n  treino explain\n  treino explain meu.toml --set seed=2\n  treino explain --settings"
    ),
    short_help=_("Say what would run, and why."),
)
@click.argument("recipe", required=False, metavar=_("[RECIPE]"))
@set_option
@runs_option
@click.option("--settings", is_flag=True, help=_("List every setting with the origin of its value."))
@json_option
def command(recipe: str | None, overrides: tuple[str, ...], runs: Path | None, settings: bool, as_json: bool) -> None:
    from treino.pipeline.inspect import explain, number_format, settings_of
    from treino.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides)
    rows = settings_of(loaded)
    planned = explain(loaded, runs_folder(runs))
    if as_json:
        stages = [
            {"stage": item.stage.name, "state": item.state, "why": [translator().message(why) for why in item.why]}
            for item in planned
        ]
        echo_json({"stages": stages, "settings": rows})
        return
    if settings:
        for row in rows:
            click.echo(setting_line(row))
        return
    for item in planned:
        ready = item.state == "ready"
        why = "; ".join(translator().message(why) for why in item.why)
        mark = "✓" if ready else "▸"
        click.echo(f"{mark} {item.stage.name:<14} {_('ready') if ready else _('will run')}{': ' + why if why else ''}")
        if item.stage.name == "pretrain" and not ready:
            chosen = number_format(loaded)
            click.echo(
                "  " + _("it would compute in {format}: {reason}", format=chosen.precision, reason=chosen.reason)
            )

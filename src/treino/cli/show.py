"""`treino show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from treino.cli.options import Command, echo_json, json_option, runs_option, setting_line, whole_number
from treino.cli.text import _, translator

if TYPE_CHECKING:
    from treino.report.phases import Phase


@click.command(
    "show",
    cls=Command,
    help=_(
        "Show a run: its figures, every setting with the origin of its value, and the way back to the raw files.\n\n"
        "RUN is a name or a path (the latest if left out); STAGE narrows it to one stage.\n\n"
        "\b\nExamples:\n  treino show\n  treino show quickstart pretrain\n  treino show quickstart clean --removed 20\n"
        "  treino show --phases"
    ),
    short_help=_("Show a run's figures, settings and history."),
)
@click.argument("run", required=False, metavar=_("[RUN]"))
@click.argument("stage", required=False, metavar=_("[STAGE]"))
@click.option(
    "--removed", type=whole_number(1), metavar="N", help=_("Show N documents that the stage changed or removed.")
)
@click.option("--phases", is_flag=True, help=_("Show the losses and accuracies of all phases as one table."))
@runs_option
@json_option
def command(
    run: str | None, stage: str | None, removed: int | None, phases: bool, runs: Path | None, as_json: bool
) -> None:
    from treino.pipeline.inspect import removed_rows, show_phases, show_run, show_stage

    if removed and (phases or stage is None):
        raise click.UsageError(_("--removed is for one stage: treino show RUN STAGE --removed N"))
    if phases:
        rows = show_phases(run, runs)
        echo_json(rows) if as_json else _print_phases(rows)
        return
    if stage is None:
        content = show_run(run, runs)
        echo_json(content) if as_json else _print_run(content)
        return
    content = show_stage(run, stage, runs)
    if removed:
        content["removed"] = removed_rows(run, stage, runs, removed)
    echo_json(content) if as_json else _print_stage(content)


def _print_run(content: dict) -> None:
    translate = translator()
    state = translate.date(content["finished"]) if content["finished"] else _("not finished")
    click.echo(f"{content['name']}  {content['folder']}  {state}")
    for stage in content["stages"]:
        size = translate.bytes(stage["bytes"])
        click.echo(
            f"\n{stage['stage']:<14} {translate.seconds(stage['seconds']):>12}  {size:>9}  {stage['digest'][:12]}"
        )
        _print_facts(stage["facts"])
    click.echo("\n" + _("settings"))
    for row in content["settings"]:
        click.echo(f"  {setting_line(row)}")
    click.echo("\n" + _("lineage"))
    for line in content["lineage"]:
        click.echo(f"  {line}")


def _print_phases(rows: list[Phase]) -> None:
    from treino.report.labels import LABELS
    from treino.report.phases import place
    from treino.report.writer import text_table

    translate = translator()
    columns = (_("phase"), _("look"), _("pretraining loss"), _("validation loss"), _("fine-tuning accuracy"))
    cells = [
        (
            _(LABELS[row["stage"]]),
            translate.message(place(row)),
            "" if row["pretraining_loss"] is None else translate.number(row["pretraining_loss"], 3),
            "" if row["validation_loss"] is None else translate.number(row["validation_loss"], 3),
            "" if row["finetuning_accuracy"] is None else translate.percent(row["finetuning_accuracy"]),
        )
        for row in rows
    ]
    for line in text_table([columns, *cells], left=2):
        click.echo(line)


def _print_stage(content: dict) -> None:
    for label, name in ((_("stage"), "stage"), (_("folder"), "folder"), (_("digest"), "digest")):
        click.echo(f"{label:<20} {content[name]}")
    _print_facts(content["facts"])
    click.echo(_("settings"))
    for row in content["settings"]:
        click.echo(f"  {setting_line(row)}")
    click.echo(_("lineage"))
    for line in content["lineage"]:
        click.echo(f"  {line}")
    for row in content.get("removed", []):
        click.echo(f"\n{row['source']}  {_why(row)}\n  - {row['before']}\n  + {row['after']}")


def _why(row: dict[str, str]) -> str:
    """The rule that removed a document; the names of all rules that changed it."""
    from treino.corpus.rules import RULES

    if row["rule"] == "changed" and row["detail"]:
        return ", ".join(_(RULES.get(name, name)) for name in row["detail"].split(", "))
    rule = _(RULES.get(row["rule"], row["rule"]))
    return rule if row["detail"] == row["source"] else f"{rule}  {row['detail']}"


def _print_facts(facts: dict, indent: str = "  ") -> None:
    for name, value in facts.items():
        if isinstance(value, dict):
            click.echo(f"{indent}{name}")
            _print_facts(value, indent + "  ")
        elif isinstance(value, list):
            click.echo(f"{indent}{name:<28} {len(value)}")
        else:
            shown = (
                translator().number(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
            )
            click.echo(f"{indent}{name:<28} {shown}")

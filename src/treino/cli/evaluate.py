"""`treino evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from treino.cli.options import Command, column_option, echo_json, json_option, runs_option
from treino.cli.text import _, translator


@click.command(
    "evaluate",
    cls=Command,
    help=_(
        "Judge a model on data of your own.\n\n"
        "MODEL is the name or path of a run, a model folder, or owner/name@revision of the hub. A classifier is judged on the "
        "labelled rows of a table, a language model on the texts of a file or folder.\n\n"
        "\b\nExamples:\n  treino evaluate quickstart novas.csv\n  treino evaluate ./modelo textos/ --json"
    ),
    short_help=_("Judge a model on data of your own."),
)
@click.argument("model", metavar=_("MODEL"))
@click.argument("data", type=click.Path(path_type=Path), metavar=_("DATA"))
@column_option
@click.option("--label", default="", metavar=_("COLUMN"), help=_("Column of the label (found by its name)."))
@click.option("--language-model", is_flag=True, help=_("Judge a run's language model, though it has a classifier."))
@runs_option
@json_option
def command(
    model: str, data: Path, column: str, label: str, language_model: bool, runs: Path | None, as_json: bool
) -> None:
    from treino import events
    from treino.cli.terminal import TerminalView
    from treino.pipeline.standalone import evaluate_data
    from treino.recipe import LabelSettings

    with TerminalView() as view, events.listening(view):
        labels = LabelSettings(text=column, label=label)
        found = evaluate_data(data, model, labels, runs=runs, language_model=language_model)
    if as_json:
        echo_json(found)
    elif found["kind"] == "classifier":
        _show_classifier(found)
    else:
        _show_language_model(found)


def _show_classifier(found: dict[str, Any]) -> None:
    translate = translator()
    click.echo(_("{rows} rows", **found))
    if found["unjudged"]:
        click.echo(_("{count} more were too long and were not judged", count=found["unjudged"]))
    for name, title in (("accuracy", _("accuracy")), ("macro_f1", _("macro-F1"))):
        value = found[name]
        click.echo(f"{title:<20} {translate.percent(value['mean']):>8}{_interval(value, translate.percent)}")
    click.echo(f"{_('log loss'):<20} {translate.number(found['log_loss'], 3):>8}")
    click.echo(f"{_('calibration error'):<20} {translate.percent(found['calibration_error']):>8}")
    click.echo(f"\n{_('class'):<20} {_('rows'):>8} {_('precision'):>10} {_('recall'):>10} {_('F1'):>8}")
    for row in found["by_class"]:
        shares = [row["precision"], row["recall"], row["f1"] and row["f1"]["mean"]]
        shown = ["–" if share is None else translate.percent(share) for share in shares]
        click.echo(f"{row['label']:<20} {row['rows']:>8} {shown[0]:>10} {shown[1]:>10} {shown[2]:>8}")


def _show_language_model(found: dict[str, Any]) -> None:
    translate = translator()
    click.echo(_("{documents} documents, {tokens} tokens", **found))
    click.echo(f"{_('loss (nats per token)'):<24} {translate.number(found['loss'], 3)}")
    click.echo(f"{_('perplexity'):<24} {translate.number(found['perplexity'], 1)}")
    bits = found["bits_per_byte"]
    if bits:

        def shown(value: float) -> str:
            return translate.number(value, 3)

        click.echo(f"{_('bits per byte'):<24} {shown(bits['mean'])}{_interval(bits, shown)}")


def _interval(value: dict[str, Any], shown: Callable[[float], str]) -> str:
    """The ends of an interval in brackets; nothing where a single text left nothing to draw from."""
    return "" if value["low"] is None else f"  ({shown(value['low'])} – {shown(value['high'])})"

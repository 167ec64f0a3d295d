"""`treino finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from treino.cli.options import Command, json_option, runs_option, set_option, whole_number
from treino.cli.text import _


@click.command(
    "finetune",
    cls=Command,
    help=_(
        "Make a classifier of a model and a table of labelled texts; with --chat, a model that answers, of conversations.\n\n"
        "BASE is the name or path of a run, a model folder, or owner/name@revision of the hub; DATA a CSV, JSON lines or "
        "Parquet file, or world.\n\n"
        "\b\nExamples:\n  treino finetune quickstart mensagens.csv\n"
        '  treino finetune quickstart mensagens.csv --label sentimento --trials 8 --require "macro_f1 >= tfidf"\n'
        "  treino finetune ./modelo dados.jsonl --method frozen --set finetune.long_texts=cut\n"
        "  treino finetune ./modelo conversas.jsonl --chat --method lora"
    ),
    short_help=_("Make a classifier of a model and labelled texts."),
)
@click.argument("base", metavar=_("BASE"))
@click.argument("data", metavar=_("DATA"))
@click.option("--chat", is_flag=True, help=_("DATA holds conversations: learn to answer as their assistant."))
@click.option("--name", metavar=_("NAME"), help=_("Name of the new run (default: that of the data)."))
@click.option("--column", metavar=_("COLUMN"), help=_("Column of the text (found by its name)."))
@click.option("--label", metavar=_("COLUMN"), help=_("Column of the label (found by its name)."))
@click.option("--method", metavar=_("METHOD"), help=_("full, frozen, lora, qlora or scratch."))
@click.option("--epochs", type=whole_number(1), metavar="N", help=_("Most passes over the training rows."))
@click.option("--trials", type=whole_number(1), metavar="N", help=_("Most settings to try."))
@click.option("--require", multiple=True, metavar=_("THRESHOLD"), help=_("A threshold of the gate; may be repeated."))
@set_option
@runs_option
@json_option
def command(
    base: str,
    data: str,
    chat: bool,
    name: str | None,
    require: tuple[str, ...],
    overrides: tuple[str, ...],
    runs: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    from treino import environment
    from treino.cli.run import execute
    from treino.errors import UsageError
    from treino.messages import N_
    from treino.models.hub import is_hub_name
    from treino.pipeline.run_folder import find_run
    from treino.recipe.load import load_recipe, plain_name

    if chat and given["label"]:
        raise UsageError(N_("--chat has no use for --label: conversations have no classes"), fix=N_("leave it out"))
    hub = is_hub_name(base)
    if hub:
        folder = Path(base.partition("@")[0])
    elif (Path(base) / "config.json").is_file():
        folder = Path(base).resolve()
    else:
        folder = find_run(runs or environment.runs_folder(), base).folder.resolve()
    source = data if data == "world" else str(Path(data).resolve())
    recipe: dict[str, Any] = {
        "name": name or f"{plain_name(folder.name, 38)}-{plain_name(Path(data).stem, 38)}",
        "chat" if chat else "labels": {"source": source} | _given(text=given["column"], label=given["label"]),
        "finetune": {"base": base if hub else str(folder)} | _given(method=given["method"], epochs=given["epochs"]),
        "search": _given(trials=given["trials"]),
        "gate": {"require": list(require)},
    }
    execute(load_recipe(recipe, overrides), (), runs, None, as_json)


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}

"""`treino predict`."""

from __future__ import annotations

from pathlib import Path

import click

from treino.cli.options import (
    Command,
    check_table_options,
    echo_json,
    echo_rows,
    json_option,
    runs_option,
    table_options,
)
from treino.cli.text import _, translator


@click.command(
    "predict",
    cls=Command,
    help=_(
        "Name the class of a text, or of every text of a file.\n\n"
        "RUN is the name or path of a run, or a classifier's folder; the latest run with a classifier if left out.\n\n"
        '\b\nExamples:\n  treino predict "O filme foi bom."\n  treino predict quickstart "O filme foi ruim." --json\n'
        "  treino predict --file mensagens.csv --output classes.jsonl"
    ),
    short_help=_("Name the class of a text, or of a file's texts."),
)
@click.argument("words", nargs=-1, metavar=_("[RUN] [TEXT]"))
@table_options(_("Read texts from a CSV, JSON lines, Parquet or text file (one a line)."))
@runs_option
@json_option
def command(
    words: tuple[str, ...], path: Path | None, column: str, output: Path | None, runs: Path | None, as_json: bool
) -> None:
    from treino.pipeline.api import predict

    check_table_options(path, column, output)
    if path is not None:
        if len(words) > 1:
            raise click.UsageError(_("give either a text or --file"))
        from treino.pipeline.standalone import predict_file

        echo_rows(predict_file(path, column, words[0] if words else None, runs=runs), _line, output, as_json)
        return
    if not 1 <= len(words) <= 2:
        raise click.UsageError(_("give a run and a text; put the text in quotes"))
    *run, text = words
    if not text.strip():
        raise click.UsageError(_("the text is empty"))
    answer = predict(text, run[0] if run else None, runs=runs)[0]
    if as_json:
        echo_json({"text": text, **answer})
        return
    _show(answer)


def _show(answer: dict) -> None:
    """Bars of all classes, the likeliest first."""
    from treino.cli.terminal import bars

    if answer["probabilities"] is None:
        click.echo(_("the text is longer than the context, and this classifier drops such texts"))
        return
    if "labels" in answer:
        click.echo(_("classes: {labels}", labels=answer["label"]) if answer["labels"] else _("none of the classes"))
    rows = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
    for line in bars(rows):
        click.echo(line)


def _line(row: dict) -> str:
    """The likeliest class of a row, its share, and the beginning of the text."""
    share = "" if row["probability"] is None else translator().percent(row["probability"])
    return f"{row['label'] or '-':<16} {share:>7}  {' '.join(row['text'].split())[:90]}"

"""`treino predict`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from treino.cli.options import Command, column_option, echo_json, json_option, runs_option
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
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar=_("FILE"),
    help=_("Read texts from a CSV, JSON lines, Parquet or text file (one a line)."),
)
@column_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar=_("FILE"),
    help=_("Write JSON lines to this file instead of the screen."),
)
@runs_option
@json_option
def command(
    words: tuple[str, ...], path: Path | None, column: str, output: Path | None, runs: Path | None, as_json: bool
) -> None:
    from treino.pipeline.api import predict

    if path is not None:
        if len(words) > 1:
            raise click.UsageError(_("give either a text or --file"))
        _predict_file(path, column, words[0] if words else None, runs, output, as_json)
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


def _predict_file(
    path: Path, column: str, run: str | None, runs: Path | None, output: Path | None, as_json: bool
) -> None:
    """Stream the answers; a file of answers appears whole or not at all."""
    from treino import events, files
    from treino.cli.terminal import TerminalView
    from treino.pipeline.standalone import predict_file

    lines: list[str] = []
    with TerminalView() as view, events.listening(view):
        for row in predict_file(path, column, run, runs=runs):
            if output or as_json:
                lines.append(json.dumps(row, ensure_ascii=False))
                continue
            share = "" if row["probability"] is None else translator().percent(row["probability"])
            click.echo(f"{row['label'] or '-':<16} {share:>7}  {' '.join(row['text'].split())[:90]}")
    if output:
        files.write_text(output, "".join(f"{line}\n" for line in lines))
        click.echo(_("wrote {count} rows to {path}", count=len(lines), path=str(output)))
    elif as_json:
        for line in lines:
            click.echo(line)

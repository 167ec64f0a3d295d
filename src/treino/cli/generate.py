"""`treino generate`."""

from __future__ import annotations

from pathlib import Path

import click

from treino.cli.options import (
    Command,
    check_table_options,
    decimal_number,
    echo_json,
    echo_rows,
    json_option,
    runs_option,
    sampling_options,
    table_options,
    whole_number,
)
from treino.cli.text import _


@click.command(
    "generate",
    cls=Command,
    help=_(
        "Let a model go on with a text, or with every text of a file.\n\n"
        "RUN is the name or path of a run, a model folder, or owner/name@revision of the hub; the latest run if left out.\n\n"
        '\b\nExamples:\n  treino generate "O gato subiu no"\n  treino generate "O gato subiu no" --top 5\n'
        '  treino generate modulo7 "o gato subiu" --greedy\n'
        "  treino generate --file inicios.txt --output textos.jsonl"
    ),
    short_help=_("Let a model go on with a text."),
)
@click.argument("words", nargs=-1, metavar=_("[RUN] [PROMPT]"))
@table_options(_("Go on with the texts of a CSV, JSON lines, Parquet or text file (one a line), many at a time."))
@click.option(
    "--top", type=whole_number(1, 1000), metavar="N", help=_("Show the likeliest next tokens as bars instead of text.")
)
@sampling_options(60, 0.8)
@click.option("--top-k", type=whole_number(), metavar="K", help=_("Choose among the K likeliest tokens only."))
@click.option(
    "--top-p",
    type=decimal_number(),
    metavar="P",
    help=_("Choose among the likeliest tokens whose probabilities add up to P."),
)
@click.option("--stop", multiple=True, metavar=_("TEXT"), help=_("End before this text; may be repeated."))
@click.option("--stream", is_flag=True, help=_("Print the text while it is made."))
@runs_option
@json_option
def command(
    words: tuple[str, ...],
    path: Path | None,
    column: str,
    output: Path | None,
    top: int | None,
    stream: bool,
    runs: Path | None,
    as_json: bool,
    **options,
) -> None:
    from treino.pipeline.api import load

    check_table_options(path, column, output)
    if path is not None:
        from treino.pipeline.standalone import generate_file

        if len(words) > 1 or top or stream:
            raise click.UsageError(_("--file takes a run at most, and neither a prompt, --top nor --stream"))
        rows = generate_file(path, column, words[0] if words else None, runs=runs, **options)
        echo_rows(rows, lambda row: f"{row['prompt']}{row['text']}\n", output, as_json)
        return
    if not 1 <= len(words) <= 2:
        raise click.UsageError(_("give a run and a prompt; put the prompt in quotes"))
    *run, prompt = words
    model = load(run[0] if run else None, runs=runs)
    if top:
        _show_top(model.next_tokens(prompt, top), prompt, as_json)
        return
    pieces = model.stream(prompt, **options)
    if as_json:
        echo_json({"prompt": prompt, "text": "".join(pieces)})
        return
    if stream:
        click.echo(prompt, nl=False)
        for piece in pieces:
            click.echo(piece, nl=False)
        click.echo()
        return
    click.echo(prompt + "".join(pieces))


def _show_top(rows: list[tuple[str, float]], prompt: str, as_json: bool) -> None:
    if as_json:
        echo_json({"prompt": prompt, "next": [{"text": text, "probability": share} for text, share in rows]})
        return
    from treino.cli.terminal import bars

    shown = [((text.strip() and text) or repr(text), share) for text, share in rows]
    click.echo("\n".join(bars(shown)))

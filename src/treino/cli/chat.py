"""`treino chat`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from treino.cli.options import Command, echo_json, json_option, runs_option, sampling_options
from treino.cli.text import _


@click.command(
    "chat",
    cls=Command,
    help=_(
        "Talk with a model in turns.\n\n"
        "RUN is the name or path of a run, a model folder, or owner/name@revision of the hub. With a MESSAGE it answers once; "
        "without one it goes on until an empty line.\n\n"
        '\b\nExamples:\n  treino chat chat\n  treino chat chat "Onde fica a padaria?"\n'
        '  treino chat ./modelo "Bom dia" --system "Seja breve."'
    ),
    short_help=_("Talk with a model in turns."),
)
@click.argument("run", metavar=_("RUN"))
@click.argument("message", metavar=_("[MESSAGE]"), required=False)
@click.option("--system", default="", metavar=_("TEXT"), help=_("Instruction before the conversation."))
@sampling_options(200, 0.7)
@runs_option
@json_option
def command(run: str, message: str | None, system: str, runs: Path | None, as_json: bool, **options: Any) -> None:
    from treino.pipeline.api import load

    model = load(run, runs=runs)
    messages = [{"role": "system", "content": system}] if system else []
    while True:
        asked = message if message is not None else _ask()
        if not asked.strip():
            return
        messages.append({"role": "user", "content": asked})
        said = ""
        for piece in model.answer(messages, **options):
            shown = piece if said else piece.lstrip()
            said += shown
            if not as_json:
                click.echo(shown, nl=False)
        messages.append({"role": "assistant", "content": said.rstrip()})
        if as_json:
            echo_json({"messages": messages})
        else:
            click.echo()
        if message is not None:
            return


def _ask() -> str:
    """The next thing said; nothing at the end of the input."""
    if sys.stdin.isatty():
        click.echo("> ", nl=False, err=True)
    return sys.stdin.readline()

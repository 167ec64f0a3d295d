"""`treino doctor`."""

from __future__ import annotations

import click

from treino.cli.options import echo_json, json_option
from treino.cli.text import _, translator
from treino.messages import Message


@click.command(
    "doctor",
    help=_("Say what this machine has and what can run on it."),
    short_help=_("What this machine has and can run."),
)
@json_option
def command(as_json: bool) -> None:
    from treino.pipeline.doctor import examine

    findings = examine()
    if as_json:
        echo_json({row.name: {"value": row.value, "ok": row.ok, "note": row.note} for row in findings})
        return
    for row in findings:
        note = f"  {translator().message(Message(row.note))}" if row.note else ""
        value = translator().bytes(row.value) if row.unit == "bytes" else row.value
        click.echo(f"{'✓' if row.ok else '!'} {_(row.label):<28} {value}{note}")

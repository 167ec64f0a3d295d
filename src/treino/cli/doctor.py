"""`treino doctor`."""

from __future__ import annotations

from typing import Any

import click

from treino.cli.options import Command, echo_json, json_option
from treino.cli.text import _, translator


@click.command(
    "doctor",
    cls=Command,
    help=_("Say what this machine has and what can run on it."),
    short_help=_("What this machine has and can run."),
)
@json_option
def command(as_json: bool) -> None:
    from treino.pipeline.doctor import examine

    findings = examine()
    if as_json:
        echo_json(
            {row.name: {"value": row.value, "ok": row.ok, "note": translator().message(row.advice)} for row in findings}
        )
        return
    for row in findings:
        note = f"  {translator().message(row.advice)}" if row.note else ""
        click.echo(f"{'✓' if row.ok else '!'} {_(row.label):<28} {_shown(row.value, row.unit)}{note}")


def _shown(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return translator().bytes(value) if unit == "bytes" else str(value)

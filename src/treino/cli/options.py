"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from treino.cli.text import _


class Command(click.Command):
    """A command with the usage line in the reader's language: click has no message id for "[OPTIONS]"."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, options_metavar=_("[OPTIONS]"), **settings)


def whole_number(minimum: int | None = None, maximum: int | None = None) -> click.ParamType:
    """The type of a whole number, named in the reader's language, in which click quotes it when a value is wrong."""
    bounded = minimum is not None or maximum is not None
    kind = click.IntRange(minimum, maximum) if bounded else click.types.IntParamType()
    kind.name = _("whole number")
    return kind


def decimal_number() -> click.ParamType:
    """The type of a number with decimals, named likewise."""
    kind = click.types.FloatParamType()
    kind.name = _("decimal number")
    return kind


def runs_option(function: Any) -> Any:
    return click.option(
        "--runs",
        type=click.Path(path_type=Path, file_okay=False),
        metavar=_("FOLDER"),
        help=_("Folder of runs and results (default: ./runs)."),
    )(function)


def json_option(function: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help=_("Print JSON for programs."))(function)


def set_option(function: Any) -> Any:
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar=_("TABLE.NAME=VALUE"),
        help=_("Change one setting; may be repeated."),
    )(function)


def table_options(help: str) -> Callable[[Any], Any]:
    """Texts of a file in place of one given, and where the answers go; `echo_rows` puts them there."""
    file = {"type": click.Path(path_type=Path, dir_okay=False), "metavar": _("FILE")}
    options = (
        click.option("--file", "path", help=help, **file),
        column_option,
        click.option("--output", help=_("Write JSON lines to this file instead of the screen."), **file),
    )
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


def column_option(function: Any) -> Any:
    return click.option("--column", default="", metavar=_("COLUMN"), help=_("Column of the text (found by its name)."))(
        function
    )


def sampling_options(tokens: int, temperature: float) -> Callable[[Any], Any]:
    """How a model's words are drawn, with these defaults."""
    options = (
        click.option(
            "--tokens",
            type=whole_number(),
            default=tokens,
            show_default=True,
            metavar="N",
            help=_("Make at most so many tokens."),
        ),
        click.option(
            "--temperature",
            type=decimal_number(),
            default=temperature,
            show_default=True,
            metavar="T",
            help=_("Lower makes bold choices rarer, higher more frequent."),
        ),
        click.option("--greedy", is_flag=True, help=_("Always take the likeliest token.")),
        click.option("--seed", type=whole_number(), metavar="N", help=_("Equal seeds give equal text.")),
    )
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


def runs_folder(runs: Path | None) -> Path:
    from treino import environment

    return runs or environment.runs_folder()


def setting_line(row: Mapping[str, Any]) -> str:
    """A setting, its value and where the value comes from."""
    from treino.recipe.new import to_toml
    from treino.report.labels import LABELS

    origin: str = row["origin"]
    return f"{row['where']:<28} {to_toml(row['value']):<24} {_(LABELS.get(origin, origin))}"


def check_table_options(path: Path | None, column: str, output: Path | None) -> None:
    """Refuse what says something of a file where there is none."""
    if path is None and (column or output):
        raise click.UsageError(_("--column and --output are for --file"))


def echo_rows(
    rows: Iterable[dict[str, Any]], line: Callable[[dict[str, Any]], str], output: Path | None, as_json: bool
) -> None:
    """Rows as they come, a line each, or as JSON lines; a file of them appears whole or not at all."""
    import json

    from treino import events
    from treino.cli.terminal import TerminalView

    def written(row: dict[str, Any]) -> str:
        return json.dumps(row, ensure_ascii=False)

    with TerminalView() as view, events.listening(view):
        if not output:
            for row in rows:
                click.echo(written(row) if as_json else line(row))
            return
        count = _write_rows(map(written, rows), output)
    if as_json:
        echo_json({"rows": count, "path": str(output)})
    else:
        click.echo(_("wrote {count} rows to {path}", count=count, path=str(output)))


def _write_rows(lines: Iterable[str], output: Path) -> int:
    """Write lines to a file as they come; returns their number."""
    from treino import events, files
    from treino.messages import N_

    count = 0
    with files.writing(output) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for count, text in enumerate(lines, 1):
            file.write(f"{text}\n")
            events.progress(click.get_current_context().info_name or "", count, None, N_("rows"))
    return count


def echo_json(value: Any) -> None:
    """One JSON document on standard output."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, indent=1, default=str))

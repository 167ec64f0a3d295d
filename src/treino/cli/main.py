"""The `treino` command: its group, and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from typing import Any, NoReturn

import click

from treino import __version__, environment
from treino.cli.text import _, translator
from treino.errors import TreinoError

COMMANDS = {
    "run": "run",
    "new": "new",
    "plan": "plan",
    "advise": "advise",
    "explain": "explain",
    "generate": "generate",
    "chat": "chat",
    "predict": "predict",
    "finetune": "finetune",
    "compare": "compare",
    "lab": "lab",
    "evaluate": "evaluate",
    "quantise": "quantise",
    "corpus": "corpus",
    "show": "show",
    "prune": "prune",
    "doctor": "doctor",
    "schema": "schema",
}
"""Command → module of `treino.cli`; each is imported when it is named or when the help lists it."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"treino.cli.{COMMANDS[cmd_name]}").command


def build() -> click.Group:
    """The group with its help in the reader's language."""
    text = _(
        "Train a language model from raw text to one that talks.\n\nStart with: treino run   (a small town, three minutes)"
    )
    group = LazyGroup(
        "treino",
        help=text,
        options_metavar=_("[OPTIONS]"),
        subcommand_metavar=_("COMMAND [ARGUMENTS]..."),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return click.version_option(__version__, prog_name="treino")(group)


def main() -> NoReturn:
    """Run the command line and exit with the documented code."""
    environment.prepare()
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run one command; the exit code of the design (0, 1 a bug, 2 usage, 3 data, 4 fit, 5 gate, 6 machine, 130, 143)."""
    try:
        result = build().main(args=arguments, prog_name="treino", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except TreinoError as error:
        click.echo(f"treino: {translator().error(error)}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo(_("stopped"), err=True)
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more may be flushed into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # a bug of ours: the traceback goes into a file, and a sentence names it
        return _bug()


def _bug() -> int:
    """A bug of ours: the traceback goes to a file that the message names."""
    with tempfile.NamedTemporaryFile("w", prefix="treino-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write(traceback.format_exc())
    click.echo(_("treino: a bug in treino; please report it with this file: {path}", path=log.name), err=True)
    return 1

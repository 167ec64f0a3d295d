"""What can go wrong through no fault of the program, by the exit code that it ends with."""

from __future__ import annotations

import errno
import json
import traceback
from typing import Any

from treino.messages import N_, Message

REFUSALS = {
    errno.ENOSPC: N_("No space left on the disk"),
    errno.EACCES: N_("no permission"),
    errno.EPERM: N_("no permission"),
    errno.EROFS: N_("the disk can only be read"),
    errno.ENOENT: N_("there is no such file or folder"),
    errno.ENOTDIR: N_("a part of the path is not a folder"),
    errno.EISDIR: N_("it is a folder"),
    errno.EEXIST: N_("it is there already"),
    errno.ENOTEMPTY: N_("the folder is not empty"),
    errno.ENAMETOOLONG: N_("the name is too long"),
    errno.EFBIG: N_("the file is too large for this disk"),
    errno.EMFILE: N_("too many files are open"),
    errno.EBUSY: N_("another program holds it"),
    errno.EIO: N_("the disk failed"),
}
"""What an operating system refuses, in words of ours."""


class TreinoError(Exception):
    """A mistake or a mishap that a person can mend: where, what, and the fix, as sentences without a language.

    Args:
        text: English template marked with `N_`, with `{named}` fields.
        where: place of the mistake as `file` or `file:line`, if it has one.
        fix: English template that says what to do, sharing the same values.
        values: what fills the fields of both templates.
    """

    exit_code = 1

    def __init__(self, text: str, *, where: str | None = None, fix: str | None = None, **values: Any) -> None:
        super().__init__(text)
        self.where = where
        self.message = Message(text, values)
        self.fix = Message(fix, values) if fix else None

    def __str__(self) -> str:
        parts = [f"{self.where}: " if self.where else "", self.message.english()]
        if self.fix:
            parts.append(f"; {self.fix.english()}")
        return "".join(parts)


def reason_of(error: BaseException) -> Message | str:
    """Why something failed, as a message where we have words for it, else in the words of whoever raised it."""
    if isinstance(error, TreinoError):
        return error.message
    if isinstance(error, json.JSONDecodeError):
        return Message(N_("it is not JSON (line {line:raw})"), {"line": error.lineno})
    if isinstance(error, UnicodeDecodeError):
        return Message(N_("it is not UTF-8 text"))
    if isinstance(error, KeyError):
        return Message(N_("it does not say {key}"), {"key": str(error.args[0]) if error.args else "?"})
    if isinstance(error, OSError) and error.errno in REFUSALS:
        return Message(REFUSALS[error.errno])
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The kind of an exception that has no words of ours, and the beginning of its own."""
    said = str(error).partition("\n")[0][:200]
    return f"{type(error).__name__}: {said}"


class UsageError(TreinoError):
    """A wrong command, option or setting."""

    exit_code = 2


class DataError(TreinoError):
    """An input that is missing or gives nothing that can be used."""

    exit_code = 3


class NothingLeft(DataError):
    """All was done, and no text is left: with other settings all is to be done anew, so nothing of it is kept."""


class RanAway(DataError):
    """A fine-tuning whose loss ran away with all settings that were tried."""


class DoesNotFit(TreinoError):
    """Work that this machine cannot hold."""

    exit_code = 4


class GateFailed(TreinoError):
    """A result below the thresholds that the recipe sets."""

    exit_code = 5


class MachineError(TreinoError):
    """The machine stands in the way: disk full, no permission, a folder in use."""

    exit_code = 6


class Interrupted(TreinoError):
    """Stopped by Ctrl-C (130) or SIGTERM (143), with the work so far saved."""

    def __init__(self, text: str, *, exit_code: int, **values: Any) -> None:
        super().__init__(text, **values)
        self.exit_code = exit_code


def to_row(error: Exception) -> dict[str, Any]:
    """An error as JSON values, for another process to raise."""
    if not isinstance(error, TreinoError):
        return {"kind": type(error).__name__, "exit_code": 1, "text": traceback.format_exc()}
    fix = error.fix.text if error.fix else None
    values = error.message.plain()["values"]
    row = {"kind": type(error).__name__, "exit_code": error.exit_code, "text": error.message.text, "where": error.where}
    return row | {"fix": fix, "values": json.loads(json.dumps(values, default=str))}


def from_row(row: dict[str, Any]) -> Exception:
    """An error of another process, to be raised here."""
    if "values" not in row:
        return RuntimeError(row["text"])
    again = TreinoError(row["text"], where=row["where"], fix=row["fix"], **row["values"])
    again.exit_code = row["exit_code"]
    return again

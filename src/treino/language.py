"""Sentences and figures in the reader's language. Only what a person reads (terminal, report, page, course) comes here."""

from __future__ import annotations

import datetime
import functools
import gettext
import string
from collections.abc import Mapping
from typing import Any

from treino.environment import LOCALE_FOLDER
from treino.errors import TreinoError
from treino.messages import N_, Message


class Formatter(string.Formatter):
    """`str.format` with the reader's figures. Format names: a count of decimals (`{loss:3}`), `raw` (no grouping),
    `bytes`, `seconds`, `percent` (of a share), `date` (of seconds since the epoch), `money` (US dollars).
    """

    def __init__(self, translator: Translator) -> None:
        self.translator = translator

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "raw" or isinstance(value, str | bool) or value is None:
            return str(value)
        if format_spec in ("bytes", "seconds", "percent", "date", "money"):
            return getattr(self.translator, format_spec)(value)
        if isinstance(value, int | float):
            return self.translator.number(value, int(format_spec) if format_spec else None)
        return str(value)


@functools.cache
def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation("treino", LOCALE_FOLDER, [language], fallback=language == "en")


class Translator:
    """Renders messages, numbers, sizes, times and dates in one language (`en` or `pt_BR`)."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._catalogue = _catalogue(language)
        self._formatter = Formatter(self)

    def text(self, text: str, /, **values: Any) -> str:
        """The sentence of a message id with its fields filled; values that are messages themselves are rendered first."""
        shown = {name: self._rendered(value) for name, value in values.items()}
        return self._formatter.vformat(self._catalogue.gettext(text) if text else "", (), shown)

    def message(self, message: Message) -> str:
        """A message in this language."""
        return self.text(message.text, **message.values)

    def _rendered(self, value: Any) -> Any:
        """A value that is a message, as it is or in its plain form, as its sentence; any other one unchanged."""
        if isinstance(value, Message):
            return self.message(value)
        if isinstance(value, Mapping) and value.keys() == {"text", "values"}:
            return self.text(value["text"], **value["values"])
        return value

    def error(self, error: TreinoError) -> str:
        """An error as `where: what; fix`, one line."""
        what = f"{error.where}: " if error.where else ""
        what += self.message(error.message)
        return f"{what}; {self.message(error.fix)}" if error.fix else what

    def number(self, value: float, digits: int | None = None) -> str:
        """A number with the language's separators; without `digits`, whole numbers as they are, others to 4 figures."""
        if digits is None:
            digits = 0 if float(value).is_integer() else _decimals(value)
        text = f"{value:,.{digits}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.language == "pt_BR" else text

    def percent(self, share: float, digits: int = 1) -> str:
        """A share (0 to 1) as percent."""
        space = " " if self.language == "pt_BR" else ""
        return f"{self.number(100 * share, digits)}{space}%"

    def money(self, dollars: float) -> str:
        """An amount in US dollars, with cents below a thousand: `$12.50`, `US$ 12,50`."""
        amount = self.number(dollars, 2 if abs(dollars) < 1000 else 0)
        return f"US$ {amount}" if self.language == "pt_BR" else f"${amount}"

    def bytes(self, count: float) -> str:
        """A size in bytes with a decimal prefix (kB = 1,000 bytes)."""
        for unit in ("B", "kB", "MB", "GB"):
            if count < 999.5:
                return f"{self.number(count, 0 if unit == 'B' or count >= 100 else 1)} {unit}"
            count /= 1000
        return f"{self.number(count, 1)} TB"

    def seconds(self, seconds: float) -> str:
        """A length of time: `0.42 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, and from four days on `27.2 days`."""
        if seconds < 10:
            return f"{self.number(seconds, 2 if seconds < 1 else 1)} s"
        whole = round(seconds)
        if whole < 60:
            return f"{whole} s"
        if whole < 3600:
            return f"{whole // 60} min {whole % 60:02d} s"
        if whole >= 4 * 86400:
            days = self.number(seconds / 86400, 1 if seconds < 1e7 else 0)
            return self.text(N_("{days} days"), days=days)
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

    def date(self, timestamp: float) -> str:
        """A moment (seconds since the epoch) as a local date and time."""
        moment = datetime.datetime.fromtimestamp(timestamp)
        return moment.strftime("%d/%m/%Y %H:%M" if self.language == "pt_BR" else "%Y-%m-%d %H:%M")


def _decimals(value: float) -> int:
    """Decimals that leave four significant figures."""
    size = abs(value)
    return 1 if size >= 1000 else 2 if size >= 100 else 3 if size >= 1 else 4 if size >= 0.1 else 6

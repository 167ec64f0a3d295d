"""Sentences as data: an English template (the gettext message id) and its values, rendered only where a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def N_(text: str) -> str:
    """Mark an English template as a message id for the catalogue, and return it unchanged."""
    return text


@dataclass(frozen=True)
class Message:
    """A sentence before it has a language: `text` with `{named}` fields, filled from `values`.

    A field may carry one of the format names of `treino.language.Formatter` (`{size:bytes}`, `{loss:3}`).
    """

    text: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The message as JSON values, the form in which an event or a record carries it."""
        values = {name: item.plain() if isinstance(item, Message) else item for name, item in self.values.items()}
        return {"text": self.text, "values": values}

    def english(self) -> str:
        """The sentence in English, for logs and for exceptions that nobody caught."""
        from treino.language import Translator

        return Translator("en").message(self)

"""Sentences for the terminal, in the reader's language."""

from __future__ import annotations

import functools

from treino import environment
from treino.language import Translator


@functools.cache
def translator() -> Translator:
    """The translator of this process."""
    return Translator(environment.language())


def _(text: str, **values: object) -> str:
    """A message id in the reader's language, its fields filled."""
    return translator().text(text, **values)

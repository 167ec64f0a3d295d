"""What asking a model behind an API costs: tokens forecast from the text, dollars from a dated price."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from treino.planning.facts import ApiPrice

BYTES_PER_TOKEN = 3.0
"""Fewer than the tokenizers of today's models reach on Portuguese (3.5 to 4.5), so that a forecast is rather too high."""

MESSAGE_TOKENS = 6
"""A message's role and the marks around it."""


@dataclass(frozen=True)
class Asking:
    """Requests with the tokens that they are expected to have read, and at most written, and US dollars for both."""

    requests: int
    tokens_in: int
    tokens_out: int
    cost: float


def forecast(conversations: Sequence[Sequence[str]], answer_tokens: int, price: ApiPrice) -> Asking:
    """Σ bytes / 3 + 6 a message read, and `answer_tokens` written for each conversation: an upper estimate."""
    read = sum(tokens(talk) for talk in conversations)
    written = answer_tokens * len(conversations)
    return Asking(len(conversations), read, written, dollars(price, read, written))


def tokens(messages: Sequence[str]) -> int:
    """Tokens of a conversation, estimated: 6 a message and its bytes / 3, rounded up."""
    return sum(MESSAGE_TOKENS + math.ceil(len(message.encode()) / BYTES_PER_TOKEN) for message in messages)


def dollars(price: ApiPrice, tokens_in: int, tokens_out: int) -> float:
    """(tokens read · price of reading + tokens written · price of writing) / 10⁶."""
    return (tokens_in * price.input + tokens_out * price.output) / 1e6

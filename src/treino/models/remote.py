"""A model behind an OpenAI-compatible address (`POST …/chat/completions`): one request, one bounded answer, tried again where
that can help. The key goes into a header and nowhere else; redirects are not followed, for the text may go to this address
alone.
"""

from __future__ import annotations

import email.utils
import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from treino import environment
from treino.errors import MachineError, TreinoError, UsageError
from treino.messages import N_, Message

TRIES = 5
PAUSE = 1.0
"""Seconds before the second try, doubled before each further one, where the server does not say how long to wait."""

LONGEST_PAUSE = 120.0
MOST_BYTES = 1_000_000
"""Bytes of an answer that are read; a longer one is broken."""

MOST_CHARACTERS = 4000
"""Of an answer's text; what a classifier looks for stands in far fewer."""

TEMPORARY = (408, 409, 425, 429)
"""Refusals that may pass, as all from 500 on may."""

NO_KEY = (401, 403)
REFUSED = (400, 413, 422)
"""The request itself is refused: as it is written, or for the text in it."""


@dataclass(frozen=True)
class Answer:
    """What came back for one request.

    Attributes:
        text: the answer; "" where it was broken or refused, `trouble` says how.
        tokens_in, tokens_out: as the server counts them, 0 where it does not.
        seconds: of the request that was answered.
        steps: of each token of the answer (token, log-probability, the likeliest tokens in its place); () where not given.
        model: the name that the server gives the model.
    """

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    steps: tuple[tuple[str, float, tuple[tuple[str, float], ...]], ...] = ()
    model: str = ""
    trouble: str = ""

    def to_row(self) -> dict[str, Any]:
        """The answer as JSON values."""
        return {name: value for name, value in asdict(self).items() if value}

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Answer:
        """An answer from `to_row`."""
        steps = tuple(
            (token, chance, tuple((other, log) for other, log in others))
            for token, chance, others in row.get("steps", ())
        )
        return Answer(**{**row, "text": row.get("text", ""), "steps": steps})


class Refused(Exception):
    """The server refuses this request and would refuse it again; the text is its reason."""


class Broken(Exception):
    """What came is no answer: no JSON, not of the form, too long, or cut off."""


class Temporary(Exception):
    """It may work later; `pause`: seconds that the server asks to wait, if it says so."""

    def __init__(self, reason: Message | str, pause: float | None = None) -> None:
        super().__init__(str(reason))
        self.reason, self.pause = reason, pause


class Remote:
    """Asks one address. Threads may ask at the same time."""

    def __init__(self, address: str, *, timeout: float = 60.0, tries: int = TRIES, pause: float = PAUSE) -> None:
        self.address, self.tries, self.pause, self.timeout = address.rstrip("/"), tries, pause, timeout
        host = urlsplit(address).hostname or ""
        key = self._key = environment.api_key(host)
        if not (key.isascii() and key.isprintable()):
            raise UsageError(
                N_("the key in {variable} has characters that no key has"),
                fix=N_("copy it again, without ends of lines or spaces"),
                variable=environment.key_variable(host),
            )
        headers = {"User-Agent": "treino", "Accept": "application/json"}
        self._client = httpx.Client(
            trust_env=False,
            timeout=timeout,
            follow_redirects=False,
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
        )
        self._stopped = threading.Event()

    def close(self) -> None:
        """Close the connections; requests that wait for their next try are given up."""
        self._stopped.set()
        self._client.close()

    def ask(self, body: Mapping[str, Any]) -> Answer:
        """The answer to one request.

        Raises:
            Refused: the server refuses the request itself.
            Broken: every try gave something that is no answer.
            UsageError: for a wrong key, model or address.
            MachineError: where the server was not to be reached, or too busy, all the time.
        """
        trouble: Exception | None = None
        for attempt in range(self.tries):
            if attempt:
                told = trouble.pause if isinstance(trouble, Temporary) else None
                wait = self.pause * 2 ** (attempt - 1) if told is None else told
                if self._stopped.wait(min(wait, LONGEST_PAUSE)):
                    break
            try:
                return self._asked(body)
            except (Temporary, Broken) as error:
                trouble = error
        if isinstance(trouble, Broken):
            raise trouble
        reason = trouble.reason if isinstance(trouble, Temporary) else ""
        raise MachineError(
            N_("{address} did not answer, tried {count} times: {reason}"),
            fix=N_("what was answered is kept: run the same command again later"),
            address=self.address,
            count=self.tries,
            reason=reason,
        )

    def _asked(self, body: Mapping[str, Any]) -> Answer:
        started = time.monotonic()
        try:
            with self._client.stream("POST", f"{self.address}/chat/completions", json=dict(body)) as response:
                content = self._content(response, started)
        except httpx.TimeoutException:
            raise Temporary(Message(N_("no answer within {seconds:seconds}"), {"seconds": self.timeout})) from None
        except httpx.RemoteProtocolError:
            raise Broken("cut off") from None
        except (httpx.HTTPError, OSError) as error:
            raise Temporary(self._hidden(plain(str(error))) or type(error).__name__) from None
        if response.status_code == 200:
            return read_answer(content, time.monotonic() - started)
        raise self._refusal(response, content)

    def _content(self, response: httpx.Response, started: float) -> bytes:
        """The body, as long as it stays within bytes and time: a server that sends drop by drop is a slow one, too."""
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MOST_BYTES:
                raise Broken("too long")
            if time.monotonic() - started > self.timeout:
                raise Temporary(Message(N_("no answer within {seconds:seconds}"), {"seconds": self.timeout}))
        return bytes(content)

    def _hidden(self, text: str) -> str:
        """A text without the key, which a server may repeat."""
        return text.replace(self._key, "…") if self._key else text

    def _refusal(self, response: httpx.Response, content: bytes) -> Exception:
        status, reason = response.status_code, f"{response.status_code} {self._hidden(reason_in(content))}".strip()
        if status in TEMPORARY or status >= 500:
            return Temporary(reason, retry_after(response.headers.get("retry-after", "")))
        if status in REFUSED:
            return Refused(reason)
        return self._misaddressed(status, reason)

    def _misaddressed(self, status: int, reason: str) -> TreinoError:
        if status in NO_KEY:
            return UsageError(
                N_("{address} refuses the key, or wants one: {reason}"),
                fix=N_("put the key into the environment variable {variable}"),
                address=self.address,
                reason=reason,
                variable=environment.key_variable(urlsplit(self.address).hostname or ""),
            )
        return UsageError(
            N_("{address} does not serve this: {reason}"),
            fix=N_("check remote.address (it ends before /chat/completions) and remote.model"),
            address=self.address,
            reason=reason,
        )


def read_answer(content: bytes, seconds: float) -> Answer:
    """The first choice of a server's JSON. `Broken` where it is not of the form."""
    try:
        value = json.loads(content)
        choice = value["choices"][0]
        text = choice["message"].get("content") or ""
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Broken("not an answer") from None
    usage = value.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        sound(text[:MOST_CHARACTERS]),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        round(seconds, 4),
        _steps(choice) if len(text) <= MOST_CHARACTERS else (),
        plain(str(value.get("model") or ""))[:200],
        "cut off" if choice.get("finish_reason") == "length" else "",
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else 0


def _steps(choice: Mapping[str, Any]) -> tuple[Any, ...]:
    """The log-probabilities, where they are there and of the form."""
    try:
        rows = choice["logprobs"]["content"]
        steps = tuple(
            (_token(row), _logarithm(row), tuple((_token(other), _logarithm(other)) for other in row["top_logprobs"]))
            for row in rows
        )
    except (LookupError, TypeError, ValueError, OverflowError):
        return ()
    return steps


def _token(row: Mapping[str, Any]) -> str:
    return sound(str(row["token"]))


def _logarithm(row: Mapping[str, Any]) -> float:
    """A log-probability; `ValueError` for what is none."""
    value = float(row["logprob"])
    if not value <= 1e-3 or math.isinf(value):
        raise ValueError(value)
    return value


def reason_in(content: bytes) -> str:
    """What a server says of a refusal, in its own words, short and in one line."""
    try:
        value = json.loads(content)
        error = value.get("error", value) if isinstance(value, dict) else value
        text = error.get("message", "") if isinstance(error, dict) else error
    except (ValueError, RecursionError):
        text = content[:400].decode("utf-8", "replace")
    return plain(str(text or ""))[:300]


def retry_after(value: str) -> float | None:
    """Seconds to wait by the header Retry-After, a number or a date (RFC 9110); None where it says nothing usable."""
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def sound(text: str) -> str:
    """The text with half characters replaced, which JSON can carry and no file can."""
    return text.encode("utf-8", "replace").decode()


def plain(text: str) -> str:
    """In one line, without control characters."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())

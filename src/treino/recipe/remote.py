"""Settings of a model behind an address: who may be sent text, which model answers, and what may be spent."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import Field

from treino.errors import UsageError
from treino.messages import N_
from treino.recipe.base import Settings, setting

if TYPE_CHECKING:
    from treino.recipe.recipe import Recipe

PROMPT = "prompt"
"""The method that trains nothing and asks a model behind an address."""

PORTS = {"http": 80, "https": 443}


class RemoteSettings(Settings):
    """[remote]: a model behind an OpenAI-compatible address."""

    allow: tuple[str, ...] = setting(
        (),
        N_('addresses that texts may be sent to, such as "https://api.openai.com"; none: nothing leaves this machine'),
    )
    address: str = setting("", N_('address of the model that the method "prompt" asks, up to its /v1'))
    model: str = setting("", N_("name that the server there gives the model"))
    shots: tuple[Annotated[int, Field(ge=0, le=64)], ...] = setting(
        (0,),
        N_("labelled examples of each class shown before a text; of several numbers, validation chooses"),
        min_length=1,
    )
    instruction: str = setting("", N_("what the model is asked to do (empty: to name the class of the text)"))
    answer_tokens: int = setting(64, N_("tokens of an answer at most; a model that thinks aloud needs more"), ge=1)
    limit: float = setting(1.0, N_("US dollars that a run may spend; a forecast above it is refused"), ge=0, le=1e9)
    price: tuple[Annotated[float, Field(ge=0)], ...] = setting(
        (), N_("US dollars for a million tokens read and written (empty: from the table of prices)"), max_length=2
    )
    at_once: int = setting(4, N_("requests under way at the same time"), ge=1, le=64)
    timeout: float = setting(
        60.0, N_("seconds after which a request counts as lost, and is tried again"), gt=0, le=3600
    )


def check_remote(recipe: Recipe) -> None:
    """Refuse to ask a model that is not named, or that the recipe does not allow to be sent text."""
    settings = recipe.remote
    for address in settings.allow:
        _check_address(address, "remote.allow")
    if settings.address:
        _check_address(settings.address, "remote.address")
    if len(settings.price) == 1:
        raise UsageError(
            N_("{key} needs two numbers"),
            fix=N_("US dollars for a million tokens read and written: [0.15, 0.60]"),
            key="remote.price",
        )
    if recipe.finetune.method == PROMPT and recipe.labels.given:
        _check_asking(recipe)


def _check_asking(recipe: Recipe) -> None:
    settings = recipe.remote
    for name in ("address", "model"):
        if not getattr(settings, name):
            raise UsageError(
                N_('finetune.method = "prompt" asks a model, but {key} is empty'),
                fix=N_('name address and model: [remote] address = "http://localhost:11434/v1", model = "..."'),
                key=f"remote.{name}",
            )
    if not is_allowed(settings.address, settings.allow):
        raise UsageError(
            N_("{key}: the texts would be sent to {address}, which this recipe does not allow"),
            fix=N_('if they may leave for there: [remote] allow = ["{origin}"]'),
            key="remote.address",
            address=settings.address,
            origin=origin(settings.address),
        )
    if recipe.search.trials > 1:
        raise UsageError(
            N_("{key} varies how a model is trained, and prompt trains none"),
            fix=N_("leave it out; what can be tried is remote.shots = [0, 2, 4]"),
            key="search.trials",
        )
    if recipe.finetune.base:
        raise UsageError(
            N_("{key} names a model to train, and prompt trains none"),
            fix=N_("leave it out, or take another finetune.method"),
            key="finetune.base",
        )


def is_allowed(address: str, allow: Iterable[str]) -> bool:
    """Whether an address is one of those allowed, or below one: equal scheme, host and port, and a path that begins alike."""
    wanted = urlsplit(address)
    for one in map(urlsplit, allow):
        parts = _segments(one)
        if _door(one) == _door(wanted) and _segments(wanted)[: len(parts)] == parts:
            return True
    return False


def is_local(address: str) -> bool:
    """Whether an address is of this machine."""
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin(address: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _door(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


def _segments(parts: SplitResult) -> list[str]:
    return [part for part in parts.path.split("/") if part]


def _check_address(address: str, key: str) -> None:
    """Refuse what is no plain address of a web server: other schemes, a password within, a way upwards."""
    try:
        parts = urlsplit(address)
        good = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good, parts = False, urlsplit("")
    plain = address.isascii() and address.isprintable() and not set(address) & set(' \\%@?#"<>')
    if not (good and plain) or ".." in _segments(parts):
        raise UsageError(
            N_("{key}: {address} is no address that can be asked"),
            fix=N_("write it as http(s)://host:port/path, without a password and without a question mark"),
            key=key,
            address=address,
        )

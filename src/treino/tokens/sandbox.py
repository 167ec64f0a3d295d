"""Where a chat template computes: jinja's sandbox, with what transformers gives to a template, and bounded."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from treino.errors import DataError
from treino.messages import N_

LONGEST_PRODUCT = 1_000_000
"""Items of a text or list that a template may make by multiplying."""

WIDE = re.compile(r"\d{5}|%[^%a-zA-Z]*\*|\{[^{}]*\{")
"""A width of five figures in a format, or one that is given apart."""

WIDENING = frozenset(("center", "ljust", "rjust", "zfill", "expandtabs"))


class TemplateError(DataError):
    """A template that cannot be used."""


def compiled(source: str, today: datetime.date) -> Any:
    """The template in a sandbox, with what transformers gives to one."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import Scope

    class Generation(Extension):
        """`{% generation %}`, by which some templates mark the answers, changes nothing of what they write."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return Scope(body, lineno=line)

    def refuse(reason: str) -> None:
        raise jinja2.exceptions.TemplateError(reason)

    def now(form: str) -> str:
        return today.strftime(form)

    def to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    environment = _sandbox(refuse, [Generation, loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals |= {"raise_exception": refuse, "strftime_now": now}
    try:
        return environment.from_string(source)
    except jinja2.exceptions.TemplateError as error:
        raise TemplateError(N_("the chat template is damaged: {reason}"), reason=str(error)) from None


def _sandbox(refuse: Callable[[str], None], extensions: Sequence[Any]) -> Any:
    """The environment; what would be too large is refused."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def narrow(form: Any) -> None:
        if isinstance(form, str) and WIDE.search(form):
            refuse("a width that is too large")

    class Sandbox(ImmutableSandboxedEnvironment):
        """A sandbox in which no product and no width makes a text of gigabytes."""

        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "%":
                narrow(left)
                return left % right
            sizes = [len(side) if hasattr(side, "__len__") else abs(side) for side in (left, right)]
            if operator == "**" or sizes[0] * sizes[1] > LONGEST_PRODUCT:
                refuse("a product that is too large")
            return left * right

        def wrap_str_format(self, value: Any) -> Any:
            wrapped = super().wrap_str_format(value)
            if wrapped is not None:
                narrow(value.__self__)
            return wrapped

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            return super().is_safe_attribute(obj, attr, value) and not (isinstance(obj, str) and attr in WIDENING)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    usual = dict(environment.filters)

    def formatted(form: Any, *values: Any, **named: Any) -> str:
        narrow(form)
        return usual["format"](form, *values, **named)

    def centred(text: Any, width: int = 80) -> str:
        narrow(str(width))
        return usual["center"](text, width)

    def indented(text: Any, width: Any = 4, *further: Any, **named: Any) -> str:
        narrow(str(width))
        return usual["indent"](text, width, *further, **named)

    environment.filters |= {"format": formatted, "center": centred, "indent": indented}
    return environment

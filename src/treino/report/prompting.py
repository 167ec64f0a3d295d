"""What the report says of a remote model that was asked: where it is, what left for there, what it cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

from treino.messages import N_
from treino.report.facts import Classification
from treino.report.labels import METHODS
from treino.report.writer import UNKNOWN, Writer, escape, terms


def prompting_section(facts: Classification, writer: Writer) -> str:
    """Who was asked, in how many requests, with how many examples; tokens by the server's own count, where it has one."""
    settings, rows = facts.get("settings") or {}, facts.get("rows") or {}
    whole: Counter[str] = Counter()
    for part in (facts.get("asked"), facts.get("asked_test")):
        whole.update({name: value for name, value in (part or {}).items() if isinstance(value, int | float)})
    figures = [
        (writer.say(N_("method")), writer.label(facts.get("method", ""), METHODS)),
        (writer.say(N_("model")), escape(settings.get("model", UNKNOWN))),
        (writer.say(N_("address")), escape(settings.get("address", UNKNOWN))),
        (writer.say(N_("examples of each class")), writer.number(facts.get("shots"))),
        (writer.say(N_("validation rows")), writer.number(rows.get("validation"))),
        (writer.say(N_("test rows")), writer.number(rows.get("test"))),
        (writer.say(N_("requests")), writer.number(whole["requests"])),
        (writer.say(N_("tokens read")), writer.number(whole["tokens_in"])),
        (writer.say(N_("tokens written")), writer.number(whole["tokens_out"])),
        (writer.say(N_("cost")), f"US$ {writer.number(whole['cost'], 4)}"),
        (writer.say(N_("cost, as forecast")), _dollars(facts.get("forecast"), writer)),
        (writer.say(N_("time of a test row")), writer.seconds(facts.get("row_seconds"))),
    ]
    return terms(figures, "facts") + "".join(f"<p>{sentence}</p>" for sentence in _sentences(facts, writer))


def _dollars(forecast: dict[str, Any] | None, writer: Writer) -> str:
    """What was said before; nothing where all had been answered already."""
    return f"US$ {writer.number(forecast['cost'], 4)}" if forecast and forecast.get("requests") else UNKNOWN


def _sentences(facts: Classification, writer: Writer) -> list[str]:
    price, masked = (facts.get("asked") or {}).get("price") or {}, facts.get("masked") or {}
    where = (
        N_("The server is on this machine: no text left it.")
        if facts.get("local")
        else N_("The texts left this machine for that address, which the recipe allows by name.")
    )
    said = [
        f"{writer.say(where)} {writer.say(N_('Personal data masked before: {count}.'), count=sum(masked.values()))}"
    ]
    if price and not facts.get("local"):
        dated = N_("A million tokens costs US$ {input} to read and US$ {output} to write (price of {date:raw}).")
        said.append(writer.say(dated, **price))
    if any((part or {}).get("estimated") for part in (facts.get("asked"), facts.get("asked_test"))):
        said.append(writer.say(N_("The server does not say how many tokens it reads and writes: they are estimated.")))
    if facts.get("without"):
        left = N_("The server refuses these fields of a request, which were left out: {names}.")
        said.append(writer.say(left, names=", ".join(facts.get("without") or [])))
    return said

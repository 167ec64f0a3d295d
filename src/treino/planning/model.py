"""Which model is meant: one that is known by name, a `config.json`, a shape, or a bare number of parameters."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino.errors import UsageError
from treino.messages import N_, Message
from treino.planning.configuration import MOST, checked, from_configuration, read_configuration
from treino.planning.facts import Facts
from treino.planning.parameters import Architecture, active, count

TYPICAL_VOCABULARY = 32_000

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "q": 1e15}


@dataclass(frozen=True)
class Model:
    """A model of the planner's: its name, how many parameters it has and a token meets, and its shape.

    `assumed`: the shape was made up for a number of parameters (`typical`), or the number itself is nobody's.
    """

    name: str
    parameters: float
    active: float
    architecture: Architecture
    assumed: bool = False


def find_model(name: str, facts: Facts) -> Model:
    """By name, by path of a configuration, or a number such as `7B`.

    Raises:
        UsageError: with the nearest name.
    """
    path = Path(name)
    if path.is_dir() or path.suffix == ".json":
        return described(path.name if path.is_dir() else str(path), read_configuration(path))
    if re.fullmatch(r"[-+]?[\d.,]+(e[-+]?\d+)?\s*[kmbtq]?|[-+]?(nan|inf\w*)", name.lower()):
        return of_size(amount(name, Message(N_("the number of parameters")), MOST))
    row = facts.find("model", name)
    if "parameters" in row:
        total = row["parameters"] * 1e9
        return Model(row["name"], total, row.get("active", row["parameters"]) * 1e9, typical(total), assumed=True)
    return described(row["name"], from_configuration(row))


def described(name: str, architecture: Architecture) -> Model:
    """A model whose shape is known."""
    return Model(name, count(architecture)["total"], active(architecture), architecture)


def of_size(parameters: float) -> Model:
    """A model of which the size alone is known."""
    return Model(f"{parameters / 1e9:.3g}B", parameters, parameters, typical(parameters), assumed=True)


def typical(parameters: float) -> Architecture:
    """A shape of Llama's kind with about so many parameters, 128 as wide as it has layers: what is assumed where only the
    size is known, for activations and the like.
    """
    tied = parameters < 1e9
    layers = max(1, round((parameters / (12 * 128**2)) ** (1 / 3)))
    tables = TYPICAL_VOCABULARY * (1 if tied else 2)
    # 12·L·h² for the layers and the tables' V·h: a square equation for the width
    width = (math.sqrt(tables**2 + 48 * layers * parameters) - tables) / (24 * layers)
    heads = max(1, round(width / 128))
    width = heads * max(8, round(width / heads / 8) * 8)
    inner = max(1, round(8 * width / 3))
    return Architecture(TYPICAL_VOCABULARY, width, layers, heads, heads, inner, tied=tied, context=2048)


def from_shape(text: str) -> Model:
    """A shape as it is written on a command line: `width=512,layers=8,heads=8,vocabulary=32000`.

    Raises:
        UsageError: for an unknown name, a missing or a senseless number.
    """
    fields = {field.name: field for field in dataclasses.fields(Architecture)}
    values: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name not in fields:
            raise unknown(name, list(fields), N_("a shape has no {name}"))
        kind = str(fields[name].type)
        if kind == "bool":
            values[name] = value.lower() in ("true", "yes", "1")
        elif kind == "int":
            values[name] = round(amount(value, name, 1e9))
        else:
            values[name] = value
    missing = [name for name in ("vocabulary", "width", "layers", "heads") if name not in values]
    if missing:
        raise UsageError(N_("the shape does not say {key}"), where="--shape", key=", ".join(missing))
    values = {"kv_heads": values["heads"], "feed_forward": 4 * values["width"]} | values
    return described("shape", checked(Architecture(**values), "--shape"))


def unknown(name: str, names: list[str], text: str, where: str | None = None) -> UsageError:
    """The error for a name that is not among those known, with the nearest."""
    import difflib

    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return UsageError(
        text,
        where=where,
        fix=N_("did you mean {guess}?") if near else N_("known are {names}"),
        name=name,
        guess=near[0] if near else "",
        names=", ".join(names),
    )


def amount(text: str, what: Message | str, most: float = 1e30) -> float:
    """A number above zero as people write it: `7B`, `300e9`, `1.5T`, `50,000`. A comma parts thousands: `1,5B`, one and a
    half to many people, is refused.

    Raises:
        UsageError: for anything else, and for more than `most`.
    """
    thousands = r"[1-9]\d{0,2}(,\d{3})+(?![\d,])"
    plain = re.sub(rf"^{thousands}", lambda found: found[0].replace(",", ""), text.strip().lower())
    found = re.fullmatch(r"([\d.]+(?:e[-+]?\d+)?)\s*([kmbtq]?)", plain)
    try:
        value = float(found[1]) * UNITS[found[2]] if found else float("nan")
    except ValueError:
        value = float("nan")
    if not 0 < value <= most:
        raise UsageError(
            N_("{what} must be a number above 0 and at most {most:raw}, not {value}"),
            fix=N_("write it as 7B, 300e9 or 50000"),
            what=what,
            most=f"{most:.0e}",
            value=repr(text),
        )
    return value

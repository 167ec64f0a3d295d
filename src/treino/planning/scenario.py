"""What a user wants and has, as a TOML file: budget, deadline, hardware, data, task, quality, privacy and traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from treino.errors import UsageError
from treino.messages import N_
from treino.planning.model import unknown
from treino.planning.tables import is_number, read_table

READY_FOLDER = Path(__file__).parent / "ready"
READY = ("startup",)
ATTRIBUTES = ("cost", "days", "quality", "control", "risk")


@dataclass(frozen=True)
class Data:
    """The texts: how many, how long, whether with answers or labels, whether of people, and whether they may go to a vendor."""

    rows: float
    tokens_per_row: float = 400
    labelled: bool = True
    personal: bool = False
    may_leave: bool = True

    @property
    def tokens(self) -> float:
        return self.rows * self.tokens_per_row


@dataclass(frozen=True)
class Traffic:
    """What a month asks for."""

    answers_per_month: float = 10_000
    tokens_in: float = 1000
    tokens_out: float = 300


@dataclass(frozen=True)
class Scenario:
    """All of it.

    Attributes:
        budget: US dollars for training and `months` of answering.
        days: until it must be there.
        gpu: cards to be answered for, each alone; `owned`: an hour costs nothing; price: US dollars of an hour, 0: as seen.
        task: "narrow" (one kind of answer) or "broad"; classes: answers are that many classes, 0: texts.
        minimum_quality: points of 100.
        epochs, attempts: passes over the data of a training, and trainings until one is good.
        weights: of the attributes, in any unit.
        models, apis: what is considered.
        guesses: of somebody else, shown beside the calculated.
        comparisons: what `treino compare` measured on such texts: paths from the scenario's folder, or names among the runs.
    """

    name: str
    budget: float
    days: float
    data: Data
    gpu: tuple[str, ...] = ("A100-80",)
    owned: bool = False
    price: float = 0
    task: str = "narrow"
    classes: int = 0
    minimum_quality: float = 0
    months: float = 3
    epochs: float = 3
    attempts: float = 4
    traffic: Traffic = Traffic()
    weights: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(ATTRIBUTES, 20.0))
    models: tuple[str, ...] = ("Llama-2-7B", "Llama-2-13B")
    apis: tuple[str, ...] = ("gpt-4", "gpt-4o-mini")
    guesses: tuple[Mapping[str, Any], ...] = ()
    comparisons: tuple[str, ...] = ()


ABOVE_NOTHING = {"budget", "days", "rows", "tokens_per_row", "months", "epochs", "attempts"}
"""Numbers that cannot be 0; all others must not be negative."""


def read_scenario(source: str | Path) -> Scenario:
    """From a TOML file, or by the name of a ready one.

    Raises:
        UsageError: with what is wrong and what was probably meant.
    """
    ready = str(source) in READY and not Path(source).exists()
    path = READY_FOLDER / f"{source}.toml" if ready else Path(source)
    if not path.exists():
        raise UsageError(
            N_("there is no scenario {path}"),
            fix=N_("give a scenario as TOML, or one of: {ready}"),
            path=str(path),
            ready=", ".join(READY),
        )
    return from_values(read_table(path), str(path))


def from_values(values: Mapping[str, Any], where: str | None = None) -> Scenario:
    """From a dictionary of the file's form."""
    values = dict(values)
    options, guesses = values.pop("options", {}), values.pop("guess", [])
    weights = values.pop("weights", dict.fromkeys(ATTRIBUTES, 20.0))
    for table, value in (("options", options), ("weights", weights)):
        if not isinstance(value, Mapping):
            raise UsageError(N_("[{table}] must be a table"), where=where, table=table)
    weights = _numbers(weights, ATTRIBUTES, where)
    if not sum(weights.values()):
        raise UsageError(N_("the weights are all 0"), where=where)
    tables = {"data": Data, "traffic": Traffic}
    parts = {name: _table(kind, values.pop(name, {}), name, where) for name, kind in tables.items()}
    for name in options:
        if name not in ("models", "apis"):
            raise unknown(name, ["models", "apis"], N_("there is no setting {name}"), where)
    lists = {"gpu": values.get("gpu", "A100-80"), "comparisons": values.get("comparisons", [])} | options
    values |= {name: _names(name, value, where) for name, value in lists.items()}
    if not isinstance(guesses, list) or not all(isinstance(guess, Mapping) for guess in guesses):
        raise UsageError(N_("[{table}] must be a table"), where=where, table="[guess]")
    scenario = _table(
        Scenario, values | parts, "", where, weights=dict.fromkeys(ATTRIBUTES, 0.0) | weights, guesses=tuple(guesses)
    )
    if not isinstance(scenario.name, str):
        raise UsageError(
            N_("{name} must be text in quotes, not {value}"), where=where, name="name", value=repr(scenario.name)
        )
    if scenario.task not in ("narrow", "broad"):
        raise unknown(str(scenario.task), ["narrow", "broad"], N_("there is no task {name}"), where)
    return scenario


def _names(name: str, value: Any, where: str | None) -> tuple[str, ...]:
    """One name, or a list of names."""
    names = (value,) if isinstance(value, str) else value
    if (
        not isinstance(names, list | tuple)
        or not all(isinstance(each, str) for each in names)
        or (not names and name == "gpu")
    ):
        raise UsageError(
            N_("{name} must be a name or a list of names, not {value}"), where=where, name=name, value=repr(value)
        )
    return tuple(names)


def _table(kind: Any, values: Mapping[str, Any], table: str, where: str | None, **more: Any) -> Any:
    """A dataclass from a table, its names and numbers checked."""
    known = {item.name: item for item in fields(kind)}
    if not isinstance(values, Mapping):
        raise UsageError(N_("[{table}] must be a table"), where=where, table=table)
    for name in values:
        if name not in known or name in ("weights", "guesses"):
            raise unknown(name, list(known), N_("there is no setting {name}"), where)
    numbers = [name for name, item in known.items() if item.type in ("float", "int")]
    checked = dict(values) | _numbers({n: values[n] for n in numbers if n in values}, numbers, where)
    for name, item in known.items():
        if item.type == "bool" and not isinstance(values.get(name, False), bool):
            raise UsageError(
                N_("{name} must be true or false, not {value}"), where=where, name=name, value=repr(values[name])
            )
    try:
        return kind(**checked, **more)
    except TypeError:
        missing = [name for name in ("name", "budget", "days", "rows") if name in known and name not in checked]
        raise UsageError(N_("it does not say {key}"), where=where, key=", ".join(missing)) from None


def _numbers(values: Mapping[str, Any], known: Sequence[str], where: str | None) -> dict[str, float]:
    """Numbers by name, checked."""
    for name, value in values.items():
        if name not in known:
            raise unknown(name, list(known), N_("there is no setting {name}"), where)
        above = name in ABOVE_NOTHING
        if not is_number(value, above=above) or value > 1e15:
            text = N_("{name} must be a number that is not negative, not {value}")
            text = N_("{name} must be a number above 0, not {value}") if above else text
            raise UsageError(text, where=where, name=name, value=repr(value)[:40])
    return dict(values)

"""Which strategy to take: hard limits, dominance, then Monte Carlo over what is uncertain, under the user's own weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from treino.messages import N_, Message
from treino.planning.draws import Draws
from treino.planning.facts import Facts
from treino.planning.measured import Measured, read_comparison
from treino.planning.options import Cards, Option, cards_of, evidence_of, options_of
from treino.planning.scenario import ATTRIBUTES, Scenario, read_scenario
from treino.planning.wanted import price_notes

PILOT_HOURS = 2.0
"""A pilot of adapters on a part of the rows."""

TRIAL_ANSWERS = 200
"""Cases of one's own that are put to an API, or to a pilot, to see how well it does."""

GRID = 11
"""Steps of a weight from 0 to 1 in the chart of weights."""

CHANGES = (
    (N_("ten times the traffic"), {"traffic": 10.0}),
    (N_("a tenth of the traffic"), {"traffic": 0.1}),
    (N_("half the budget"), {"budget": 0.5}),
    (N_("texts that may not leave"), {"may_leave": False}),
    (N_("a broad task"), {"task": "broad"}),
    (N_("quality alone counts"), {"only": "quality"}),
    (N_("cost alone counts"), {"only": "cost"}),
)
"""What is tried to see whether the answer stands."""


@dataclass(frozen=True)
class Advice:
    """The answer for one card.

    Attributes:
        options: all of them; `standing`: keys of those that break no hard limit and are not dominated.
        dominated: key → key of an option that is at least as good in everything.
        chance: how often each standing option is the best of a draw; utility: its mean, 0 to 1; regret: US dollars that taking
            it is expected to cost against knowing everything, by the user's own weight of money.
        choice: key of the best; reasons: three.
        changes: what would change the answer, with the option that would win; weights: (weight of quality, weight of cost,
            key) for the chart.
        experiment: the cheapest useful one, its cost and what it is worth in US dollars; None if none is.
        notes: prices that are old or assumed.
        evidence: of each kind of option, by language, what its quality is known from beside what was measured.
    """

    gpu: str
    scenario: Scenario
    options: tuple[Option, ...]
    dominated: Mapping[str, str]
    chance: Mapping[str, float]
    utility: Mapping[str, float]
    regret: Mapping[str, float]
    choice: str | None
    reasons: tuple[Message, ...]
    changes: tuple[tuple[str, str | None], ...]
    weights: tuple[tuple[float, float, str], ...]
    experiment: tuple[Message, float, float] | None
    notes: tuple[Message, ...]
    evidence: tuple[tuple[str, dict[str, str]], ...] = ()

    def option(self, key: str) -> Option:
        """The option of a key."""
        return next(option for option in self.options if option.key == key)

    def plain(self) -> dict[str, Any]:
        """As JSON values; sentences in English."""
        options = [
            asdict(replace(option, limits=()))
            | {"label": option.label.english(), "limits": [limit.english() for limit in option.limits]}
            for option in self.options
        ]
        experiment = self.experiment and {
            "what": self.experiment[0].english(),
            "cost": self.experiment[1],
            "worth": self.experiment[2],
        }
        return asdict(replace(self, options=(), reasons=(), experiment=None, notes=())) | {
            "options": options,
            "reasons": [reason.english() for reason in self.reasons],
            "notes": [note.english() for note in self.notes],
            "experiment": experiment,
        }


def advise(
    source: str | Path | Scenario,
    *,
    gpu: str | None = None,
    configuration: Path | None = None,
    comparisons: Sequence[str] = (),
    runs: Path | None = None,
) -> list[Advice]:
    """Advice for each card of the scenario (or for `gpu` alone).

    Args:
        source: a scenario, the path of its TOML file, or the name of a ready one.
        configuration: folder with further facts of the user's.
        comparisons: what `treino compare` measured, beside those that the scenario names: paths, or names in the folder `runs`.

    Raises:
        UsageError: for names that are not known, and numbers without sense.
    """
    facts = Facts(configuration)
    scenario = source if isinstance(source, Scenario) else read_scenario(source)
    beside = None if isinstance(source, Scenario) else Path(source).parent
    names = dict.fromkeys([(name, beside) for name in scenario.comparisons] + [(name, None) for name in comparisons])
    measured = tuple(read_comparison(name, runs, place) for name, place in names)
    return [_advise(scenario, name, facts, measured) for name in ((gpu,) if gpu else scenario.gpu)]


def _advise(scenario: Scenario, gpu: str, facts: Facts, measured: Sequence[Measured]) -> Advice:
    cards = cards_of(gpu, scenario, facts)
    options = options_of(scenario, cards, facts, measured)
    able = [option for option in options if not option.limits]
    dominated = _dominated(able)
    standing = [option for option in able if option.key not in dominated]
    draws = Draws(scenario, standing, facts)
    choice = draws.best()
    return Advice(
        gpu=gpu,
        scenario=scenario,
        options=tuple(options),
        dominated=dominated,
        chance=draws.chances(),
        utility=draws.means(),
        regret=draws.regrets(),
        choice=choice,
        reasons=tuple(_reasons(scenario, options, standing, choice, draws)) if choice else (),
        changes=tuple(_changes(draws, cards, facts, measured)),
        weights=tuple(_chart(draws)),
        experiment=_experiment(draws, scenario, facts, cards),
        notes=tuple(_notes(scenario, cards, facts, measured)),
        evidence=tuple(_evidence(options, facts)),
    )


def _notes(scenario: Scenario, cards: Cards, facts: Facts, measured: Sequence[Measured]) -> Iterator[Message]:
    """What must be said of the prices, and of comparisons that do not count."""
    if measured and scenario.task != "narrow":
        yield Message(N_("the comparisons measured a narrow task, and count nothing for a broad one"))
    if not (scenario.owned or scenario.price):
        yield from price_notes(cards.chip.name, facts.price(cards.chip.name))
    for name in scenario.apis:
        yield from price_notes(name, facts.api(name))


def _evidence(options: Sequence[Option], facts: Facts) -> Iterator[tuple[str, dict[str, str]]]:
    """For every kind of option where its quality is known from, by language."""
    for kind in dict.fromkeys(["reference", *(evidence_of(option.method, option.base) for option in options)]):
        row = facts.find("evidence", kind)
        source = str(row.get("source", ""))
        yield kind, {"en": source, "pt_BR": str(row.get("source_pt_BR", source))}


def _dominated(options: Sequence[Option]) -> dict[str, str]:
    """Options that another one beats or equals in every attribute, at both ends and in the middle."""
    found: dict[str, str] = {}
    for one, other in itertools.permutations(options, 2):
        if other.key in found or one.key in found:
            continue
        pairs = [(_signed(one, name), _signed(other, name)) for name in ATTRIBUTES]
        better = all(a >= b for ones, others in pairs for a, b in zip(ones, others, strict=True))
        if better and any(ones != others for ones, others in pairs):
            found[other.key] = one.key
    return found


def _signed(option: Option, name: str) -> tuple[float, float, float]:
    """An attribute so that more is better, worst first."""
    value = option.attributes[name]
    if name in ("quality", "control"):
        return value.low, value.middle, value.high
    return -value.high, -value.middle, -value.low


def _changes(draws: Draws, cards: Cards, facts: Facts, measured: Sequence[Measured]) -> list[tuple[str, str | None]]:
    """Of the changes that are tried, those after which another option is the best."""
    found, choice = [], draws.best()
    for name, change in CHANGES:
        if "only" in change:
            best = draws.best({other: float(other == change["only"]) for other in ATTRIBUTES})
        else:
            other = _changed(draws.scenario, change)
            able = [option for option in options_of(other, cards, facts, measured) if not option.limits]
            best = Draws(other, able, facts).best()
        if best != choice:
            found.append((name, best))
    return found


def _changed(scenario: Scenario, change: Mapping[str, float | str | bool]) -> Scenario:
    (name, value), *_ = change.items()
    if name == "traffic":
        asked = scenario.traffic.answers_per_month * float(value)
        return replace(scenario, traffic=replace(scenario.traffic, answers_per_month=asked))
    if name == "budget":
        return replace(scenario, budget=scenario.budget * float(value))
    if name == "may_leave":
        return replace(scenario, data=replace(scenario.data, may_leave=bool(value)))
    return replace(scenario, task=str(value))


def _chart(draws: Draws) -> list[tuple[float, float, str]]:
    """Which option wins for which weights of quality and of cost; the rest is shared as the user's other weights are."""
    rest = {name: weight for name, weight in draws.weights.items() if name not in ("quality", "cost")}
    total = sum(rest.values()) or 1.0
    means: dict[str, dict[str, float]] = {}
    for index, option in enumerate(draws.options):
        means[option.key] = {
            name: fmean(rows[index]["holds"] * rows[index][name] for rows in draws.parts) for name in ATTRIBUTES
        }
    found = []
    for first, second in itertools.product(range(GRID), repeat=2):
        if first + second > GRID - 1 or not means:
            continue
        quality, cost = first / (GRID - 1), second / (GRID - 1)
        weights = {name: (1 - quality - cost) * weight / total for name, weight in rest.items()}
        weights |= {"quality": quality, "cost": cost}
        best = max(means, key=lambda key, w=weights: sum(w[name] * means[key][name] for name in ATTRIBUTES))
        found.append((quality, cost, best))
    return found


def _experiment(draws: Draws, scenario: Scenario, facts: Facts, cards: Cards) -> tuple[Message, float, float] | None:
    """The trial that is worth most over its cost."""
    hour = cards.price.middle * cards.count
    best: tuple[Message, float, float] | None = None
    for index, option in enumerate(draws.options):
        if option.method == "api":
            api = facts.api(option.base)
            one = scenario.traffic.tokens_in * api.input + scenario.traffic.tokens_out * api.output
            cost = TRIAL_ANSWERS * one / 1e6
            text = N_("put {cases} cases of your own to {base} and read the answers")
        else:
            cost = PILOT_HOURS * hour
            text = N_("train {method} {base} for {hours:0} hours on a part of the rows, and read {cases} answers")
        worth = draws.value_of_knowing(index)
        values = {
            "cases": TRIAL_ANSWERS,
            "hours": PILOT_HOURS,
            "base": option.base,
            "method": option.label.values["method"],
        }
        if worth > cost and (best is None or worth - cost > best[2] - best[1]):
            best = Message(text, values), cost, worth
    return best


def _reasons(
    scenario: Scenario, options: Sequence[Option], standing: Sequence[Option], choice: str, draws: Draws
) -> list[Message]:
    """Three: what the choice is best at, what it costs, and what stands against the others."""
    chosen = next(option for option in options if option.key == choice)
    quality, cost = chosen.attributes["quality"], chosen.attributes["cost"]
    refused = [option for option in options if option.limits]
    first = Message(
        N_(
            "under your weights it has the smallest expected regret ({regret:money}), with {low:0} to {high:0} points of "
            "quality"
        ),
        {"regret": draws.regrets()[choice], "low": quality.low, "high": quality.high},
    )
    second = Message(
        N_(
            "{cost:money} with {months} months of answers ({training:money} of it to train), of a budget of {budget:money}"
        ),
        {
            "cost": cost.middle,
            "training": chosen.training.middle,
            "months": scenario.months,
            "budget": scenario.budget,
        },
    )
    if refused:
        worst = max(refused, key=lambda option: option.attributes["quality"].middle)
        third = Message(
            N_("{count} of {all} options break a hard limit; of {label}: {limit}"),
            {"count": len(refused), "all": len(options), "label": worst.label, "limit": worst.limits[0]},
        )
    else:
        others = [option for option in standing if option.key != choice]
        days = chosen.attributes["days"]
        third = Message(
            N_("it is ready in {low:1} to {high:1} days, and {count} others are left to fall back on"),
            {"low": days.low, "high": days.high, "count": len(others)},
        )
    return [first, second, third]

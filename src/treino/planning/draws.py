"""Monte Carlo over what is uncertain of the options of a scenario: utilities, chances, regrets, and what a trial is worth."""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from statistics import fmean

from treino.planning.facts import Facts
from treino.planning.options import Option
from treino.planning.scenario import Scenario
from treino.planning.throughput import Interval

DRAWS, SEED = 400, 11
Z80 = 1.2816
"""A normal variable lies within ± this with a probability of 80 %."""

BINS = 10
"""Into so many parts the draws are cut to ask what a trial would be worth."""


@functools.cache
def _deviates(key: str) -> list[list[float]]:
    """Standard normal numbers for each draw, of an option or of what all share: the same in every scenario, so that two are
    compared by what differs between them.
    """
    chance = random.Random(f"{SEED} {key}")
    return [[chance.gauss(0, 1) for _ in range(5)] for _ in range(DRAWS)]


class Draws:
    """Utilities of options in many draws of what is uncertain; what options share (the reference's quality, the price of a
    card, its efficiency) is drawn once for all of them. An option that breaks a limit in a draw is worth nothing in it.
    """

    count = DRAWS

    def __init__(self, scenario: Scenario, options: Sequence[Option], facts: Facts) -> None:
        self.scenario, self.options = scenario, list(options)
        ends = facts.find("evidence", "reference")[scenario.task]
        self.reference = Interval(ends[0], sum(ends) / 2, ends[1])
        columns = [self._column(option) for option in self.options]
        self.parts = [list(rows) for rows in zip(*columns, strict=True)]
        self.weights = dict(scenario.weights)
        self.utilities = self._utilities(self.weights)

    def _column(self, option: Option) -> list[dict[str, float]]:
        """An option's attributes in every draw, on a scale of 0 (useless) to 1 (free, at once, perfect)."""
        scenario, attributes, own_cards = self.scenario, option.attributes, option.method != "api"
        rows = []
        for own, shared in zip(_deviates(option.key), _deviates("shared"), strict=True):
            cost = _at(attributes["cost"], shared[1] if own_cards else own[0])
            days = _at(attributes["days"], 0.6 * shared[2] + 0.8 * own[1] if own_cards else own[1])
            points = _at(self.reference, shared[0]) + _at(option.difference, own[2])
            points = min(100.0, max(0.0, points))
            holds = cost <= scenario.budget and days <= scenario.days and points >= scenario.minimum_quality
            rows.append(
                {
                    "cost": 1 - cost / scenario.budget,
                    "days": 1 - days / scenario.days,
                    "quality": points / 100,
                    "control": _at(attributes["control"], own[3]) / 100,
                    "risk": 1 - _at(attributes["risk"], own[4]) / 100,
                    "holds": float(holds),
                }
            )
        return rows

    def _utilities(self, weights: Mapping[str, float]) -> list[list[float]]:
        total = sum(weights.values())
        return [
            [row["holds"] * sum(weight * row[name] for name, weight in weights.items()) / total for row in rows]
            for rows in self.parts
        ]

    def means(self, utilities: list[list[float]] | None = None) -> dict[str, float]:
        """The mean utility of each option, under the user's weights unless others' are given."""
        columns = zip(*(utilities or self.utilities), strict=True) if self.options else ()
        return {option.key: fmean(column) for option, column in zip(self.options, columns, strict=False)}

    def best(self, weights: Mapping[str, float] | None = None) -> str | None:
        """The option with the highest mean utility; None where there is none."""
        means = self.means(self._utilities(weights) if weights else None)
        return max(means, key=lambda key: means[key]) if means else None

    def chances(self) -> dict[str, float]:
        """Share of the draws in which each option is the best."""
        wins = [max(range(len(row)), key=row.__getitem__) for row in self.utilities if row]
        return {option.key: wins.count(index) / self.count for index, option in enumerate(self.options)}

    def regrets(self) -> dict[str, float]:
        """Mean of what the best of each draw has over an option, in dollars."""
        if not self.options:
            return {}
        top = fmean(max(row) for row in self.utilities)
        return {key: self.dollars(top - mean) for key, mean in self.means().items()}

    def dollars(self, utility: float) -> float:
        """What a difference of utility is worth, by the weight that the user gives to money."""
        weight = self.weights["cost"] / sum(self.weights.values())
        return utility * self.scenario.budget / max(weight, 0.01)

    def value_of_knowing(self, index: int) -> float:
        """US dollars that it is worth to learn how well an option does its task before choosing.

        Draws are ordered by its quality and cut into parts: the mean over parts of the best mean, less the best mean of all.
        """
        order = sorted(range(self.count), key=lambda draw: self.parts[draw][index]["quality"])
        size = self.count // BINS
        parts = [order[first : first + size] for first in range(0, size * BINS, size)]
        knowing = fmean(
            max(fmean(self.utilities[draw][option] for draw in part) for option in range(len(self.options)))
            for part in parts
        )
        return max(0.0, self.dollars(knowing - max(self.means().values())))


def _at(interval: Interval, z: float) -> float:
    """The value that lies z deviations from the middle, each side with its own width."""
    width = interval.high - interval.middle if z > 0 else interval.middle - interval.low
    return max(0.0, interval.middle + z * width / Z80) if interval.low >= 0 else interval.middle + z * width / Z80

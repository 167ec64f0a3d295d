"""How much of a chip's peak a training reaches, learnt from published runs, with the interval that they leave open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from treino.planning.facts import Chip, Run

COVERED = 0.8
"""Share of runs that an interval is meant to hold."""

REFERENCE_BALANCE = 153.0
"""FLOPs per byte of the A100-80, from which other chips' balances are counted."""

PRIOR, PRIOR_DEVIATION = (math.log(0.42), math.log(0.398 / 0.541) / 0.95), (0.5, 0.3)
"""What is believed before any run: the middle of end-to-end figures on the A100, and the slope between the medians that
llm-foundry's table of steady states has for A100-80 (.541, 216 rows in all) and H100 (.398)."""

DEVIATION, FREEDOM = 0.25, 4.0
"""Of the logarithm of a run's efficiency around the line, as Student's t: a few runs lie far off, for reasons of their own."""

QUANTILE = 1.533
"""Student's t with four degrees of freedom lies within ± this with a probability of 80 %."""


@dataclass(frozen=True)
class Interval:
    """A figure with the ends between which eight of ten published runs would lie."""

    low: float
    middle: float
    high: float

    def __mul__(self, factor: float) -> Interval:
        return Interval(self.low * factor, self.middle * factor, self.high * factor)

    def under(self, amount: float) -> Interval:
        """`amount` divided by this."""
        return Interval(amount / self.high, amount / self.middle, amount / self.low)

    def times(self, other: Interval) -> Interval:
        """The product of two independent figures: their spreads (of the logarithms) add up as squares."""
        middle = self.middle * other.middle
        if not middle:
            return Interval(0.0, 0.0, 0.0)

        def spread(a: float, b: float) -> float:
            if not a or not b:
                return math.inf
            return math.hypot(math.log(a / self.middle), math.log(b / other.middle))

        low = middle * math.exp(-spread(self.low, other.low))
        return Interval(low, middle, middle * math.exp(spread(self.high, other.high)))


def exactly(value: float) -> Interval:
    """A figure that is known."""
    return Interval(value, value, value)


def efficiency(chip: Chip, runs: Sequence[Run]) -> Interval:
    """Share of the chip's dense 16-bit peak that 6·N·D of a whole run makes (MFU), with its 80 % interval.

    log MFU = a + b · log₂(balance / 153), a robust line through the published runs (Student's t with 4 degrees of freedom,
    normal priors); the interval's half width is the conformal quantile of what each run lies off a line through the others,
    at least the quantile of that distribution: twenty runs alone would make it too sure.
    """
    learnt = [run for run in runs if run.learnt]
    middle = _line(learnt)
    off = sorted(_misses(learnt)) or [DEVIATION]
    rank = min(len(off), math.ceil(COVERED * (len(off) + 1)))
    centre, half = _at(middle, chip), max(off[rank - 1], QUANTILE * DEVIATION)
    return Interval(math.exp(centre - half), math.exp(centre), min(1.0, math.exp(centre + half)))


def _misses(runs: Sequence[Run]) -> list[float]:
    """How far each run's logarithm lies off the line through the others."""
    return [
        abs(math.log(run.mfu) - _at(_line([*runs[:index], *runs[index + 1 :]]), run.chip))
        for index, run in enumerate(runs)
    ]


def _at(line: tuple[float, float], chip: Chip) -> float:
    return line[0] + line[1] * math.log2(chip.balance / REFERENCE_BALANCE)


def _line(runs: Sequence[Run]) -> tuple[float, float]:
    """Intercept and slope of the most likely line, by reweighting until the weights stand still."""
    points = [(math.log2(run.chip.balance / REFERENCE_BALANCE), math.log(run.mfu)) for run in runs]
    weights = [1.0] * len(points)
    line = PRIOR
    for _ in range(20):
        line = _weighted(points, weights)
        off = [(y - line[0] - line[1] * x) / DEVIATION for x, y in points]
        weights = [(FREEDOM + 1) / (FREEDOM + miss**2) for miss in off]
    return line


def _weighted(points: Sequence[tuple[float, float]], weights: Sequence[float]) -> tuple[float, float]:
    """The line of least weighted squares, with the prior as two further points."""
    precision = [1 / deviation**2 for deviation in PRIOR_DEVIATION]
    scaled = [(x, y, weight / DEVIATION**2) for (x, y), weight in zip(points, weights, strict=True)]
    total = precision[0] + sum(w for _, _, w in scaled)
    first = sum(w * x for x, _, w in scaled)
    second = precision[1] + sum(w * x * x for x, _, w in scaled)
    sum_y = precision[0] * PRIOR[0] + sum(w * y for _, y, w in scaled)
    sum_xy = precision[1] * PRIOR[1] + sum(w * x * y for x, y, w in scaled)
    determinant = total * second - first**2
    return (sum_y * second - first * sum_xy) / determinant, (total * sum_xy - first * sum_y) / determinant

"""Efficiency learnt from published runs: each run foretold by the others."""

from __future__ import annotations

import math
import statistics

import pytest

from treino.planning.facts import Chip, Facts, Run
from treino.planning.throughput import COVERED, Interval, efficiency, exactly

RUNS = [run for run in Facts().runs if run.learnt]


def constant(runs: list[Run]) -> Interval:
    """The rule to beat: one efficiency for every chip, its interval from the spread of all runs."""
    logs = sorted(math.log(run.mfu) for run in runs)
    deciles = statistics.quantiles(logs, n=10)
    return Interval(math.exp(deciles[0]), math.exp(statistics.median(logs)), math.exp(deciles[-1]))


def score(interval: Interval, value: float) -> float:
    """Interval score of the logarithm (Gneiting & Raftery 2007): width, plus 2/α for what lies outside."""
    low, high, log = math.log(interval.low), math.log(interval.high), math.log(value)
    return high - low + 2 / (1 - COVERED) * (max(0.0, low - log) + max(0.0, log - high))


def test_each_published_run_is_foretold_by_the_others() -> None:
    told = [(run, efficiency(run.chip, [other for other in RUNS if other is not run])) for run in RUNS]
    assert len(told) >= 15
    inside = [interval.low <= run.mfu <= interval.high for run, interval in told]
    assert statistics.mean(inside) >= 0.8
    assert max(interval.high / interval.low for _, interval in told) <= 2.5
    # seconds are inversely proportional to the efficiency
    errors = [abs(run.mfu / interval.middle - 1) for run, interval in told]
    assert statistics.median(errors) <= 0.2
    ours = statistics.mean(score(interval, run.mfu) for run, interval in told)
    rule = statistics.mean(score(constant([other for other in RUNS if other is not run]), run.mfu) for run in RUNS)
    assert ours < rule
    print(f"ratio {max(i.high / i.low for _, i in told):.2f}", end=" ")
    print(
        f"covered {statistics.mean(inside):.2f}, median error {statistics.median(errors):.3f}, {ours:.3f} < {rule:.3f}"
    )


def test_a_chip_that_is_harder_to_keep_busy_reaches_a_smaller_share() -> None:
    slow, fast = Chip("slow", 300, 8e10, 2e12, 400), Chip("fast", 1000, 8e10, 3.3e12, 700)
    assert efficiency(fast, RUNS).middle < efficiency(slow, RUNS).middle
    assert efficiency(fast, RUNS).high <= 1


def test_without_runs_the_belief_stands_and_stays_uncertain() -> None:
    alone = efficiency(Facts().chip("A100"), [])
    assert alone.middle == pytest.approx(0.42, rel=0.02)
    assert alone.low < 0.42 < alone.high


def test_spreads_of_independent_figures_add_up_as_squares() -> None:
    product = Interval(1.0, 2.0, 4.0).times(Interval(5.0, 10.0, 20.0))
    assert product.middle == 20
    assert math.log(product.high / 20) == pytest.approx(math.sqrt(2) * math.log(2))
    assert Interval(1.0, 2.0, 4.0).times(exactly(3.0)) == Interval(pytest.approx(3.0), 6.0, pytest.approx(12.0))
    assert Interval(1.0, 2.0, 4.0).under(8.0) == Interval(2.0, 4.0, 8.0)


def test_a_run_that_contradicts_itself_is_told_and_not_learnt_from() -> None:
    facts = Facts()
    row = dict(facts.find("run", "LLaMA-7B"), name="odd", chip_hours=10_000)
    facts.rows["run"]["odd"] = row
    odd = next(run for run in facts.runs if run.name == "odd")
    assert odd.mfu > 1 and not odd.learnt

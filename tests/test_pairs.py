"""The statistics and the records of the benchmarks; the measurements themselves are no tests."""

from __future__ import annotations

import importlib
import math
import random
import statistics
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark_module(monkeypatch):
    """Import a module of `benchmarks/`, which is no package that is installed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in ("pairs", "results"):
        sys.modules.pop(name, None)


def test_the_interval_is_students_of_the_logarithms(benchmark_module):
    """Against the formula by hand: n = 4, quantile .95 of three degrees of freedom from a printed table."""
    logs = [0.1, 0.2, 0.4, 0.5]
    found = benchmark_module("pairs").ratio_interval([(3 * math.exp(log), 3.0) for log in logs])
    half = 2.3534 * statistics.stdev(logs) / 2
    assert found.median == pytest.approx(math.exp(0.3))
    assert (found.low, found.high) == pytest.approx((math.exp(0.3 - half), math.exp(0.3 + half)), rel=1e-4)
    assert (found.first, found.second, found.pairs) == (pytest.approx(3 * math.exp(0.3), rel=0.02), 3.0, 4)


def test_a_slow_machine_cancels_in_the_ratio_and_exchange_inverts_it(benchmark_module):
    interval = benchmark_module("pairs").ratio_interval
    pairs = [(20.0, 10.0), (21.0, 10.0), (19.0, 10.0)]
    slowed = [(first / slow, second / slow) for (first, second), slow in zip(pairs, (1, 3, 7), strict=True)]
    assert interval(slowed).low == pytest.approx(interval(pairs).low)
    turned = interval([(second, first) for first, second in pairs])
    assert turned.low == pytest.approx(1 / interval(pairs).high)


def test_nine_of_ten_intervals_hold_the_true_ratio(benchmark_module):
    """Noise of 5 % on both rates, seven pairs, 1000 draws: 90 % ± 3 % (three standard errors)."""
    interval, draw = benchmark_module("pairs").ratio_interval, random.Random(5)
    held = 0
    for _ in range(1000):
        noisy = [(2 * math.exp(draw.gauss(0, 0.05)), math.exp(draw.gauss(0, 0.05))) for _ in range(7)]
        found = interval(noisy)
        held += found.low <= 2 <= found.high
    assert held == pytest.approx(900, abs=30)


def test_a_recorded_row_replaces_its_predecessor_and_nothing_else(benchmark_module, monkeypatch, tmp_path):
    results = benchmark_module("results")
    path = tmp_path / "RESULTS.md"
    path.write_text("before\n<!-- t -->\n<!-- end t -->\nafter\n", encoding="utf-8")
    monkeypatch.setattr(results, "RESULTS", path)
    results.record("t", ("what", "value"), [("a", "1"), ("b", "2")])
    results.record("t", ("what", "value"), [("a", "3")])
    table = "| what | value |\n| --- | --- |\n| a | 3 |\n| b | 2 |\n"
    assert path.read_text(encoding="utf-8") == f"before\n<!-- t -->\n{table}<!-- end t -->\nafter\n"
    with pytest.raises(LookupError, match="no table"):
        results.record("u", ("what",), [])

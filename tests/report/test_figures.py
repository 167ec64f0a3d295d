"""Curves, the sentence on the gap, and who is ahead."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treino.report.bars import Bar, bars
from treino.report.curves import HEIGHT, MOST_POINTS, WIDTH, axis, loss_figure
from treino.report.facts import Point
from treino.report.gap import LIMIT, describe_gap
from treino.report.judgement import NEITHER, leader, verdict_on_baselines
from treino.report.writer import Writer


def points(*losses: float, every: int = 10) -> list[Point]:
    return [{"step": every * (index + 1), "loss": loss} for index, loss in enumerate(losses)]


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_on_the_axis_at_even_round_distances(low: float, size: float) -> None:
    found = axis(low, low + size)
    assert 2 <= len(found.ticks) <= 6
    assert all(-1e-6 <= found.share(tick) <= 1 + 1e-6 for tick in found.ticks)
    steps = [after - before for before, after in zip(found.ticks, found.ticks[1:], strict=False)]
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-6)
    # ticks of a small range far from zero lose digits in their difference
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5, 10)) < 1e-3
    assert all(step == pytest.approx(steps[0], rel=1e-3) for step in steps)
    # the decimals shown tell the ticks apart
    assert len({f"{tick:.{found.digits}f}" for tick in found.ticks}) == len(found.ticks)


def test_curves_are_drawn_to_scale() -> None:
    """A straight fall from 4 to 2 ends in the corners, but for the margin of 4 % above and below."""
    figure = loss_figure(points(4.0, 3.0, 2.0), points(4.0, 2.0, every=15), Writer("en"))
    line = re.search(r'class="line training" d="([^"]+)"', figure)
    assert line
    pairs = [tuple(map(float, pair.split())) for pair in line[1].removeprefix("M").split("L")]
    margin = 0.04 / 1.08 * HEIGHT
    expected = [(WIDTH / 3, margin), (2 * WIDTH / 3, HEIGHT / 2), (WIDTH, HEIGHT - margin)]
    for (x, y), (true_x, true_y) in zip(pairs, expected, strict=True):
        assert (x, y) == (pytest.approx(true_x, abs=0.06), pytest.approx(true_y, abs=0.06))  # printed to 0.1
    assert figure.count("h0") == 2


def test_long_curves_are_thinned_and_broken_values_left_out() -> None:
    long = points(*(5 / (1 + index / 500) for index in range(20_000)))
    figure = loss_figure([*long, {"step": 300_000, "loss": math.nan}], [], Writer("en"))
    raw = re.search(r'class="line training raw" d="([^"]+)"', figure)
    assert raw and raw[1].count("L") == MOST_POINTS - 1
    assert raw[1].endswith(f"L{WIDTH:g} {raw[1].split()[-1]}") and "nan" not in figure
    assert loss_figure(points(2.0), [], Writer("en")) == ""


def test_smoothing_leaves_a_straight_line_straight() -> None:
    figure = loss_figure(points(*(5 - index / 100 for index in range(100))), [], Writer("en"))
    raw, median = re.findall(r'class="line training(?: raw)?" d="([^"]+)"', figure)
    assert raw == median


def test_a_spike_does_not_bend_the_smoothed_line() -> None:
    losses = [5 - index / 100 for index in range(100)]
    losses[40] = 9.0
    raw, median = re.findall(
        r'class="line training(?: raw)?" d="([^"]+)"', loss_figure(points(*losses), [], Writer("en"))
    )
    heights = [[float(pair.split()[1]) for pair in line.removeprefix("M").split("L")] for line in (raw, median)]
    assert min(heights[0]) == heights[0][40] < heights[1][40] - 50
    assert heights[1] == sorted(heights[1])


@pytest.mark.parametrize(
    ("curve", "validation", "said"),
    [
        ([3, 2, 1, 0.5, 0.3, 0.2], [3.0, 2.2, 1.9, 1.8, 1.95, 2.1], "ended"),
        ([3, 2, 1.5, 1.2, 0.9, 0.7], [3.0, 2.2, 1.9, 1.80, 1.79, 1.78], "grew"),
        ([8, 5, 4.0, 3.5, 3.0, 2.7], [8.3, 5.2, 4.4, 4.0, 3.6, 3.4], "grew"),  # by more than a quarter
        ([8, 5, 4.5, 4.2, 4.0, 3.9], [8.3, 5.2, 4.9, 4.7, 4.55, 4.5], "has not turned upwards"),
        ([3, 2, 1.85, 1.75, 1.74, 1.73], [3.0, 2.2, 1.9, 1.80, 1.79, 1.78], "stay together"),
        ([5, 4, 3.2, 2.7, 2.2, 1.8], [4.5, 3.6, 2.9, 2.4, 2.0, 1.8], "stay together"),  # ahead while the loss falls
        ([3, 2, 1], [], "No text was kept"),
        ([], [3.0, 2.0, 1.9], "did not turn"),
    ],
)
def test_the_gap_is_named_by_its_rule(curve: list[float], validation: list[float], said: str) -> None:
    message = describe_gap(points(*curve), points(*validation))
    assert said in message.text
    assert said in Writer("en").translator.message(message)


def test_the_rise_has_a_limit() -> None:
    below, above = (describe_gap([], points(3.0, 2.0, 2.0 * (1 + LIMIT + sign))) for sign in (-1e-6, 1e-6))
    assert "ended" not in below.text and "ended" in above.text
    assert above.values["step"] == 20 and above.values["rise"] == pytest.approx(LIMIT, abs=1e-5)


@pytest.mark.parametrize(
    ("mean", "low", "high", "ahead", "said"),
    [
        (1.70, 1.68, 1.72, "model", "model is ahead"),
        (1.79, 1.77, 1.81, NEITHER, "Neither"),
        (1.90, 1.88, 1.92, "5-gram", "model is behind"),
        (1.79, None, None, "model", "model is ahead"),
    ],
)
def test_who_is_ahead(mean: float, low: float | None, high: float | None, ahead: str, said: str) -> None:
    baselines = [{"name": "xz", "bits_per_byte": 2.2}, {"name": "5-gram", "bits_per_byte": 1.8}]
    model = {"mean": mean, "low": low, "high": high}
    assert leader(model, baselines) == ahead  # type: ignore[arg-type]
    message = verdict_on_baselines({"bits_per_byte": model, "baselines": baselines})  # type: ignore[typeddict-item]
    assert message and said in message.text
    sentence = Writer("en").translator.message(message)
    assert "1.800" in sentence and f"{mean:.3f}" in sentence and "5-gram" in sentence


def test_nobody_is_ahead_of_nothing() -> None:
    assert leader({"mean": 1.0}, []) is None
    assert verdict_on_baselines({"bits_per_byte": {"mean": 1.0}, "baselines": []}) is None


def test_bars_are_drawn_to_scale_and_stay_inside() -> None:
    drawn = bars([Bar("a", 1.0, "1", 0.5, 1.5, marks=[("chance", 0.25)]), Bar("b", 9.0, "9")], maximum=2.0)
    assert 'class="bar other" style="width:50.00%"' in drawn
    assert 'class="whisker" style="left:25.00%;width:50.00%"' in drawn
    assert 'class="mark chance" style="left:12.50%"' in drawn
    assert 'style="width:100.00%"' in drawn
    assert bars([], 1.0) == bars([Bar("a", 0.0, "0")], 0.0) == ""

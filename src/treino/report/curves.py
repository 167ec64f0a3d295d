"""Loss and validation curves as inline SVG, with their labels in HTML so that they stay readable at any width."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from treino.messages import N_
from treino.report.facts import Point
from treino.report.writer import Writer, details, table

WIDTH, HEIGHT = 1000.0, 400.0
MOST_POINTS = 500
SMOOTHED_FROM = 40  # fewer points are drawn as they are


class Axis(NamedTuple):
    """A linear axis from `low` to `high` with its ticks."""

    low: float
    high: float
    ticks: list[float]
    digits: int

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        return (value - self.low) / (self.high - self.low)


def axis(low: float, high: float, count: int = 5, *, whole: bool = False) -> Axis:
    """An axis over [low, high] whose ticks are multiples of 1, 2 or 5 · 10^k, about `count` of them."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    step = max(1.0, step) if whole else step
    first = math.ceil(low / step - 1e-9)
    ticks = [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]
    return Axis(low, high, ticks, max(0, -math.floor(math.log10(step) + 1e-9)))


LOSS_PER_TOKEN = N_("loss (nats per token)")


def loss_figure(
    curve: Sequence[Point], validation: Sequence[Point], writer: Writer, *, unit: str = LOSS_PER_TOKEN
) -> str:
    """The figure: every logged step thin, its running median thick, validation as dots; `unit` names the upright axis.

    "" when there is nothing to draw.
    """
    curve, validation = _finite(curve), _finite(validation)
    points = [*curve, *validation]
    if len(points) < 2:
        return ""
    losses = [point["loss"] for point in points]
    margin = 0.04 * (max(losses) - min(losses) or 1.0)
    horizontal = axis(0, max(point["step"] for point in points), whole=True)
    vertical = axis(max(0.0, min(losses) - margin), max(losses) + margin)
    label = writer.say(N_("Curves of the training: step by step on the training text, and on the validation text."))
    grid = "".join(f'<path class="grid" d="M0 {_y(vertical, tick)}H{WIDTH:g}"/>' for tick in vertical.ticks)
    drawing = (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f"{grid}{_training_lines(curve, horizontal, vertical)}"
        f"{_validation_line(validation, horizontal, vertical)}</svg>"
    )
    smoothed = writer.say(N_("Thin: every recorded step. Thick: the median of its neighbours."))
    caption = f"<figcaption>{smoothed}</figcaption>" if len(curve) >= SMOOTHED_FROM else ""
    return (
        f'<figure class="plot">{_legend(bool(curve), bool(validation), unit, writer)}'
        f'<div class="chart"><div class="area">{drawing}{_tick_labels(horizontal, vertical, writer)}</div></div>'
        f'<p class="axis-name">{writer.say(N_("step"))}</p>{caption}</figure>'
    )


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point["loss"])]


def _x(horizontal: Axis, step: float) -> str:
    return f"{WIDTH * horizontal.share(step):.1f}".removesuffix(".0")


def _y(vertical: Axis, loss: float) -> str:
    return f"{HEIGHT * (1 - vertical.share(loss)):.1f}".removesuffix(".0")


def _line(points: Sequence[tuple[float, float]], horizontal: Axis, vertical: Axis) -> str:
    return "M" + "L".join(f"{_x(horizontal, step)} {_y(vertical, loss)}" for step, loss in points)


def _training_lines(curve: Sequence[Point], horizontal: Axis, vertical: Axis) -> str:
    points = _thinned([(point["step"], point["loss"]) for point in curve])
    if not points:
        return ""
    raw = _line(points, horizontal, vertical)
    if len(points) < SMOOTHED_FROM:
        return f'<path class="line training" d="{raw}"/>'
    median = _line(_running_median(points, max(2, len(points) // 40)), horizontal, vertical)
    return f'<path class="line training raw" d="{raw}"/><path class="line training" d="{median}"/>'


def _validation_line(validation: Sequence[Point], horizontal: Axis, vertical: Axis) -> str:
    """A line with dots: a dot is a line of no length with round ends, which stays round when the SVG is stretched."""
    points = [(point["step"], point["loss"]) for point in validation]
    if not points:
        return ""
    dots = "".join(f"M{_x(horizontal, step)} {_y(vertical, loss)}h0" for step, loss in points)
    line = _line(points, horizontal, vertical)
    return f'<path class="line validation" d="{line}"/><path class="dots validation" d="{dots}"/>'


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` of them, evenly chosen, the first and the last kept."""
    if len(points) <= MOST_POINTS:
        return points
    return [points[round(index * (len(points) - 1) / (MOST_POINTS - 1))] for index in range(MOST_POINTS)]


def _running_median(points: Sequence[tuple[float, float]], reach: int) -> list[tuple[float, float]]:
    """Median of up to `reach` neighbours on both sides, equally many on each, so that the ends are not bent.

    A median, for a single spike would pull a mean up over its whole neighbourhood.
    """
    medians = []
    for index, (step, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)
        window = points[index - near : index + near + 1]
        medians.append((step, statistics.median(loss for _, loss in window)))
    return medians


def _legend(training: bool, validation: bool, unit: str, writer: Writer) -> str:
    entries = []
    if training:
        entries.append(f'<span class="key training">{writer.say(N_("training text"))}</span>')
    if validation:
        entries.append(f'<span class="key validation">{writer.say(N_("validation text, never learnt from"))}</span>')
    return f'<p class="legend"><span class="unit">{writer.say(unit)}</span>{"".join(entries)}</p>'


def _tick_labels(horizontal: Axis, vertical: Axis, writer: Writer) -> str:
    rows = "".join(
        f'<span class="tick y" style="top:{100 * (1 - vertical.share(tick)):.2f}%">'
        f"{writer.number(tick, vertical.digits)}</span>"
        for tick in vertical.ticks
    )
    columns = "".join(
        f'<span class="tick x" style="left:{100 * horizontal.share(tick):.2f}%">{writer.number(round(tick))}</span>'
        for tick in horizontal.ticks
    )
    return f'<div class="ticks" aria-hidden="true">{rows}{columns}</div>'


def loss_table(curve: Sequence[Point], validation: Sequence[Point], writer: Writer) -> str:
    """The curves as numbers: the steps at which validation was looked at, else a dozen of the training's."""
    if not (curve or validation):
        return ""
    training = {point["step"]: point["loss"] for point in curve}
    held = {point["step"]: point["loss"] for point in validation}
    chosen = sorted(held) or sorted(training)[:: max(1, len(training) // 12)]
    rows = []
    for step in chosen:
        nearest = min(training, key=lambda other: abs(other - step)) if training else None
        loss = training[nearest] if nearest is not None else None
        rows.append((writer.number(step), writer.number(loss, 3), writer.number(held.get(step), 3)))
    head = (writer.say(N_("step")), writer.say(N_("training loss")), writer.say(N_("validation loss")))
    return details(writer.say(N_("The curves as a table")), table(head, rows))

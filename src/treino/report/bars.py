"""Horizontal bars as HTML: real text beside each bar, so that they wrap, zoom and can be read aloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bar:
    """One bar. `label`, `text` and the marks' titles are HTML already.

    Attributes:
        value: its length, in the unit of the whole chart.
        text: the value as words, shown beside the bar.
        low, high: ends of an interval, drawn as a whisker.
        kind: a CSS class: "model", "other" or "bound".
        marks: (CSS class, value) of upright marks on the track.
    """

    label: str
    value: float
    text: str
    low: float | None = None
    high: float | None = None
    kind: str = "other"
    marks: Sequence[tuple[str, float]] = field(default_factory=tuple)


def bars(rows: Sequence[Bar], maximum: float) -> str:
    """A list of bars over the scale [0, maximum]."""
    if not rows or maximum <= 0:
        return ""

    def percent(value: float) -> str:
        return f"{100 * min(1.0, max(0.0, value / maximum)):.2f}%"

    items = []
    for row in rows:
        whisker = ""
        if row.low is not None and row.high is not None:
            width = f"{100 * max(0.0, min(row.high, maximum) - row.low) / maximum:.2f}%"
            whisker = f'<i class="whisker" style="left:{percent(row.low)};width:{width}"></i>'
        marks = "".join(f'<i class="mark {kind}" style="left:{percent(value)}"></i>' for kind, value in row.marks)
        items.append(
            f"<li{' class=marked' if row.marks else ''}>"
            f'<span class="bar-label">{row.label}</span><span class="bar-text">{row.text}</span>'
            f'<span class="track" aria-hidden="true"><i class="bar {row.kind}" style="width:{percent(row.value)}"></i>'
            f"{whisker}{marks}</span></li>"
        )
    return f'<ul class="bars">{"".join(items)}</ul>'

"""Figures of the planner, as PNG and SVG, readable in grey: told apart by hatching and signs, never by colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from treino import files
from treino.language import Translator
from treino.messages import N_
from treino.planning.advise import GRID, Advice
from treino.planning.course import PANELS, Bar

TITLES = {
    "parameters": N_("Parameters"),
    "usd": N_("Cost, US dollars"),
    "chips": N_("GPUs (A100) for the course's days"),
    "days": N_("Days on the course's GPUs"),
}
GREYS = {"said": "0.85", "calculated": "0.45"}


def course_figure(bars: Sequence[Bar], folder: Path, translator: Translator) -> list[Path]:
    """`course.png` and `course.svg` in the folder: four panels on logarithmic axes, with the course's bars hatched, the
    calculated ones with their intervals, and what happened as a diamond.
    """
    figure, axes = _figure(2, 2, (11, 8))
    for panel, axis in zip(PANELS, axes.flat, strict=True):
        _panel(axis, panel, bars, translator)
    handles, labels = axes.flat[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return save(figure, folder, "course")


def _figure(rows: int, columns: int, size: tuple[float, float]) -> Any:
    """A figure of matplotlib without a window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _panel(axis: Any, panel: str, bars: Sequence[Bar], translator: Translator) -> None:
    places = range(len(bars))
    said = [bar.said[panel] for bar in bars]
    axis.bar(
        [place - 0.2 for place in places],
        said,
        0.38,
        color=GREYS["said"],
        edgecolor="black",
        hatch="//",
        label=translator.text(N_("the course says")),
    )
    known = [(place, bar.calculated[panel]) for place, bar in zip(places, bars, strict=True) if bar.calculated[panel]]
    middles = [interval.middle for _, interval in known if interval]
    off = [[i.middle - i.low for _, i in known if i], [i.high - i.middle for _, i in known if i]]
    axis.bar(
        [place + 0.2 for place, _ in known],
        middles,
        0.38,
        yerr=off,
        capsize=4,
        color=GREYS["calculated"],
        edgecolor="black",
        label=translator.text(N_("calculated, with its 80 % interval")),
    )
    real = [(place, bar.happened[panel]) for place, bar in zip(places, bars, strict=True) if panel in bar.happened]
    axis.plot(
        [place for place, _ in real],
        [value for _, value in real],
        "D",
        color="black",
        markerfacecolor="white",
        markersize=8,
        linestyle="none",
        label=translator.text(N_("what happened")),
    )
    axis.set_yscale("log")
    axis.set_xlim(-0.6, len(bars) - 0.4)
    axis.set_xticks(list(places), [bar.name for bar in bars])
    axis.set_title(translator.text(TITLES[panel]))
    axis.yaxis.grid(True, color="0.9")
    axis.set_axisbelow(True)


MARKS = "osD^vP*Xhp<>dH8"
"""Signs of options, told apart without colour."""


def advice_figure(advice: Advice, folder: Path, translator: Translator) -> list[Path]:
    """`advice-<card>.png` and `.svg`: cost against quality with their intervals, larger where it is ready sooner, the budget
    and the least quality as lines; beside it, which option wins for which weights.
    """
    figure, axes = _figure(1, 2, (14, 6.5))
    signs = {option.key: MARKS[index % len(MARKS)] for index, option in enumerate(advice.options)}
    _scatter(axes[0][0], advice, signs, translator)
    _weights(axes[0][1], advice, signs, translator)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, markerscale=0.7)
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    return save(figure, folder, f"advice-{advice.gpu.replace(':', 'x')}")


def _scatter(axis: Any, advice: Advice, signs: dict[str, str], translator: Translator) -> None:
    scenario = advice.scenario
    for option in advice.options:
        cost, quality = (option.attributes[name] for name in ("cost", "quality"))
        days = max(0.5, option.attributes["days"].middle)
        axis.errorbar(
            [cost.middle],
            [quality.middle],
            xerr=[[cost.middle - cost.low], [cost.high - cost.middle]],
            yerr=[[quality.middle - quality.low], [quality.high - quality.middle]],
            color="0.75",
            zorder=1,
        )
        axis.scatter(
            [cost.middle],
            [quality.middle],
            s=40 + 400 / days,
            marker=signs[option.key],
            facecolor="0.9" if option.limits else "0.35",
            edgecolor="black",
            zorder=2,
            label=translator.message(option.label),
        )
    axis.axvline(scenario.budget, color="black", linestyle="--", label=translator.text(N_("budget")))
    if scenario.minimum_quality:
        axis.axhline(scenario.minimum_quality, color="black", linestyle=":", label=translator.text(N_("least quality")))
    axis.set_xscale("log")
    axis.set_xlabel(translator.text(N_("cost with {months} months of answers, US dollars"), months=scenario.months))
    axis.set_ylabel(translator.text(N_("quality, points of 100")))
    axis.set_title(translator.text(N_("Larger: ready sooner. Pale: breaks a hard limit.")))


def _weights(axis: Any, advice: Advice, signs: dict[str, str], translator: Translator) -> None:
    """The winner at each pair of weights; the rest of the weight is the other attributes'."""
    for key in dict.fromkeys(key for _, _, key in advice.weights):
        places = [(quality, cost) for quality, cost, other in advice.weights if other == key]
        axis.scatter(*zip(*places, strict=True), s=90, marker=signs[key], facecolor="0.35", edgecolor="black")
    total = sum(advice.scenario.weights.values())
    own = (advice.scenario.weights["quality"] / total, advice.scenario.weights["cost"] / total)
    axis.scatter([own[0]], [own[1]], s=420, facecolor="none", edgecolor="black", linewidth=2)
    margin = 0.5 / (GRID - 1)
    axis.set_xlim(-margin, 1 + margin)
    axis.set_ylim(-margin, 1 + margin)
    axis.set_xlabel(translator.text(N_("weight of quality")))
    axis.set_ylabel(translator.text(N_("weight of cost")))
    axis.set_title(translator.text(N_("Which option wins for which weights (ring: yours)")))


def save(figure: Any, folder: Path, name: str) -> list[Path]:
    """The figure as PNG and SVG, the same bytes for the same figure."""
    from matplotlib import rc_context

    files.make_private(folder)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with rc_context({"svg.hashsalt": "treino", "svg.fonttype": "none"}):
        figure.savefig(paths[0])
        figure.savefig(paths[1], metadata={"Date": None})
    return paths

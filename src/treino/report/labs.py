"""Figures and pages of the labs; figures are readable in grey: told apart by hatching and signs, never by colour alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from treino import files
from treino.language import Translator
from treino.messages import N_
from treino.report.page import Section, page
from treino.report.planning_figures import save
from treino.report.writer import Writer, table, text_table

CURE_NAMES = {
    "plain": N_("without a cure"),
    "l2_sp": N_("L2-SP"),
    "ewc": N_("EWC"),
    "rehearsal": N_("rehearsal"),
    "distillation": N_("distillation"),
}
TOWN_TASKS = {"mood": N_("mood of the outing"), "what": N_("what was visited"), "day": N_("day of the outing")}
LOOKS = {
    "plain": ("white", "", "*"),
    "l2_sp": ("0.8", "..", "s"),
    "ewc": ("0.6", "//", "^"),
    "rehearsal": ("0.35", "", "o"),
    "distillation": ("0.75", "xx", "D"),
}
"""Grey, hatching and sign of each way."""
CORNERS = {"l2_sp": (1, 1), "ewc": (-1, 1), "rehearsal": (1, -1), "distillation": (-1, -1)}
"""The corner (right, up) of a cure's points that their strengths stand at: cures that come out alike do not write over each
other."""

BARS = (N_("{a} after A"), N_("{b} after B"), N_("{a} after B"), N_("{c} after C"), N_("{a} after C"))


def forgetting_figures(
    found: Mapping[str, Any], bars: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, translator: Translator
) -> list[Path]:
    """`forgetting.png` and `.svg`, the bars with their intervals; `tradeoff.png` and `.svg`, over the cures' strengths."""
    return _bars(bars, folder, translator) + _trade(found, folder, translator)


def _bars(bars: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, translator: Translator) -> list[Path]:
    figure, axis = _figure((10, 5))
    width = 0.8 / len(bars)
    for number, (cure, row) in enumerate(bars.items()):
        grey, hatch, _ = LOOKS[cure]
        places = [group + (number - (len(bars) - 1) / 2) * width for group in range(len(row))]
        means = [bar["mean"] for bar in row]
        reach = [
            (bar["mean"] - max(0.0, bar["low"]), min(1.0, bar["high"]) - bar["mean"])
            for bar in row
            if bar["low"] is not None
        ]
        axis.bar(
            places, means, width, yerr=list(zip(*reach, strict=True)) or None, capsize=2, error_kw={"linewidth": 0.8},
            color=grey, edgecolor="black", hatch=hatch, label=translator.text(CURE_NAMES[cure]),
        )  # fmt: skip
    axis.set_xticks(range(len(BARS)), [translator.text(text, a="A", b="B", c="C") for text in BARS])
    axis.set_ylim(0, 1.04)
    axis.yaxis.set_major_formatter(lambda value, _: translator.percent(value, 0))
    axis.set_ylabel(translator.text(N_("accuracy on held-out texts")))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=len(bars), frameon=False)
    return _saved(figure, axis, folder, "forgetting")


def _trade(found: Mapping[str, Any], folder: Path, translator: Translator) -> list[Path]:
    figure, axis = _figure((7.5, 5.5))
    for cure in CURE_NAMES:
        # Every line sets out from training without a cure, which is that cure at the strength 0.
        rows = sorted((row for row in found["rows"] if row["cure"] in (cure, "plain")), key=lambda row: row["strength"])
        if len(rows) < 2 and cure != "plain":
            continue
        x, y = [fmean(row["lost"]) for row in rows], [fmean(row["gained"]) for row in rows]
        grey, _, sign = LOOKS[cure]
        size = 16 if cure == "plain" else 8
        axis.plot(
            x, y, "--" if cure in ("ewc", "distillation") else "-", color="0.4", marker=sign, markersize=size,
            markerfacecolor=grey, markeredgecolor="black", label=translator.text(CURE_NAMES[cure]),
            markevery=slice(0 if cure == "plain" else 1, None), zorder=3 if cure == "plain" else 2,
        )  # fmt: skip
        for place in range(1, len(rows)):
            text = _strength(rows[place]["strength"], translator)
            right, up = CORNERS[cure]
            axis.annotate(
                *(text, (x[place], y[place]), (7 * right, 6 * up)),
                textcoords="offset points",
                fontsize=8,
                ha="left" if right > 0 else "right",
                va="bottom" if up > 0 else "top",
                zorder=5,
            )
    axis.margins(0.12)
    for side, text in (("x", N_("forgotten of A (accuracy)")), ("y", N_("learnt of B and C (accuracy)"))):
        getattr(axis, f"{side}axis").set_major_formatter(lambda value, _: translator.percent(value, 0))
        getattr(axis, f"set_{side}label")(translator.text(text))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)
    return _saved(figure, axis, folder, "tradeoff")


def ranks_figure(found: Mapping[str, Any], folder: Path, translator: Translator) -> list[Path]:
    """`lora-ranks.png` and `.svg`: reduction and memory of the course's layers by rank, and the measured accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.4), dpi=120)
    panels = figure.subplots(1, 3)
    for layer, (line, sign) in zip(found["layers"], (("-", "o"), ("--", "s")), strict=True):
        ranks = [row["rank"] for row in layer]
        name = f"{layer[0]['inputs']} × {layer[0]['outputs']}"
        look: dict[str, Any] = {"color": "0.25", "marker": sign, "markerfacecolor": "white", "label": name}
        panels[0].plot(ranks, [row["reduction"] for row in layer], line, **look)
        panels[1].plot(ranks, [row["bytes"] for row in layer], line, **look)
    panels[0].yaxis.set_major_formatter(lambda value, _: translator.percent(value, 0))
    panels[1].set_yscale("log", base=2)
    panels[1].yaxis.set_major_formatter(lambda value, _: _mebibytes(value, translator))
    _measured(panels[2], found["measured"], translator)
    titles = (
        N_("Fewer parameters to train than in the layer"),
        N_("Memory of the adapter in 16 bits"),
        N_("Accuracy on held-out texts, measured"),
    )
    for axis, title in zip(panels, titles, strict=True):
        axis.set_title(translator.text(title), fontsize=10)
        axis.set_xscale("log", base=2)
        axis.set_xticks([row["rank"] for row in found["layers"][0]])
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
        axis.set_xlabel(translator.text(N_("rank")))
        axis.grid(axis="y", color="0.9")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=9)
    figure.tight_layout()
    return save(figure, folder, "lora-ranks")


def _measured(axis: Any, rows: Sequence[Mapping[str, Any]], translator: Translator) -> None:
    adapted = [row for row in rows if row["method"] == "lora"]
    means = [row["accuracy"]["mean"] for row in adapted]
    reach = [
        0.0 if row["accuracy"]["low"] is None else row["accuracy"]["mean"] - row["accuracy"]["low"] for row in adapted
    ]
    axis.errorbar([row["rank"] for row in adapted], means, reach, color="0.25", marker="o", capsize=3, label="LoRA")
    ends = [mean + sign * off for mean, off in zip(means, reach, strict=True) for sign in (-1, 1)]
    for method, line, text in (("full", "--", N_("all weights")), ("frozen", ":", N_("the head alone"))):
        mean = next(row["accuracy"]["mean"] for row in rows if row["method"] == method)
        axis.axhline(mean, linestyle=line, color="black", label=translator.text(text))
        ends.append(mean)
    axis.yaxis.set_major_formatter(lambda value, _: translator.percent(value, 0))
    axis.set_ylim(max(0.0, min(ends) - 0.05), min(1.0, max(ends) + 0.15))


def _strength(value: float | None, translator: Translator) -> str:
    """A cure's strength with as many digits as it has."""
    return "–" if value is None else translator.number(value, len(f"{value:g}".partition(".")[2]))


def _mebibytes(count: float, translator: Translator) -> str:
    """As the course gives them: a quarter of one for 131,072 numbers of 16 bits."""
    size = count / 2**20
    return f"{translator.number(size, 2 if size >= 0.1 else 4)} MiB"


def _figure(size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120)
    return figure, figure.subplots()


def _saved(figure: Any, axis: Any, folder: Path, name: str) -> list[Path]:
    axis.grid(axis="y", color="0.9")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return save(figure, folder, name)


def forgetting_page(
    found: Mapping[str, Any], bars: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, language: str
) -> Path:
    """Write `forgetting.html` beside the figures, which it holds."""
    writer = Writer(language)
    tasks = ", ".join(
        f"{letter}: {writer.label(name, TOWN_TASKS)}" for letter, name in zip("ABC", found["tasks"], strict=True)
    )
    seeds = writer.say(
        N_(
            "One body learns A, then B, then C, each with a head of its own. {seeds} seeds; whiskers are Student's 95 % "
            "intervals over them. Every way takes as many floating-point operations for B and C; each cure stands at "
            "the strength that validation chose."
        ),
        seeds=found["seeds"],
    )
    trade = writer.say(
        N_(
            "Each line sets out from training without a cure, and each point on it is the cure at the strength written beside "
            "it. To the left less is forgotten, further up more is learnt: the best place is at the top left."
        )
    )
    sections = [
        Section(
            "bars", writer.say(N_("A, then B, A again, C, A again")), f'<p class="lead">{seeds}</p><p>{tasks}</p>'
            + _inlined(folder / "forgetting.svg", writer.say(N_("accuracies as bars"))) + _bars_table(bars, found, writer),
        ),
        Section(
            "trade", writer.say(N_("What a cure costs")), f'<p class="lead">{trade}</p>'
            + _inlined(folder / "tradeoff.svg", writer.say(N_("accuracy learnt over accuracy forgotten"))),
        ),
    ]  # fmt: skip
    return _write(writer, N_("The lab of forgetting"), sections, folder / "forgetting.html")


def _bars_table(bars: Mapping[str, Sequence[Mapping[str, Any]]], found: Mapping[str, Any], writer: Writer) -> str:
    head = [writer.say(N_("cure")), writer.say(N_("strength"))]
    head += [writer.say(text, a="A", b="B", c="C") for text in BARS]
    chosen = {"plain": None, **found["chosen"]}
    return table(
        head,
        (
            [
                writer.label(cure, CURE_NAMES),
                _strength(chosen[cure], writer.translator),
                *(_interval(bar, writer) for bar in row),
            ]
            for cure, row in bars.items()
        ),
    )


def _interval(bar: Mapping[str, Any], writer: Writer) -> str:
    mean = writer.percent(bar["mean"])
    if bar["low"] is None:
        return mean
    return f"{mean} <small>± {writer.number(100 * (bar['mean'] - bar['low']), 1)}</small>"


def ranks_page(found: Mapping[str, Any], folder: Path, language: str) -> Path:
    """Write `lora-ranks.html` beside the figure, which it holds."""
    writer = Writer(language)
    lead = writer.say(
        N_(
            "The layers are counted, the accuracy is measured ({seeds} seeds, Student's 95 % intervals). An adapter of rank r "
            "beside a layer of n inputs and m outputs trains r · (n + m) numbers."
        ),
        seeds=found["seeds"],
    )
    head = (N_("layer"), N_("rank"), N_("its parameters"), N_("trained"), N_("reduction"), N_("memory in 16 bits"))
    counted = table(
        [writer.say(text) for text in head],
        (
            [
                f"{row['inputs']} × {row['outputs']}", writer.number(row["rank"]), writer.number(row["parameters"]),
                writer.number(row["trainable"]), writer.percent(row["reduction"], 2),
                _mebibytes(row["bytes"], writer.translator),
            ]
            for layer in found["layers"] for row in layer
        ),
    )  # fmt: skip
    names = {"lora": N_("LoRA"), "full": N_("all weights"), "frozen": N_("the head alone")}
    head = (N_("method"), N_("rank"), N_("trained"), N_("accuracy"))
    measured = table(
        [writer.say(text) for text in head],
        (
            [
                writer.label(row["method"], names), writer.number(row["rank"]), writer.number(row["trainable"]),
                _interval(row["accuracy"], writer),
            ]
            for row in found["measured"]
        ),
    )  # fmt: skip
    picture = _inlined(folder / "lora-ranks.svg", writer.say(N_("reduction, memory and accuracy by rank")))
    sections = [
        Section("picture", writer.say(N_("By rank")), f'<p class="lead">{lead}</p>{picture}'),
        Section("counted", writer.say(N_("Counted on the layers")), counted),
        Section("measured", writer.say(N_("Measured on the texts")), measured),
    ]
    return _write(writer, N_("The lab of LoRA's rank"), sections, folder / "lora-ranks.html")


def _inlined(path: Path, label: str) -> str:
    """A figure of ours as a part of the page, which may load nothing."""
    svg = path.read_text(encoding="utf-8")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*"', rf'\1width="100%" role="img" aria-label="{label}"', svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*" ', r"\1", svg, count=1)
    return f"<figure>{svg}</figure>"


def _write(writer: Writer, title: str, sections: Sequence[Section], path: Path) -> Path:
    name = writer.say(title)
    files.write_text(path, page(writer, name, f"<header><h1>{name}</h1></header>", sections))
    return path


def forgetting_lines(bars: Mapping[str, Sequence[Mapping[str, Any]]], translator: Translator) -> list[str]:
    """The bars as a table of plain text."""
    head = ["", *(translator.text(text, a="A", b="B", c="C") for text in BARS)]
    rows = [
        [translator.text(CURE_NAMES[cure]), *(_plain(bar, translator) for bar in row)] for cure, row in bars.items()
    ]
    return text_table([head, *rows])


def ranks_lines(found: Mapping[str, Any], translator: Translator) -> list[str]:
    """What was counted and measured, by rank, as a table of plain text."""
    by_rank = {row["rank"]: row for row in found["measured"]}
    wide, small = found["layers"]
    head = [translator.text(N_("rank")), "4096 × 4096", "", "512 × 256", "", translator.text(N_("accuracy"))]
    rows = [head]
    for one, two in zip(wide, small, strict=True):
        cells = [translator.number(one["rank"])]
        for row in (one, two):
            cells += [translator.number(row["trainable"]), translator.percent(row["reduction"], 2)]
        rows.append([*cells, _plain(by_rank[one["rank"]]["accuracy"], translator) if one["rank"] in by_rank else ""])
    for row in found["measured"]:
        if row["rank"] is None:
            name = N_("all weights") if row["method"] == "full" else N_("the head alone")
            rows.append([translator.text(name), "", "", "", "", _plain(row["accuracy"], translator)])
    return text_table(rows)


def _plain(bar: Mapping[str, Any], translator: Translator) -> str:
    mean = translator.percent(bar["mean"])
    return mean if bar["low"] is None else f"{mean} ± {translator.number(100 * (bar['mean'] - bar['low']), 1)}"

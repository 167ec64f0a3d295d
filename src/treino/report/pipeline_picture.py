"""The pipeline as a picture: a box for every stage with its documents, time and size, which wraps on narrow screens."""

from __future__ import annotations

from collections.abc import Sequence

from treino.messages import N_
from treino.report.facts import Stage
from treino.report.writer import Writer, terms

ICONS = {
    # line drawings on a 24 × 24 grid
    "collect": '<path d="M12 3v11m-4-4 4 4 4-4"/><path d="M4 14v5a2 2 0 0 0 2 2h12a2 2 0 0 0 2-2v-5"/>',
    "clean": '<path d="M11 3l1.8 5.2L18 10l-5.2 1.8L11 17l-1.8-5.2L4 10l5.2-1.8z"/><path d="M18 15v6m-3-3h6"/>',
    "filter": '<path d="M3 4h18l-7 9v6l-4 2v-8z"/>',
    "deduplicate": '<rect x="3" y="3" width="12" height="12" rx="2"/><path d="M19 9v10a2 2 0 0 1-2 2H9" '
    'stroke-dasharray="3 2.4"/>',
    "decontaminate": '<circle cx="12" cy="12" r="9"/><path d="M6 18 18 6"/>',
    "score": '<path d="M4 20h16M6 20v-6m6 6V8m6 12V4"/>',
    "order": '<path d="M4 6h6M4 12h10M4 18h16"/><path d="M18 4v8m-3-5 3-3 3 3"/>',
    "tokenise": '<rect x="2.5" y="8" width="5.5" height="8" rx="1.5"/>'
    '<rect x="10" y="8" width="3.5" height="8" rx="1.5"/><rect x="15.5" y="8" width="6" height="8" rx="1.5"/>',
    "pretrain": '<circle cx="5" cy="6" r="2"/><circle cx="5" cy="18" r="2"/><circle cx="12" cy="12" r="2"/>'
    '<circle cx="19" cy="6" r="2"/><circle cx="19" cy="18" r="2"/>'
    '<path d="M6.5 7.3l4 3.4m-4 6 4-3.4m3 0 4 3.4m0-9.4-4 3.4"/>',
    "evaluate": '<path d="M4 18a8.5 8.5 0 1 1 16 0"/><path d="M12 16l4-6"/><circle cx="12" cy="16" r="1.4"/>',
    "adopt": '<path d="M12 14V3m-4 4 4-4 4 4" transform="rotate(180 12 8.5)"/><circle cx="12" cy="18" r="3"/>',
    "split": '<path d="M4 12h6m0 0 6-6h4m-10 6h10m-10 0 6 6h4"/>',
    "compare": '<path d="M12 4v16M7 20h10M5 7h14"/><path d="M5 7 2.5 13h5zM19 7l-2.5 6h5z"/>',
    "finetune": '<path d="M5 4v16M12 4v16M19 4v16"/><circle cx="5" cy="9" r="2.2"/><circle cx="12" cy="15" r="2.2"/>'
    '<circle cx="19" cy="7" r="2.2"/>',
    "gather": '<path d="M4 4h11v8H8l-4 3z"/><path d="M18 9h2v8l-3-2h-6v-1"/>',
    "chat": '<path d="M3 5h18v11h-9l-5 4v-4H3z"/><path d="M8 10.5h8"/>',
    "judge": '<path d="M4 12.5l5 5L20 6.5"/>',
    "report": '<rect x="4" y="3" width="16" height="18" rx="2"/><path d="M8 16v-4m4 4V8m4 8v-6"/>',
}
OTHER = '<rect x="4" y="4" width="16" height="16" rx="4"/><path d="M9 12h6m-3-3v6"/>'
ARROW = (
    '<svg class="arrow" viewBox="0 0 24 12" aria-hidden="true" focusable="false"><path d="M1 6h20m-5-5 5 5-5 5"/></svg>'
)


def pipeline_picture(stages: Sequence[Stage], writer: Writer) -> str:
    """Boxes in order with arrows between them, and below them how the time was shared out."""
    boxes = "".join(
        f'<li class="stage {_state(stage)}">{_box(stage, writer)}{ARROW if stage is not stages[-1] else ""}</li>'
        for stage in stages
    )
    return f'<ol class="pipeline">{boxes}</ol>{_time_shares(stages, writer)}'


def _state(stage: Stage) -> str:
    return "cached" if stage.get("state") == "cached" else "ran"


def _box(stage: Stage, writer: Writer) -> str:
    name = stage.get("name", "")
    icon = ICONS.get(name, OTHER)
    state = writer.say(N_("was ready")) if _state(stage) == "cached" else writer.say(N_("ran"))
    figures = terms(_figures(stage, writer), "figures")
    return (
        f'<div class="box"><svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">{icon}</svg>'
        f'<h3>{writer.label(name)}</h3><span class="state">{state}</span>{figures}</div>'
    )


def _figures(stage: Stage, writer: Writer) -> list[tuple[str, str]]:
    before, after = stage.get("documents_in"), stage.get("documents_out")
    documents = writer.number(before if after is None else after)
    if before is not None and after is not None and before != after:
        documents = f"{writer.number(before)}&#8239;→&#8239;{documents}"
    return [
        (writer.say(N_("documents")), documents),
        (writer.say(N_("time")), writer.seconds(stage.get("seconds"))),
        (writer.say(N_("output")), writer.bytes(stage.get("bytes_out"))),
        (writer.say(N_("memory")), writer.bytes(stage.get("peak_memory"))),
    ]


def _time_shares(stages: Sequence[Stage], writer: Writer) -> str:
    """One bar, cut in proportion to the seconds; pieces under a twelfth of it are too narrow for their name."""
    timed = [(stage.get("name", ""), stage.get("seconds") or 0.0) for stage in stages]
    total = sum(seconds for _, seconds in timed)
    if total <= 0:
        return ""
    pieces = []
    for index, (name, seconds) in enumerate(timed):
        text = writer.label(name) if seconds / total > 1 / 12 else ""
        title = f"{writer.label(name)}: {writer.seconds(seconds)}"
        width = f"{100 * seconds / total:.2f}%"
        pieces.append(f'<span class="shade-{index % 4}" style="width:{width}" title="{title}">{text}</span>')
    caption = writer.say(N_("Where the time went: {total:seconds} in all."), total=total)
    strip = f'<div class="strip" aria-hidden="true">{"".join(pieces)}</div>'
    return f'<figure class="shares">{strip}<figcaption>{caption}</figcaption></figure>'

"""The section of the report on the corpus: what each step left, as bars and as a table, and what is in it now."""

from __future__ import annotations

from treino.messages import N_
from treino.report.bars import Bar, bars
from treino.report.data_card import STEP_COLUMNS, order_messages, step_cells
from treino.report.facts import Corpus
from treino.report.writer import Writer, details, escape, table


def corpus_section(corpus: Corpus, writer: Writer) -> str:
    """Empty where no step is known."""
    steps = corpus.get("steps") or []
    if not steps:
        return ""
    lead = writer.say(N_("Documents that each step left, and what they are made of."))
    cells = step_cells(steps, writer.translator)
    rows = [
        Bar(escape(row[0]), step.get("documents_out") or 0, f"{escape(row[2])} · {escape(row[3])}")
        for step, row in zip(steps, cells, strict=True)
    ]
    whole = table([writer.say(name) for name in STEP_COLUMNS], [[escape(cell) for cell in row] for row in cells])
    order = "".join(
        f"<p>{escape(writer.translator.message(one))}</p>" for one in order_messages(corpus.get("order") or {})
    )
    return (
        f'<p class="lead">{lead}</p>{bars(rows, max((bar.value for bar in rows), default=0))}'
        f"{details(writer.say(N_('Every step as a table')), whole)}{_shares(corpus, writer)}{order}"
    )


def _shares(corpus: Corpus, writer: Writer) -> str:
    """Bars of the text's share by language and by licence, where there is more than one."""
    parts = []
    for title, counts in ((N_("By language"), corpus.get("languages")), (N_("By licence"), corpus.get("licences"))):
        total = sum(count["bytes"] for count in (counts or {}).values())
        if not counts or len(counts) < 2 or not total:
            continue
        ordered = sorted(counts.items(), key=lambda item: -item[1]["bytes"])
        rows = [
            Bar(
                escape(name) if name else writer.say(N_("not stated")),
                count["bytes"],
                writer.percent(count["bytes"] / total),
            )
            for name, count in ordered
        ]
        parts.append(f"<h3>{writer.say(title)}</h3>{bars(rows, total)}")
    return "".join(parts)

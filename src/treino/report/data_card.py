"""The data card of a corpus: where it comes from, what was done to it, and what is left, as Markdown that the Hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from treino.corpus.rules import RULES
from treino.language import Translator
from treino.messages import N_, Message
from treino.report.facts import Corpus, Step, present
from treino.report.labels import LABELS, STEPS
from treino.report.markdown import document, label, language_lines, markdown_table, plain
from treino.report.writer import UNKNOWN

LONGEST_EXAMPLE = 120
"""Characters of an example on the card."""

HELD_OUT = {
    "names": N_("The held-out part was named in the recipe; nothing learns from it."),
    "documents": N_("The held-out part was chosen by a hash of each document; nothing learns from it."),
    "tails": N_("The documents are few, so the end of each is held out; nothing learns from it."),
    "none": N_("Nothing is held out."),
}
NOT_CHECKED = N_(
    "Personal data, insults and mistakes are found by rules that miss some and flag others wrongly; what remains was not "
    "read by a person."
)


def data_card(facts: Mapping[str, Any], language: str) -> str:
    """The card of `treino.report.facts.Corpus`. It shows text only if the facts hold examples."""
    known, translator = cast(Corpus, present(dict(facts))), Translator(language)
    return document(
        _front_matter(known),
        known.get("name") or "corpus",
        _left(known, translator),
        _sources(known, translator),
        _steps(known, translator),
        _rules(known, translator),
        _shares(known, translator),
        _order(known, translator),
        _examples(known, translator),
        _made(known, translator),
    )


def _front_matter(facts: Corpus) -> str:
    """YAML; every string quoted as JSON, which YAML contains, so that none can break out of its line."""
    languages = filter(None, facts.get("languages") or {})
    licences = sorted(name for name in facts.get("licences") or {} if name)
    documents = sum(part["documents"] for part in (facts.get("parts") or {}).values())
    lines = ["---", *language_lines(languages)]
    lines += [f"license: {json.dumps(licences[0] if len(licences) == 1 else 'other' if licences else 'unknown')}"]
    lines += ["task_categories:", "- text-generation", f"size_categories:\n- {size_category(documents)}"]
    lines += ["configs:", "- config_name: default", "  data_files:"]
    lines += [
        f"  - split: {split}\n    path: {part}/*.parquet"
        for split, part in (("train", "training"), ("test", "held_out"))
    ]
    return "\n".join([*lines, "---"])


def size_category(documents: int) -> str:
    """The Hub's name for a size: n<1K, 1K<n<10K … 1B<n."""
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    below = [name for place, name in enumerate(names) if documents >= 1000 * 10**place]
    if not below:
        return "n<1K"
    return f"{below[-1]}<n" + (f"<{names[len(below)]}" if len(below) < len(names) else "")


def _left(facts: Corpus, translator: Translator) -> str:
    parts = facts.get("parts") or {}
    training, held_out = parts.get("training", {}), parts.get("held_out", {})
    sentence = N_(
        "{documents} documents ({size:bytes} of text) to learn from and {others} ({other_size:bytes}) held out, in Parquet "
        "files with the columns id, text, source, content_hash, language, licence, weight and meta."
    )
    text = translator.text(
        sentence,
        documents=training.get("documents", 0),
        size=training.get("bytes", 0),
        others=held_out.get("documents", 0),
        other_size=held_out.get("bytes", 0),
    )
    method = HELD_OUT.get(facts.get("held_out_method", ""))
    return f"{text} {translator.text(method)}" if method else text


def _sources(facts: Corpus, translator: Translator) -> str:
    unknown = translator.text(N_("not stated"))
    rows = [
        (
            plain(source.get("name") or translator.text(N_("written in the recipe"))),
            plain(source.get("language") or unknown),
            plain(source.get("licence") or unknown),
            translator.number(source.get("weight", 1.0)),
            _count(source.get("documents"), translator),
            translator.number(count) if (count := source.get("files")) else UNKNOWN,
            f"`{digest[:12]}`" if (digest := source.get("digest")) else UNKNOWN,
        )
        for source in facts.get("sources") or []
    ]
    names = (N_("source"), N_("language"), N_("licence"), N_("weight"), N_("documents"), N_("files"), N_("digest"))
    head = [translator.text(name) for name in names]
    return f"## {translator.text(N_('Sources'))}\n\n{markdown_table(head, rows)}" if rows else ""


STEP_COLUMNS = (
    N_("step"),
    N_("documents in"),
    N_("documents out"),
    N_("text out"),
    N_("removed"),
    N_("changed"),
    N_("time"),
)
"""Titles of what `step_cells` gives."""


def _steps(facts: Corpus, translator: Translator) -> str:
    rows = [[plain(cell) for cell in row] for row in step_cells(facts.get("steps") or [], translator)]
    head = [translator.text(name) for name in STEP_COLUMNS]
    return f"## {translator.text(N_('What was done'))}\n\n{markdown_table(head, rows)}" if rows else ""


def step_cells(steps: list[Step], translator: Translator) -> list[list[str]]:
    """For each step its name, documents in and out, bytes of text out, documents removed and changed, and seconds, as words."""
    cells = []
    for step in steps:
        stage, name = step.get("stage", ""), step.get("step", "")
        own = label(stage, translator)
        title = own if name in ("", stage) else f"{own}: {label(name, translator, LABELS | STEPS)}"
        size, seconds = step.get("bytes_out"), step.get("seconds")
        cells.append(
            [
                title,
                _count(step.get("documents_in"), translator),
                _count(step.get("documents_out"), translator),
                UNKNOWN if size is None else translator.bytes(size),
                translator.number(sum((step.get("removed_by_rule") or {}).values())),
                translator.number(sum((step.get("changed_by_rule") or {}).values())),
                UNKNOWN if seconds is None else translator.seconds(seconds),
            ]
        )
    return cells


def _count(value: int | None, translator: Translator) -> str:
    return UNKNOWN if value is None else translator.number(value)


def _rules(facts: Corpus, translator: Translator) -> str:
    removed, changed = by_rule(facts.get("steps") or [])
    rows = [
        (plain(label(rule, translator, RULES)), translator.text(what), translator.number(count))
        for what, counts in ((N_("removed"), removed), (N_("changed"), changed))
        for rule, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if count
    ]
    head = [translator.text(name) for name in (N_("rule"), N_("what it did"), N_("documents"))]
    return f"## {translator.text(N_('By rule'))}\n\n{markdown_table(head, rows)}" if rows else ""


def by_rule(steps: list[Step]) -> tuple[dict[str, int], dict[str, int]]:
    """Documents removed and changed by each rule, over all steps."""
    removed: dict[str, int] = {}
    changed: dict[str, int] = {}
    for step in steps:
        for counts, found in ((removed, step.get("removed_by_rule")), (changed, step.get("changed_by_rule"))):
            for rule, count in (found or {}).items():
                counts[rule] = counts.get(rule, 0) + count
    return removed, changed


def _shares(facts: Corpus, translator: Translator) -> str:
    tables = []
    for title, counts in ((N_("language"), facts.get("languages")), (N_("licence"), facts.get("licences"))):
        total = sum(count["bytes"] for count in (counts or {}).values())
        rows = [
            (
                plain(name or translator.text(N_("not stated"))),
                translator.number(count["documents"]),
                translator.percent(count["bytes"] / total),
            )
            for name, count in sorted((counts or {}).items(), key=lambda item: -item[1]["bytes"])
            if total
        ]
        if rows:
            head = [translator.text(name) for name in (title, N_("documents"), N_("share of the text"))]
            tables.append(markdown_table(head, rows))
    return "\n\n".join([f"## {translator.text(N_('What it is made of'))}", *tables]) if tables else ""


def _order(facts: Corpus, translator: Translator) -> str:
    sentences = [translator.message(message) for message in order_messages(facts.get("order") or {})]
    return f"## {translator.text(N_('Order'))}\n\n{' '.join(sentences)}" if sentences else ""


def order_messages(order: Mapping[str, Any]) -> list[Message]:
    """What the stage order arranged, where it arranged anything."""
    found = []
    if "readings_per_epoch" in order:
        text = N_(
            "By weights and up-sampling an epoch reads {readings_per_epoch:0} documents: {read_more_than_once} more often "
            "than once, {read_less_than_once} less often (`order.parquet`)."
        )
        found.append(Message(text, dict(order)))
    if "difficulty" in order:
        text = N_("A curriculum goes by {by}: easiest {easiest}, middle {middle}, hardest {hardest} (`order.parquet`).")
        by = Message(DIFFICULTIES.get(order.get("difficulty_by", ""), ""))
        found.append(Message(text, {"by": by, **order["difficulty"]}))
    return found


DIFFICULTIES = {
    "length": N_("length in words"),
    "compression": N_("how badly the text packs"),
    "readability": N_("Flesch's reading ease, its sign turned"),
    "loss": N_("a model's loss in nats per byte"),
}
"""What a person reads for the difficulty of a curriculum."""


def _examples(facts: Corpus, translator: Translator) -> str:
    """What was dropped and changed, where the recipe allows it to be shown."""
    rows = [
        (
            plain(label(row.get("rule", ""), translator, RULES)),
            plain(row.get("detail", "")[:LONGEST_EXAMPLE]),
            plain(row.get("before", "")[:LONGEST_EXAMPLE]),
            plain(row.get("after", "")[:LONGEST_EXAMPLE]),
        )
        for row in facts.get("examples") or []
    ]
    head = [translator.text(name) for name in (N_("rule"), N_("why"), N_("before"), N_("after"))]
    return f"## {translator.text(N_('Examples'))}\n\n{markdown_table(head, rows)}" if rows else ""


def _made(facts: Corpus, translator: Translator) -> str:
    made = translator.text(
        N_("Made by Treino {version} from the seed {seed:raw}; equal sources and settings give an equal corpus."),
        version=facts.get("treino_version", ""),
        seed=facts.get("seed", 0),
    )
    return f"{translator.text(NOT_CHECKED)}\n\n{made}"

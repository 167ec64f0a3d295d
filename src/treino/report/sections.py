"""The sections of the report that are words, tables and simple bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from treino.corpus.rules import RULES
from treino.messages import N_, Message
from treino.recipe.new import to_toml
from treino.report.bars import Bar, bars
from treino.report.chat import chat_tiles
from treino.report.classification import headline_tiles
from treino.report.curves import loss_figure, loss_table
from treino.report.facts import Artefact, Facts, Removal, Removed, Sample, Setting, Training
from treino.report.gap import describe_gap
from treino.report.judgement import who_is_ahead
from treino.report.writer import UNKNOWN, Writer, details, escape, table, terms

MOST_SAMPLES = 8
MOST_EXAMPLES = 12
NOT_CHOSEN = ("default", "derived", "measured")
"""Origins of values that nobody wrote; the others are a flag, or file and line."""
MOST_FILES = 20  # of one stage, in the lineage
MOST_CHARACTERS = 600  # of one example


def headline(facts: Facts, writer: Writer) -> str:
    """The top of the page: name, the few numbers that matter, and what the model says."""
    training = facts.get("training") or {}
    evaluation = facts.get("evaluation") or {}
    bits = evaluation.get("bits_per_byte")
    first, last = training.get("first_loss"), training.get("last_loss")
    tiles = [
        (writer.say(N_("parameters")), _count(training.get("parameters"), writer)),
        (writer.say(N_("tokens read")), _count(training.get("tokens_seen"), writer)),
        (writer.say(N_("training time")), writer.seconds(training.get("train_seconds"))),
        (writer.say(N_("loss")), _fall(first, last, writer)),
        (writer.say(N_("bits per byte, held out")), writer.number(bits["mean"], 3) if bits else UNKNOWN),
    ]
    tiles += headline_tiles(facts.get("classification") or {}, writer)
    tiles += chat_tiles(facts.get("chat") or {}, writer)
    created = facts.get("created")
    made = [writer.date(created)] if created else []
    if facts.get("treino_version"):
        made.append(writer.say(N_("made by Treino {version}"), version=facts.get("treino_version")))
    ahead = who_is_ahead(evaluation, writer)
    return (
        f'<header><p class="eyebrow">{writer.say(N_("Training report"))}</p>'
        f"<h1>{escape(facts.get('name') or 'Treino')}</h1>"
        f'<p class="made">{" · ".join(made)}</p>{terms(tiles, "tiles")}{_spoken(facts, writer)}'
        f"{f'<p class=verdict>{ahead}</p>' if ahead else ''}</header>"
    )


def _count(value: float | None, writer: Writer) -> str:
    return UNKNOWN if value is None else writer.number(round(value))


def _fall(first: float | None, last: float | None, writer: Writer) -> str:
    if first is None or last is None:
        return UNKNOWN
    return f"{writer.number(first, 2)}&#8239;→&#8239;{writer.number(last, 2)}"


def _spoken(facts: Facts, writer: Writer) -> str:
    """The last sample, large; a sentence where the recipe keeps text private."""
    if not facts.get("examples"):
        return f'<p class="private">{_private(writer)}</p>'
    samples = (facts.get("training") or {}).get("samples") or []
    if not samples:
        return ""
    return (
        f'<figure class="spoken"><blockquote{_language(facts)}>{_continuation(samples[-1])}</blockquote>'
        f"<figcaption>{writer.say(N_('The prompt in colour; the rest is the model.'))}</figcaption></figure>"
    )


def _private(writer: Writer) -> str:
    return writer.say(
        N_("Text is private: no sample and no example is shown. Set report.examples = true in the recipe to show them.")
    )


def _continuation(sample: Sample) -> str:
    return f"<mark>{escape(sample.get('prompt', ''))}</mark>{escape(sample.get('text', ''))}"


def _language(facts: Facts) -> str:
    """A `lang` attribute for the corpus' text, where all of it is in one language."""
    languages = {source.get("language", "") for source in facts.get("sources") or []}
    return f' lang="{escape(languages.pop())}"' if len(languages) == 1 and "" not in languages else ""


def training_section(training: Training, writer: Writer) -> str:
    """The curves with first and last loss, the improvement, and the gap between training and validation."""
    curve, validation = training.get("curve") or [], training.get("validation") or []
    improvement = improvement_message(training)
    sentences = [escape(writer.translator.message(improvement))] if improvement else []
    if validation:
        sentences.append(
            writer.say(
                N_("The validation loss went from {first:3} to {last:3}."),
                first=validation[0]["loss"],
                last=validation[-1]["loss"],
            )
        )
    gap = writer.translator.message(describe_gap(curve, validation))
    figure = loss_figure(curve, validation, writer)
    return (
        f'<p class="lead">{" ".join(sentences)}</p>{figure}<p class="verdict">{escape(gap)}</p>'
        f"{_pace(training, writer)}{loss_table(curve, validation, writer)}"
    )


def improvement_message(training: Training) -> Message | None:
    """First and last loss with the improvement between them; None where one of the three is missing."""
    if not {"first_loss", "last_loss", "improvement_percent"} <= training.keys():
        return None
    values = {
        "first": training.get("first_loss"),
        "last": training.get("last_loss"),
        "share": training.get("improvement_percent", 0.0) / 100,
    }
    return Message(N_("The training loss went from {first:3} to {last:3}, an improvement of {share:percent}."), values)


def _pace(training: Training, writer: Writer) -> str:
    rows = [
        (writer.say(N_("steps")), writer.number(training.get("steps"))),
        (writer.say(N_("times through the text")), writer.number(training.get("epochs"), 2)),
        (writer.say(N_("tokens per second")), _count(training.get("tokens_per_second"), writer)),
        (writer.say(N_("number format")), escape(training.get("precision") or UNKNOWN)),
    ]
    return terms(rows, "facts")


def samples_section(facts: Facts, writer: Writer) -> str:
    """What the model made of the same prompt while it learnt; at most `MOST_SAMPLES`, evenly chosen."""
    samples = (facts.get("training") or {}).get("samples") or []
    if not samples or not facts.get("examples"):
        return ""
    if len(samples) > MOST_SAMPLES:
        last = len(samples) - 1
        samples = [samples[round(index * last / (MOST_SAMPLES - 1))] for index in range(MOST_SAMPLES)]
    items = "".join(
        f'<li><span class="when">{writer.say(N_("step {step}"), step=sample.get("step", 0))}</span>'
        f"<p{_language(facts)}>{_continuation(sample)}</p></li>"
        for sample in samples
    )
    lead = writer.say(N_("The same beginning, continued while the model learnt."))
    return f'<p class="lead">{lead}</p><ol class="samples">{items}</ol>'


def removed_section(removed: Removed, examples: bool, writer: Writer) -> str:
    """Bars of documents by rule: taken out, and changed; with examples where the recipe allows them."""
    parts = []
    for title, counts in (
        (writer.say(N_("Removed")), removed.get("by_rule")),
        (writer.say(N_("Changed and kept")), removed.get("changed_by_rule")),
    ):
        if counts and sum(counts.values()):
            ordered = sorted(counts.items(), key=lambda item: -item[1])
            rows = [Bar(writer.label(rule, RULES), count, writer.number(count)) for rule, count in ordered]
            parts.append(f"<h3>{title}</h3>{bars(rows, max(counts.values()))}")
    if not parts:
        return f"<p>{writer.say(N_('No document was removed or changed.'))}</p>"
    lead = writer.say(N_("Documents by the rule that took them out or changed them."))
    shown = (removed.get("examples") or []) if examples else []
    rows = [
        (
            _rules(example, writer),
            _excerpt(example.get("before") or ""),
            _excerpt(after) if (after := example.get("after")) else f"<em>{writer.say(N_('removed'))}</em>",
        )
        for example in shown[:MOST_EXAMPLES]
    ]
    head = (writer.say(N_("rule")), writer.say(N_("before")), writer.say(N_("after")))
    opened = details(writer.say(N_("Examples")), table(head, rows)) if rows else ""
    return f'<p class="lead">{lead}</p>{"".join(parts)}{opened}'


def _rules(example: Removal, writer: Writer) -> str:
    """The rule's name; for a changed document the names of all rules that changed it."""
    rule, detail = example.get("rule", ""), example.get("detail", "")
    names = detail.split(", ") if rule == "changed" and detail else [rule]
    return ", ".join(writer.label(name, RULES) for name in names)


def _excerpt(text: str) -> str:
    cut = text[:MOST_CHARACTERS] + ("…" if len(text) > MOST_CHARACTERS else "")
    return f'<span class="text">{escape(cut)}</span>'


def forecast_section(forecasts: Mapping[str, Mapping[str, Any]], writer: Writer) -> str:
    """What was expected before each training beside what was measured, and the parts of the expected memory."""
    body = ""
    for stage, found in forecasts.items():
        rows = []
        for name, row in (found.get("beside") or {}).items():
            expected = writer.quantity(name, row.get("forecast"))
            if row.get("low") is not None and row.get("high") is not None:
                low, high = writer.quantity(name, row.get("low")), writer.quantity(name, row.get("high"))
                expected += f" <small>({low} – {high})</small>"
            actual = writer.quantity(name, row.get("measured"))
            rows.append((writer.label(name), expected, actual, writer.percent(row.get("ratio"), 0)))
        head = (
            writer.say(N_("quantity")),
            writer.say(N_("forecast")),
            writer.say(N_("measured")),
            writer.say(N_("measured / forecast")),
        )
        body += f"<h3>{writer.label(stage)}</h3>" if len(forecasts) > 1 else ""
        body += table(head, rows) if rows else ""
        body += details(writer.say(N_("The forecast by part")), _forecast_parts(found["forecast"], writer))
    if not body:
        return ""
    lead = writer.say(N_("Said before the first step and not touched since, beside what was then measured."))
    return f'<p class="lead">{lead}</p>{body}'


def _forecast_parts(forecast: Mapping[str, Any], writer: Writer) -> str:
    parts = []
    for key, title, show in (
        ("memory", writer.say(N_("Memory")), writer.bytes),
        ("parameters", writer.say(N_("Parameters")), writer.number),
    ):
        values = {name: value for name, value in (forecast.get(key) or {}).items() if name != "total" and value > 0}
        if values:
            rows = [Bar(writer.label(name), value, show(value)) for name, value in values.items()]
            parts.append(f"<h3>{title}</h3>{bars(rows, max(values.values()))}")
    return "".join(parts)


def settings_section(settings: Sequence[Setting], writer: Writer) -> str:
    """Every setting with where its value comes from; closed at first, those that someone chose on top."""
    rows = []
    for setting in settings:
        where, value, origin = setting.get("where", ""), to_toml(setting.get("value")), setting.get("origin", "")
        mark = (
            f'<span class="origin {escape(origin if origin in NOT_CHOSEN else "chosen")}">{writer.label(origin)}</span>'
        )
        rows.append((f"<code>{escape(where)}</code>", f"<code>{escape(value)}</code>", mark))
    chosen = [row for row, setting in zip(rows, settings, strict=True) if setting.get("origin") not in NOT_CHOSEN]
    head = (writer.say(N_("setting")), writer.say(N_("value")), writer.say(N_("origin")))
    first = table(head, chosen, writer.say(N_("Chosen by hand"))) if chosen else ""
    summary = writer.say(N_("All {count} settings with the origin of their values"), count=len(rows))
    return first + details(summary, table(head, rows))


def _machine(value: Any) -> str:
    """A fact about the machine: strings as they are, lists as words in a row."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def lineage_section(lineage: Sequence[Artefact] | None, machine: Mapping[str, Any] | None, writer: Writer) -> str:
    """From raw text to model, artefact by artefact; and the machine that made it."""
    body = ""
    if lineage:
        head = (
            writer.say(N_("stage")),
            writer.say(N_("artefact")),
            writer.say(N_("digest")),
            writer.say(N_("made from")),
        )
        rows = [
            (
                writer.label(artefact.get("stage", "")),
                f"<code>{escape(artefact.get('folder', ''))}</code>",
                f'<code title="{escape(artefact.get("digest", ""))}">{escape(artefact.get("digest", "")[:12])}</code>',
                _made_from(artefact, writer),
            )
            for artefact in lineage
        ]
        lead = writer.say(N_("Read from the bottom up, this table leads from the model back to the raw text."))
        body += f"<p>{lead}</p>" + details(writer.say(N_("Artefacts and their digests")), table(head, rows))
    if machine:
        rows = [(writer.label(name), escape(_machine(value))) for name, value in machine.items()]
        body += details(writer.say(N_("The machine")), terms(rows, "facts"))
    return body


def _made_from(artefact: Artefact, writer: Writer) -> str:
    """The artefacts that went in, then the files; of many files the first ones and how many more."""
    names = [made_from.get("folder", kind) for kind, made_from in (artefact.get("inputs") or {}).items()]
    reads = artefact.get("reads")
    names += list(reads) if isinstance(reads, Mapping) else []
    lines = [f"<code>{escape(name)}</code>" for name in dict.fromkeys(names)]
    if len(lines) > MOST_FILES:
        more = writer.say(N_("and {count} more"), count=len(lines) - MOST_FILES)
        lines = [*lines[:MOST_FILES], more]
    return "<br>".join(lines) or UNKNOWN


LIMITS = (
    N_(
        "So small a model imitates the surface of the text it read: spelling, common phrases, who is named beside "
        "what. It writes false sentences as fluently as true ones, loses the thread after a few lines, does not follow "
        "instructions and knows nothing beyond its text."
    ),
    N_("Its figures hold for text of the same kind as its own and say nothing about other text."),
    N_("What is unfair or wrong in its text it repeats. Do not use it to inform, advise or decide."),
)
"""What so small a language model cannot do, in the report and in the model card alike."""


def limits_section(sentences: Sequence[str], writer: Writer) -> str:
    """What a model cannot do, from message ids."""
    return "".join(f"<p>{writer.say(sentence)}</p>" for sentence in sentences)

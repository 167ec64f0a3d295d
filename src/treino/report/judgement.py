"""What the evaluation found: held-out figures, baselines with who is ahead, and truthfulness about the world."""

from __future__ import annotations

import math
from collections.abc import Sequence

from treino.messages import N_, Message
from treino.report.bars import Bar, bars
from treino.report.facts import Baseline, Evaluation, Interval, Truthfulness
from treino.report.labels import BASELINES, GROUPS
from treino.report.writer import UNKNOWN, Writer, escape, table, terms

NEITHER = "neither"


def comparable(baselines: Sequence[Baseline]) -> list[Baseline]:
    """Those with bits per byte; a word-level tokenizer has none to give."""
    return [baseline for baseline in baselines if "bits_per_byte" in baseline]


def bits_of(baseline: Baseline) -> float:
    return baseline.get("bits_per_byte", math.inf)


def leader(model: Interval, baselines: Sequence[Baseline]) -> str | None:
    """Who needs the fewest bits: "model", a baseline's name, or `NEITHER` where the best baseline lies within the
    model's 95-percent interval. None without baselines.
    """
    baselines = comparable(baselines)
    if not baselines:
        return None
    best = min(baselines, key=bits_of)
    low, high = model.get("low"), model.get("high")
    if low is not None and high is not None and low <= bits_of(best) <= high:
        return NEITHER
    return "model" if model["mean"] < bits_of(best) else best["name"]


def verdict_on_baselines(evaluation: Evaluation) -> Message | None:
    """The plain sentence on who is ahead; None where there is nothing to compare."""
    model, baselines = evaluation.get("bits_per_byte"), comparable(evaluation.get("baselines") or [])
    ahead = leader(model, baselines) if model else None
    if not model or ahead is None:
        return None
    best = min(baselines, key=bits_of)
    name = Message(BASELINES[best["name"]]) if best["name"] in BASELINES else best["name"]
    values = {"mean": model["mean"], "other": name, "bits": bits_of(best)}
    if ahead == NEITHER:
        sentence = N_(
            "Neither is ahead: the model needs {mean:3} bits per byte, and the {bits:3} of the best of the others "
            "({other}) lie within its 95-percent interval."
        )
    elif ahead == "model":
        sentence = N_("The model is ahead: it needs {mean:3} bits per byte, the best of the others ({other}) {bits:3}.")
    else:
        sentence = N_(
            "The model is behind: it needs {mean:3} bits per byte, the best of the others ({other}) {bits:3}."
        )
    return Message(sentence, values)


def who_is_ahead(evaluation: Evaluation, writer: Writer) -> str:
    """`verdict_on_baselines` as HTML; "" where there is none."""
    verdict = verdict_on_baselines(evaluation)
    return escape(writer.translator.message(verdict)) if verdict else ""


def held_out_section(evaluation: Evaluation, writer: Writer) -> str:
    """Loss, perplexity and bits per byte on text that training never saw, and the baselines."""
    if evaluation.get("loss") is None:
        lead = N_("No text was held out, so nothing judges the model.")
        limit = N_("A falling loss shows that it memorises what it reads, not what it would make of another text.")
        return f"<p>{writer.say(lead)} {writer.say(limit)}</p>"
    interval = evaluation.get("bits_per_byte")
    rows = [
        (writer.say(N_("bits per byte")), _interval(interval, writer) if interval else UNKNOWN),
        (writer.say(N_("loss (nats per token)")), writer.number(evaluation.get("loss"), 3)),
        (writer.say(N_("perplexity")), writer.number(evaluation.get("perplexity"), 1)),
        (writer.say(N_("documents")), writer.number(evaluation.get("documents"))),
        (writer.say(N_("tokens")), writer.number(evaluation.get("tokens"))),
        (writer.say(N_("size")), writer.bytes(evaluation.get("bytes"))),
    ]
    lead = writer.say(N_("On held-out text, read once, after training."))
    return f'<p class="lead">{lead}</p>{terms(rows, "facts")}{_baselines(evaluation, writer)}'


def _interval(interval: Interval, writer: Writer) -> str:
    mean, low, high = writer.number(interval["mean"], 3), interval.get("low"), interval.get("high")
    if low is None or high is None:
        return mean
    return f"{mean} <small>({writer.number(low, 3)}–{writer.number(high, 3)})</small>"


def _baselines(evaluation: Evaluation, writer: Writer) -> str:
    model, others = evaluation.get("bits_per_byte"), evaluation.get("baselines") or []
    if not model:
        sentence = N_("Bits per byte cannot be given for this tokenizer; the others' loss on the same tokens:")
        losses = [(writer.label(other["name"], BASELINES), writer.number(other.get("loss"), 3)) for other in others]
        return f"<p>{writer.say(sentence)}</p>{terms(losses, 'facts')}" if others else ""
    ends = model.get("low"), model.get("high")
    rows = [Bar(writer.say(N_("this model")), model["mean"], _interval(model, writer), *ends, kind="model")]
    for other in comparable(others):
        rows.append(Bar(writer.label(other["name"], BASELINES), bits_of(other), writer.number(bits_of(other), 3)))
    bound = evaluation.get("generator_bits_per_byte")
    if bound is not None:
        rows.append(Bar(writer.say(N_("the text's own generator")), bound, writer.number(bound, 3), kind="bound"))
    rows.sort(key=lambda row: row.value)
    maximum = 1.02 * max(max(row.value, row.high or 0.0) for row in rows)
    ahead = who_is_ahead(evaluation, writer)
    verdict = f'<p class="verdict">{ahead}</p>' if ahead else ""
    return f"{verdict}<figure>{bars(rows, maximum)}<figcaption>{_notes(evaluation, writer)}</figcaption></figure>"


def _notes(evaluation: Evaluation, writer: Writer) -> str:
    """How the bars are to be read."""
    notes = [writer.say(N_("Bits per UTF-8 byte: fewer is better."))]
    over = evaluation.get("interval_over")
    if over == "documents":
        notes.append(writer.say(N_("The whisker is a 95-percent interval over documents.")))
    elif over:
        notes.append(writer.say(N_("The whisker is a 95-percent interval over blocks of about 2 kB.")))
    for other in evaluation.get("baselines") or []:
        if other["name"] == "xz_after_training" and {"held_out_bytes", "training_bytes"} <= other.keys():
            read = N_("xz saw {held_out_bytes:bytes} of held-out and {training_bytes:bytes} of training text.")
            notes.append(writer.say(read, **other))
    if {"generator_bits_per_byte", "model_bits_per_byte_there"} <= evaluation.keys():
        sentence = N_(
            "On the documents whose generator is known, the generator needs {generator_bits_per_byte:3} and the model "
            "{model_bits_per_byte_there:3}; it knows every rule it wrote by, so on average no model can need fewer."
        )
        notes.append(writer.say(sentence, **evaluation))
    rest = evaluation.get("without_contaminated")
    if rest:
        sentence = N_(
            "{contaminated} of the held-out documents stand to a large part in the training text, too; on the other "
            "{documents} the loss is {loss:3}."
        )
        count = (evaluation.get("documents") or 0) - rest["documents"]
        notes.append(writer.say(sentence, contaminated=count, documents=rest["documents"], loss=rest["loss"]))
    return " ".join(notes)


def truthfulness_section(groups: Sequence[Truthfulness], writer: Writer) -> str:
    """Bars by group of prompts with marks for chance, the answers' frequency and the n-gram; the same as a table."""
    if not groups:
        return ""
    lead = writer.say(
        N_("How much of its probability the model puts on the true answer, out of all answers of the same kind.")
    )
    names = {
        "chance": writer.say(N_("chance")),
        "frequency": writer.say(N_("frequency of the answer")),
        "ngram": writer.say(N_("5-gram")),
    }
    legend = "".join(f'<span class="key mark-key {kind}">{name}</span>' for kind, name in names.items())
    rows = [
        Bar(
            writer.label(group["group"], GROUPS),
            group["model"]["mean"],
            _share(group["model"], writer),
            group["model"].get("low"),
            group["model"].get("high"),
            kind="model",
            marks=[(kind, value) for kind in names if (value := group.get(kind)) is not None],
        )
        for group in groups
    ]
    head = [writer.say(N_("prompts")), writer.say(N_("number")), writer.say(N_("this model")), *names.values()]
    cells = [
        (
            writer.label(group["group"], GROUPS),
            writer.number(group.get("prompts")),
            _share(group["model"], writer),
            *(writer.percent(group.get(kind)) for kind in names),
        )
        for group in groups
    ]
    verdicts = "".join(f"<li>{verdict}</li>" for group in groups if (verdict := _verdict(group, writer)))
    return (
        f'<p class="lead">{lead}</p><figure><p class="legend">'
        f'<span class="key model-key">{writer.say(N_("this model"))}</span>{legend}</p>{bars(rows, 1.0)}</figure>'
        f"<ul>{verdicts}</ul>{table(head, cells)}"
    )


def _share(interval: Interval, writer: Writer) -> str:
    mean, low, high = writer.percent(interval["mean"]), interval.get("low"), interval.get("high")
    if low is None or high is None:
        return mean
    return f"{mean} <small>({writer.percent(low)}–{writer.percent(high)})</small>"


def _verdict(group: Truthfulness, writer: Writer) -> str:
    """Where the model's whole interval lies against the best of chance, frequency and n-gram."""
    low, high = group["model"].get("low"), group["model"].get("high")
    others = [value for kind in ("chance", "frequency", "ngram") if (value := group.get(kind)) is not None]
    if low is None or high is None or not others:
        return ""
    name = f"<strong>{writer.label(group['group'], GROUPS)}</strong>: "
    if low > max(others):
        return name + writer.say(N_("above chance, frequency and 5-gram, with its whole 95-percent interval."))
    if high < max(others):
        return name + writer.say(N_("below the best of chance, frequency and 5-gram."))
    return name + writer.say(N_("not distinguishable from the best of chance, frequency and 5-gram."))

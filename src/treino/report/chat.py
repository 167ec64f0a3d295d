"""What the report says of a chat tuning: what was learnt of what, how sure the model is of a turn's end, what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treino.messages import N_
from treino.report.curves import loss_figure, loss_table
from treino.report.facts import ChatFacts
from treino.report.gate import gate_tile, trials_table
from treino.report.labels import METHODS
from treino.report.writer import UNKNOWN, Writer, details, escape, table, terms

LOSS_PER_ANSWER_TOKEN = N_("loss (nats per token of the answers)")

FATES = {
    "cut": N_("cut at the end of the context"),
    "parts": N_("parts that long ones were split into"),
    "dropped": N_("dropped as too long"),
    "nothing_to_learn": N_("without anything to learn in them"),
    "refused": N_("not taken by the chat template"),
}
"""What became of conversations that could not be taken as they were."""


def chat_section(facts: ChatFacts, writer: Writer) -> str:
    """Method, parameters, conversations, the curve, and the held-out figures before and after."""
    counts, rows = facts.get("parameters") or {}, facts.get("rows") or {}
    trainable, total = counts.get("trainable"), counts.get("total")
    share = f" <small>({writer.percent(trainable / total, 1)})</small>" if trainable and total else ""
    figures = [
        (writer.say(N_("method")), writer.label(facts.get("method", ""), METHODS)),
        (writer.say(N_("trainable parameters")), f"{writer.number(trainable)}{share}"),
        (writer.say(N_("conversations to learn from")), writer.number(rows.get("training"))),
        (writer.say(N_("conversations held out")), writer.number(rows.get("validation"))),
        (writer.say(N_("tokens of the answers")), writer.number(facts.get("learnt_tokens"))),
        (writer.say(N_("tokens in all")), writer.number(facts.get("tokens"))),
        (writer.say(N_("epochs")), writer.number(facts.get("epochs"), 1)),
        (writer.say(N_("time")), writer.seconds(facts.get("train_seconds"))),
    ]
    curve, validation = facts.get("curve") or [], facts.get("validation_curve") or []
    figure = loss_figure(curve, validation, writer, unit=LOSS_PER_ANSWER_TOKEN)
    drawn = f"{figure}{loss_table(curve, validation, writer)}"
    parts = (_fates(facts, writer), _held_out(facts, writer), _trials(facts, writer), _answers(facts, writer))
    return f"{terms(figures, 'facts')}{drawn}{''.join(parts)}"


def _trials(facts: ChatFacts, writer: Writer) -> str:
    """The trials of a search, and that the conversations which chose among them judge the chosen one, too."""
    trials = facts.get("trials") or []
    if len(trials) < 2:
        return ""
    title = writer.say(N_("Settings that were tried, judged on the held-out conversations"))
    reached = {"loss": writer.say(N_("loss (nats per token)")), "end_of_turn": writer.say(N_("P(end of turn)"))}
    note = writer.say(
        N_("The same conversations chose among them, so that the figures of the chosen one flatter it a little.")
    )
    return f"{trials_table(trials, facts.get('chosen'), reached, title, writer)}<p>{note}</p>"


def _fates(facts: ChatFacts, writer: Writer) -> str:
    """Conversations that were cut, split, dropped or refused, where there were any."""
    counts = facts.get("conversations") or {}
    rows = [
        (writer.say(text), *(writer.number((counts.get(part) or {}).get(name)) for part in ("training", "validation")))
        for name, text in FATES.items()
        if any((part or {}).get(name) for part in counts.values())
    ]
    head = (writer.say(N_("conversations")), writer.say(N_("to learn from")), writer.say(N_("held out")))
    return table(head, rows, writer.say(N_("Not taken as they were"))) if rows else ""


def _held_out(facts: ChatFacts, writer: Writer) -> str:
    found = facts.get("held_out")
    if not found:
        return (
            f'<p class="missing">{writer.say(N_("No conversation was held out, so nothing judges the answers."))}</p>'
        )
    before, after = found["before"], found["after"]
    sentence = N_("On held-out conversations the loss of the assistant's tokens went from {first:3} to {last:3}.")
    said = writer.say(sentence, first=before["loss"], last=after["loss"])
    if after.get("end_of_turn") is not None:
        ends = N_(
            "Where an answer ends, the model gives the end of the turn a probability of {sure:percent}; before it was "
            "{unsure:percent}."
        )
        said += " " + writer.say(ends, sure=after["end_of_turn"], unsure=before["end_of_turn"])
    head = (writer.say(N_("held-out conversations")), writer.say(N_("before")), writer.say(N_("after")))
    rows = [
        (writer.say(N_("loss (nats per token)")), *(writer.number(one["loss"], 3) for one in (before, after))),
        (
            writer.say(N_("P(end of turn) at its end")),
            *(writer.percent(one.get("end_of_turn"), 1) for one in (before, after)),
        ),
    ]
    note = writer.say(N_("{tokens} tokens in {turns} answers"), tokens=after["tokens"], turns=after["turns"])
    return f'<p class="verdict">{said}</p>{table(head, rows, note)}'


def _answers(facts: ChatFacts, writer: Writer) -> str:
    """What it answers to held-out questions, beside what was answered there."""
    rows = [
        (
            escape(row["messages"][-1]["content"]),
            f"<mark>{escape(row['answer'])}</mark>" if row["answer"] else UNKNOWN,
            escape(row["reference"]),
        )
        for row in facts.get("answers") or []
        if row["messages"]
    ]
    if not rows:
        return ""
    head = (writer.say(N_("asked")), writer.say(N_("the model")), writer.say(N_("in the data")))
    return details(writer.say(N_("Answers to held-out questions")), table(head, rows))


def chat_tiles(facts: Mapping[str, Any], writer: Writer) -> list[tuple[str, str]]:
    """The few numbers of a chat tuning at the top of the page."""
    found = facts.get("held_out")
    if not found:
        return []
    return [
        (writer.say(N_("loss of answers, held out")), writer.number(found["after"]["loss"], 3)),
        (writer.say(N_("P(end of turn)")), writer.percent(found["after"].get("end_of_turn"), 1)),
        *gate_tile(facts, writer),
    ]

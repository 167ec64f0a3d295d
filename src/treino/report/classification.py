"""What the report says of a classifier: how it was tuned, how good it is, and what the base model forgot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treino.messages import N_, Message
from treino.recipe import PROMPT
from treino.report.bars import Bar, bars
from treino.report.curves import loss_figure, loss_table
from treino.report.facts import Classification, Forgetting, Interval, Measures, Point
from treino.report.gap import describe_gap
from treino.report.gate import gate_tile, trials_table
from treino.report.labels import BASELINES, METHODS
from treino.report.prompting import prompting_section
from treino.report.writer import UNKNOWN, Writer, details, escape, table, terms

LOSS_PER_TEXT = N_("loss (nats per text)")
WIDE_GAP = 0.1
"""Points of accuracy between training and validation from which on the gap is named learning by heart."""

MOST_CLASSES = 30
"""A confusion matrix of more classes is no picture any more."""


def finetuning_section(facts: Classification, writer: Writer) -> str:
    """Method, parameters, rows, the curves of the chosen trial with the gap named, and all trials."""
    if facts.get("method") == PROMPT:
        return prompting_section(facts, writer) + _trials(facts, writer)
    curve, validation = facts.get("curve") or [], facts.get("validation_curve") or []
    counts = facts.get("parameters") or {}
    rows = facts.get("rows") or {}
    figures = [
        (writer.say(N_("method")), writer.label(facts.get("method", ""), METHODS)),
        (writer.say(N_("trainable parameters")), _of(counts.get("trainable"), counts.get("total"), writer)),
        (writer.say(N_("training rows")), writer.number(rows.get("training"))),
        (writer.say(N_("validation rows")), writer.number(rows.get("validation"))),
        (writer.say(N_("test rows")), writer.number(rows.get("test"))),
        (writer.say(N_("classes")), writer.number(len(facts.get("labels") or []))),
        (writer.say(N_("epochs")), writer.number(facts.get("epochs"), 1)),
        (writer.say(N_("time")), writer.seconds(facts.get("train_seconds"))),
        (writer.say(N_("accuracy, training rows")), writer.percent(facts.get("training_accuracy"))),
        (writer.say(N_("accuracy, validation rows")), writer.percent(facts.get("validation_accuracy"))),
    ]
    notes = [writer.translator.message(message) for message in (*_long_texts(facts), *_gaps(facts))]
    said = "".join(f'<p class="verdict">{escape(note)}</p>' for note in notes)
    figure = loss_figure(curve, validation, writer, unit=LOSS_PER_TEXT)
    accuracies: list[Point] = [
        {"step": look["step"], "loss": look["accuracy"]} for look in validation if "accuracy" in look
    ]
    accuracy = loss_figure([], accuracies, writer, unit=N_("accuracy on the validation rows"))
    return (
        f"{terms(figures, 'facts')}{figure}{said}{accuracy}{loss_table(curve, validation, writer)}"
        f"{_trials(facts, writer)}"
    )


def _of(part: int | None, whole: int | None, writer: Writer) -> str:
    if part is None or not whole:
        return UNKNOWN
    return f"{writer.number(part)} <small>({writer.percent(part / whole, 1)})</small>"


def _long_texts(facts: Classification) -> list[Message]:
    """What became of texts longer than the context, where there were any."""
    count = sum((facts.get("long_texts") or {}).values())
    if not count:
        return []
    sentences = {
        "cut": N_("{count} texts were longer than the context: only their beginning was read."),
        "split": N_("{count} texts were longer than the context: they were split, and their parts voted."),
        "drop": N_("{count} texts were longer than the context and were dropped."),
    }
    return [Message(sentences.get(facts.get("long_texts_rule") or "cut", sentences["cut"]), {"count": count})]


def _gaps(facts: Classification) -> list[Message]:
    """The gap between training and validation, named: of the losses over time, and of the accuracies at the end."""
    if not facts.get("validation_curve"):
        return []
    found = [describe_gap(facts.get("curve") or [], facts.get("validation_curve") or [])]
    if facts.get("best_epoch") is not None and facts.get("patience"):
        values = {"epoch": f"{facts.get('best_epoch'):.3g}"}
        found.append(
            Message(N_("The weights are those of epoch {epoch:raw}, where the validation loss was lowest."), values)
        )
    training, validation = facts.get("training_accuracy"), facts.get("validation_accuracy")
    if training is not None and validation is not None:
        values = {"training": training, "validation": validation, "gap": training - validation}
        wide = N_(
            "On its training rows it is right in {training:percent}, on the validation rows in {validation:percent}: a gap "
            "of {gap:percent}, so much of it is learnt by heart."
        )
        narrow = N_(
            "On its training rows it is right in {training:percent}, on the validation rows in {validation:percent}: it "
            "carries over what it learnt."
        )
        found.append(Message(wide if training - validation > WIDE_GAP else narrow, values))
    return found


def _trials(facts: Classification, writer: Writer) -> str:
    title = writer.say(N_("Settings that were tried, judged on the validation rows"))
    reached = {"macro_f1": writer.say(N_("macro-F1, validation"))}
    return trials_table(facts.get("trials") or [], facts.get("chosen"), reached, title, writer)


def classifier_section(facts: Classification, writer: Writer) -> str:
    """The classifier on the test rows, beside the baselines; by class, confusion, calibration."""
    test = facts.get("test")
    if not test:
        return f'<p class="missing">{writer.say(N_("No test rows were kept, so nothing judges the classifier."))}</p>'
    lead = writer.say(
        N_("On {rows} test rows, which neither training nor the choice of settings has seen."), rows=test["rows"]
    )
    ahead = writer.translator.message(verdict_on_classifier(test, facts.get("baselines") or {}))
    verdict = f'<p class="verdict">{escape(ahead)}</p>'
    uses = facts.get("test_uses")
    used = writer.say(N_("Models that these test rows have judged so far: {count}."), count=uses) if uses else ""
    warning = writer.say(N_("Each further use makes them a little less of a judge.")) if uses and uses > 1 else ""
    if test.get("several"):
        used += " " + writer.say(_thresholds(test))
    silent = test.get("unanswered", 0)
    if silent:
        used += " " + writer.say(N_("Answers that named no class, and count as wrong: {count}."), count=silent)
    return (
        f'<p class="lead">{lead}</p>{verdict}{_beside(test, facts.get("baselines") or {}, writer)}{_by_class(test, writer)}'
        f"{_confusion(test, writer)}{_calibration(test, writer)}<p>{used} {warning}</p>"
    )


def _thresholds(test: Measures) -> str:
    """From which probability on a text has a class; without probabilities, that it has what is named."""
    if not test.get("thresholds"):
        return N_("A text may have several classes or none: those that the answer names.")
    if set(test.get("thresholds") or []) == {0.5}:
        return N_("A text may have several classes or none: those whose probability is one half or more.")
    return N_("A text may have several classes or none; from which probability on was chosen on the validation rows.")


def verdict_on_classifier(test: Measures, baselines: Mapping[str, Measures]) -> Message:
    """Whether the classifier is ahead of the best baseline, by macro-F1 with its interval."""
    mean, low, high = (test["macro_f1"].get(name) for name in ("mean", "low", "high"))
    if not baselines:
        return Message(N_("Its macro-F1 is {mean:3}."), {"mean": mean})
    name, best = max(baselines.items(), key=lambda item: item[1]["macro_f1"]["mean"])
    other = best["macro_f1"]["mean"]
    values = {"mean": mean, "other": Message(BASELINES[name]) if name in BASELINES else name, "best": other}
    if low is not None and high is not None and low <= other <= high:
        return Message(
            N_(
                "Neither is ahead: macro-F1 {mean:3}, and the {best:3} of the best baseline ({other}) lie within its interval."
            ),
            values,
        )
    if mean is not None and mean > other:
        return Message(N_("It is ahead: macro-F1 {mean:3}, the best baseline ({other}) {best:3}."), values)
    return Message(N_("It is behind: macro-F1 {mean:3}, the best baseline ({other}) {best:3}."), values)


def _beside(test: Measures, baselines: Mapping[str, Measures], writer: Writer) -> str:
    """Bars of accuracy and macro-F1 for the classifier and each baseline."""
    judged: list[tuple[str, Measures, str]] = [(writer.say(N_("this classifier")), test, "model")]
    for name, measures in baselines.items():
        judged.append((writer.label(name, BASELINES), measures, "other"))
    parts = []
    several = bool(test.get("several"))
    exact = writer.say(N_("Exactly the right classes")) if several else writer.say(N_("Accuracy"))
    shown = [("accuracy", exact), ("macro_f1", writer.say(N_("Macro-F1")))]
    for key, title in shown + ([("micro_f1", writer.say(N_("Micro-F1")))] if several else []):
        rows = []
        for label, measures, kind in judged:
            value: Interval = measures[key]
            rows.append(
                Bar(label, value["mean"], _share(value, writer), value.get("low"), value.get("high"), kind=kind)
            )
        parts.append(f"<h3>{title}</h3>{bars(rows, 1.0)}")
    note = writer.say(
        N_("Whiskers are 95-percent intervals: Wilson's for the accuracy, by bootstrap over texts for F1.")
    )
    return f"<figure>{''.join(parts)}<figcaption>{note}</figcaption></figure>"


def _share(interval: Interval, writer: Writer) -> str:
    mean, low, high = writer.percent(interval["mean"]), interval.get("low"), interval.get("high")
    return (
        mean if low is None or high is None else f"{mean} <small>({writer.percent(low)}–{writer.percent(high)})</small>"
    )


def _by_class(test: Measures, writer: Writer) -> str:
    head = (
        writer.say(N_("class")),
        writer.say(N_("rows")),
        writer.say(N_("precision")),
        writer.say(N_("recall")),
        writer.say(N_("F1")),
    )
    rows = [
        (
            escape(row["label"]),
            writer.number(row["rows"]),
            writer.percent(row.get("precision")),
            writer.percent(row.get("recall")),
            _share(row["f1"], writer) if row.get("f1") else UNKNOWN,
        )
        for row in test["by_class"]
    ]
    return table(head, rows, writer.say(N_("By class")))


def _confusion(test: Measures, writer: Writer) -> str:
    """Truth in the rows, answers in the columns; the darker, the larger the share of its row."""
    matrix, labels = test.get("confusion") or [], [row["label"] for row in test["by_class"]]
    if not matrix or len(matrix) > MOST_CLASSES:
        return ""
    head = [writer.say(N_("truth ↓  answer →")), *(escape(label) for label in labels)]
    rows = []
    for label, counts in zip(labels, matrix, strict=True):
        total = sum(counts) or 1
        cells = [
            f'<span class="cell" style="--share:{round(100 * count / total)}%">{writer.number(count)}</span>'
            for count in counts
        ]
        rows.append((escape(label), *cells))
    return f'<div class="confusion">{table(head, rows, writer.say(N_("Who is taken for whom")))}</div>'


def _calibration(test: Measures, writer: Writer) -> str:
    """How often it is right by how sure it is."""
    if "calibration_error" not in test:
        told = writer.say(N_("The model gives no probabilities with its answers, so nobody knows how sure it is."))
        return f"<p>{told}</p>"
    rows = [
        Bar(
            writer.say(N_("says {confidence:percent}"), confidence=bin_["confidence"]),
            bin_["accuracy"],
            writer.say(N_("right {accuracy:percent} of {rows}"), accuracy=bin_["accuracy"], rows=bin_["rows"]),
            kind="model",
            marks=[("chance", bin_["confidence"])],
        )
        for bin_ in test["reliability"]
    ]
    error = writer.say(
        N_(
            "Calibration error: {error:percent}. The mark is where the bar of a model that knows how sure it is would end."
        ),
        error=test["calibration_error"],
    )
    body = f"<figure>{bars(rows, 1.0)}<figcaption>{error}</figcaption></figure>"
    return details(writer.say(N_("Is it as sure as it is right?")), body)


def forgetting_section(tuned: Mapping[str, Any], writer: Writer) -> str:
    """The base task's loss before and after fine-tuning; of a classifier, through the head that its body had before."""
    facts: Forgetting | None = tuned.get("forgetting")
    if not facts:
        return ""
    rise = facts["after"] / facts["before"] - 1
    sentence = (
        N_(
            "Before fine-tuning the model predicted the next token of the pretraining's validation text with a loss of "
            "{before:3}, afterwards, through its original head, with {after:3}: {rise:percent} more."
        )
        if "labels" in tuned
        else N_(
            "Before fine-tuning the model predicted the next token of the pretraining's validation text with a loss of "
            "{before:3}, afterwards with {after:3}: {rise:percent} more."
        )
    )
    rows = [
        Bar(writer.say(N_("before fine-tuning")), facts["before"], writer.number(facts["before"], 3), kind="model"),
        Bar(writer.say(N_("after fine-tuning")), facts["after"], writer.number(facts["after"], 3)),
    ]
    lead = writer.say(sentence, rise=rise, **facts)
    note = writer.say(N_("Loss in nats per token over {tokens} tokens: fewer is better."), **facts)
    drawn = bars(rows, 1.02 * max(facts["before"], facts["after"]))
    return f'<p class="lead">{lead}</p><figure>{drawn}<figcaption>{note}</figcaption></figure>'


def headline_tiles(facts: Mapping[str, Any], writer: Writer) -> list[tuple[str, str]]:
    """The classifier's few numbers at the top of the page."""
    test = facts.get("test")
    if not test:
        return []
    tiles = [(writer.say(N_("macro-F1, test")), writer.number(test["macro_f1"]["mean"], 3))]
    return tiles + gate_tile(facts, writer)

"""The phases of a run in one table: what each look at the model found, from the first step of pretraining to the test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from treino.messages import N_, Message
from treino.report.facts import Classification, Point, Training
from treino.report.writer import Writer, table

MOST_LOOKS = 8
"""Looks of one phase that the table shows, evenly chosen, the first and the last among them."""


class Phase(TypedDict):
    """One look: the stage, how far it was (steps of pretraining, epochs of fine-tuning; None at its end), and the figures;
    None where the phase has none.
    """

    stage: str
    step: float | None
    pretraining_loss: float | None
    validation_loss: float | None
    finetuning_accuracy: float | None


def phases(training: Training | None, classification: Classification | None) -> list[Phase]:
    """Rows in the order of the run. Losses of pretraining in nats per token, of fine-tuning in nats per text."""
    rows: list[Phase] = []
    if training:
        curve = training.get("curve") or []
        looks = _some(training.get("validation") or curve)
        validated = {point["step"] for point in training.get("validation") or []}
        for look in looks:
            learnt = _nearest(curve, look["step"])
            held = look["loss"] if look["step"] in validated else None
            rows.append(_row("pretrain", look["step"], learnt, held, None))
    if classification:
        per_epoch = classification.get("steps_per_epoch") or 1
        for look in _some(classification.get("validation_curve") or []):
            rows.append(_row("finetune", look["step"] / per_epoch, None, look["loss"], look.get("accuracy")))
        test = classification.get("test")
        if test:
            rows.append(_row("judge", None, None, None, test["accuracy"]["mean"]))
    return rows


def _row(stage: str, step: float | None, learnt: float | None, held: float | None, accuracy: float | None) -> Phase:
    return {
        "stage": stage,
        "step": step,
        "pretraining_loss": learnt,
        "validation_loss": held,
        "finetuning_accuracy": accuracy,
    }


def _some(points: Sequence[Point]) -> Sequence[Point]:
    if len(points) <= MOST_LOOKS:
        return points
    return [points[round(index * (len(points) - 1) / (MOST_LOOKS - 1))] for index in range(MOST_LOOKS)]


def _nearest(curve: Sequence[Point], step: int) -> float | None:
    return min(curve, key=lambda point: abs(point["step"] - step))["loss"] if curve and step else None


def place(row: Phase) -> Message:
    """How far a phase was at a look, in words."""
    if row["step"] is None:
        return Message(N_("test rows"))
    if row["stage"] == "pretrain":
        return Message(N_("step {step}"), {"step": row["step"]})
    return Message(N_("epoch {step:raw}"), {"step": f"{row['step']:.3g}"})


def phases_section(training: Training | None, classification: Classification | None, writer: Writer) -> str:
    """The table; shown where a run has more than one phase."""
    rows = phases(training, classification)
    if not (training and classification):
        return ""
    head = (
        writer.say(N_("phase")),
        writer.say(N_("look")),
        writer.say(N_("pretraining loss")),
        writer.say(N_("validation loss")),
        writer.say(N_("fine-tuning accuracy")),
    )
    cells = [
        (
            writer.label(row["stage"]),
            writer.say(place(row).text, **place(row).values),
            writer.number(row["pretraining_loss"], 3),
            writer.number(row["validation_loss"], 3),
            writer.percent(row["finetuning_accuracy"]),
        )
        for row in rows
    ]
    lead = writer.say(
        N_("The whole way in one table. Losses of pretraining are in nats per token, of fine-tuning in nats per text.")
    )
    return f'<p class="lead">{lead}</p>{table(head, cells)}'

"""When the distance between training and validation loss deserves a word, and which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from treino.messages import N_, Message
from treino.report.facts import Point

LIMIT = 0.05
"""A rise counts from 5 % of the loss on: a smaller one is the noise of a few thousand validation tokens."""

SMALLEST = 1e-6
"""A loss of less counts as this much where a rise is told in percent of it."""


def describe_gap(curve: Sequence[Point], validation: Sequence[Point]) -> Message:
    """The sentence on learning by heart, by this rule, first match:

    1. the last validation loss is more than 5 % above the lowest: *risen*;
    2. validation minus training loss (its mean since the look at validation before) grew over the last third of the
       training by more than 5 % of the last validation loss, or by more than a quarter of itself to more than those 5 %:
       *widened*. A negative gap counts as none: while the loss falls fast, that mean lies above the validation loss;
    3. the gap is more than those 5 %: *apart*;
    4. otherwise *together*.
    """
    if not validation:
        return Message(N_("No text was kept for validation, so nothing here tells learning from learning by heart."))
    last = validation[-1]["loss"]
    lowest = min(validation, key=lambda point: point["loss"])
    values: dict[str, Any] = {"limit": LIMIT}
    if last > (1 + LIMIT) * lowest["loss"]:
        values |= {"rise": last / max(lowest["loss"], SMALLEST) - 1, "lowest": lowest["loss"], "step": lowest["step"]}
        return Message(
            N_(
                "The validation loss ended {rise:percent} above its lowest value, {lowest:3} at step {step:raw}: from "
                "there on the model learnt this text by heart. More text, or fewer steps, would help. (Said when the "
                "rise is over {limit:percent}.)"
            ),
            values,
        )
    gaps = _gaps(curve, validation)
    if len(gaps) < 3:
        return Message(N_("The validation loss did not turn upwards."))
    after = gaps[-1][1]
    before = next(gap for step, gap in reversed(gaps) if step <= 2 / 3 * gaps[-1][0] or step == gaps[0][0])
    values |= {"before": before, "after": after}
    by_a_quarter = after > 1.25 * max(before, 0.0) and after > LIMIT * last
    if by_a_quarter or after - max(before, 0.0) > LIMIT * last:
        return Message(
            N_(
                "The gap between training and validation loss grew from {before:3} to {after:3} in the last third: the "
                "model begins to learn this text by heart. (Said when the gap grows by more than {limit:percent} of "
                "the validation loss, or by a quarter.)"
            ),
            values,
        )
    if after > LIMIT * last:
        return Message(
            N_(
                "The validation loss ends {after:3} above the training loss ({before:3} two thirds through) and has not "
                "turned upwards: the two parts differ, or a little is learnt by heart."
            ),
            values,
        )
    return Message(
        N_(
            "Training and validation loss stay together (gap at the end {after:3}, two thirds through {before:3}): "
            "no sign of learning by heart."
        ),
        values,
    )


def _gaps(curve: Sequence[Point], validation: Sequence[Point]) -> list[tuple[int, float]]:
    """(step, validation minus training loss) at every look at validation with training steps since the one before."""
    gaps = []
    previous = -1
    for point in validation:
        since = [entry["loss"] for entry in curve if previous < entry["step"] <= point["step"]]
        if since:
            gaps.append((point["step"], point["loss"] - sum(since) / len(since)))
        previous = point["step"]
    return gaps

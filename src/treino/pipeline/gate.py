"""The gate: is a fine-tuned model good enough, by the thresholds of the recipe?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from treino.errors import UsageError
from treino.evaluation.measures import figure
from treino.messages import N_
from treino.recipe import parse_condition


def check_labels(conditions: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse a threshold on a class that the data does not have."""
    for text in conditions:
        label = parse_condition(text).label
        if label and label not in labels:
            raise UsageError(
                N_('gate.require = "{condition}" names the class {label}, which the data does not have'),
                fix=N_("its classes are: {labels}"),
                condition=text,
                label=label,
                labels=", ".join(labels),
            )


def judge_gate(
    conditions: Sequence[str], measures: Mapping[str, Any], baselines: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row a threshold: {condition, value, threshold, margin, passed}; the margin is positive where it is passed.

    A figure that is undefined (F1 of a class that never occurs), be it a baseline's, is None and passes nothing.
    """
    rows = []
    for text in conditions:
        condition = parse_condition(text)
        value = figure(dict(measures), condition.measure, condition.label)
        threshold = condition.number
        if condition.baseline:
            threshold += figure(dict(baselines[condition.baseline]), condition.measure, condition.label)
        margin = value - threshold if condition.at_least else threshold - value
        margin = -1.0 if math.isnan(margin) else margin
        passed = margin >= -1e-12
        told = {name: None if math.isnan(one) else one for name, one in (("value", value), ("threshold", threshold))}
        rows.append({"condition": text, **told, "margin": margin, "passed": passed})
    return rows


def smallest_margin(rows: Sequence[Mapping[str, Any]]) -> float:
    """How far the furthest threshold is passed (negative: missed)."""
    return min(row["margin"] for row in rows)

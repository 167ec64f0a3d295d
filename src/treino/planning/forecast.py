"""What a training run is expected to need, said before it starts, and held against what it did need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from treino.planning.flops import training_flops_per_token
from treino.planning.memory import training_memory
from treino.planning.parameters import Shape, parameters

SPREAD = 0.2
"""How far the speed of a whole run may lie from that of a few measured steps (other programs, heat, clock)."""


@dataclass(frozen=True)
class Forecast:
    """Expected needs of a training run; JSON-able by `dataclasses.asdict`.

    `parameters` and `memory` (bytes) by part with `total`; `flops` of the whole run by part with `total`; `tokens`
    processed; `seconds` with the ends of its range, None where no speed was measured.
    """

    parameters: dict[str, int]
    flops: dict[str, float]
    memory: dict[str, int]
    steps: int
    tokens: int
    tokens_per_second: float | None
    seconds: float | None
    seconds_low: float | None
    seconds_high: float | None


def forecast(
    shape: Shape,
    vocabulary: int,
    *,
    batch: int,
    context: int,
    steps: int,
    tokens: int | None = None,
    tokens_per_second: float | None = None,
    accumulation: int = 1,
    rows_at_once: int | None = None,
    passes: int | None = None,
    extra_seconds: float = 0.0,
    spread: float = SPREAD,
    **work: Any,
) -> Forecast:
    """Forecast `steps` optimiser steps of `accumulation` passes over `batch` rows of `context` tokens.

    seconds = tokens / speed + extra, low and high with the speed multiplied by (1 ± `spread`).

    Args:
        tokens: of the whole run, where rows are not all `context` long.
        tokens_per_second: measured on a few steps of this model on this machine; None leaves the time open.
        rows_at_once, passes: rows of a pass of one process, and its passes in a step, where they are not `batch` and
            `accumulation`.
        extra_seconds: for what stands outside the steps (validation, samples, saving).
        work: what else decides about memory, as in `treino.planning.work.Work`; that of one process, where there are several.
    """
    tokens = steps * accumulation * batch * context if tokens is None else tokens
    flops = training_flops_per_token(shape, vocabulary, context)

    def seconds(factor: float) -> float | None:
        return tokens / (tokens_per_second * factor) + extra_seconds if tokens_per_second else None

    return Forecast(
        parameters=parameters(shape, vocabulary),
        flops={part: amount * tokens for part, amount in flops.items()},
        memory=training_memory(
            *(shape, vocabulary, rows_at_once or batch, context),
            accumulation=passes or accumulation,
            **work,
        ),
        steps=steps,
        tokens=tokens,
        tokens_per_second=tokens_per_second,
        seconds=seconds(1.0),
        seconds_low=seconds(1 + spread),
        seconds_high=seconds(1 - spread),
    )


def compare(forecast: Forecast | Mapping, measured: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    """Forecast beside measured: {quantity: {forecast, low, high, measured, ratio}}, ratio = measured / forecast.

    Quantities: `parameters`, `peak_memory` (bytes, beside the forecast's total), `tokens`, `tokens_per_second` and
    `seconds`; one that either side lacks is left out. `forecast` may be the stored JSON of one.
    """
    values = forecast if isinstance(forecast, Mapping) else vars(forecast)
    expected = {
        "parameters": (values.get("parameters") or {}).get("total"),
        "peak_memory": (values.get("memory") or {}).get("total"),
        "tokens": values.get("tokens"),
        "tokens_per_second": values.get("tokens_per_second"),
        "seconds": values.get("seconds"),
    }
    rows: dict[str, dict[str, float | None]] = {}
    for quantity, amount in expected.items():
        actual = measured.get(quantity)
        if amount and actual is not None:
            rows[quantity] = {
                "forecast": amount,
                "low": values.get(f"{quantity}_low"),
                "high": values.get(f"{quantity}_high"),
                "measured": actual,
                "ratio": actual / amount,
            }
    return rows

"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

KINDS = ("cosine", "wsd", "constant")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then by kind, with w = warmup · steps and, at step s (from 0), peak · (s + 1) / w while s < w:

    - cosine: peak · (final + (1 − final) · (1 + cos(π · u)) / 2), u = (s − w) / (steps − w) (Loshchilov & Hutter 2017)
    - wsd: peak until the last `decay` · steps, then peak · (1 − (1 − final) · √v), v the share of these that is done
      (warm-up, stable, decay: Hu et al. 2024; the root: Hägele et al. 2024)
    - constant: peak
    """

    peak: float
    steps: int
    warmup: float = 0.0
    final: float = 0.0
    kind: str = "cosine"
    decay: float = 0.4

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind  # "auto" became one of them with the recipe

    def __call__(self, step: int) -> float:
        warm = math.ceil(self.warmup * self.steps)
        if step < warm:
            return self.peak * (step + 1) / warm
        if self.kind == "constant":
            return self.peak
        if self.kind == "wsd":
            last = max(1, round(self.decay * self.steps))
            done = max(0.0, (step - (self.steps - last)) / last)
            return self.peak * (1 - (1 - self.final) * math.sqrt(done))
        share = (step - warm) / max(1, self.steps - warm)
        return self.peak * (self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2)

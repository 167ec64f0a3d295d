"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a cosine to `final` · peak (Loshchilov & Hutter 2017), or constant.

    With w = warmup · steps, at step s (from 0): peak · (s + 1) / w while s < w; then
    peak · (final + (1 − final) · (1 + cos(π · (s − w) / (steps − w))) / 2).
    """

    peak: float
    steps: int
    warmup: float = 0.0
    final: float = 0.0
    kind: Literal["cosine", "constant"] = "cosine"

    def __call__(self, step: int) -> float:
        warm = math.ceil(self.warmup * self.steps)
        if step < warm:
            return self.peak * (step + 1) / warm
        if self.kind == "constant":
            return self.peak
        share = (step - warm) / max(1, self.steps - warm)
        return self.peak * (self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2)

"""What data are worth to a model: the loss that N parameters reach on D tokens, by two fits of one law."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from treino.planning.throughput import Interval

REPEATS = 15.0
"""R*, the half-life of repeated data in epochs (Muennighoff et al. 2023, arXiv 2305.16264)."""

DRAWS, SEED = 1000, 7
LOW, HIGH = 0.1, 0.9


@dataclass(frozen=True)
class Fit:
    """L(N, D) = E + A / N^α + B / D^β, in nats per token, with the standard errors of its constants where they are known.

    The errors are taken as independent, for the fit's covariances were not published: the intervals are too wide rather than
    too narrow.
    """

    name: str
    e: float
    a: float
    b: float
    alpha: float
    beta: float
    errors: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)

    def loss(self, parameters: float, tokens: float) -> float:
        return self.e + self.a / parameters**self.alpha + self.b / tokens**self.beta

    def optimal_tokens(self, parameters: float) -> float:
        """The D for which N parameters are the best use of 6·N·D: D^β = β·B / (α·A) · N^α."""
        return (self.beta * self.b / (self.alpha * self.a)) ** (1 / self.beta) * parameters ** (self.alpha / self.beta)

    def interval(self, parameters: float, tokens: float) -> Interval:
        """The loss with its 80 % interval, drawn from the standard errors."""
        draws = sorted(fit.loss(parameters, tokens) for fit in self._draws())
        return Interval(draws[int(LOW * len(draws))], self.loss(parameters, tokens), draws[int(HIGH * len(draws))])

    def _draws(self) -> list[Fit]:
        if not any(self.errors):
            return [self]
        chance = random.Random(SEED)
        values = (self.e, self.a, self.b, self.alpha, self.beta)

        def drawn() -> list[float]:
            return [max(1e-6, chance.gauss(value, error)) for value, error in zip(values, self.errors, strict=True)]

        return [Fit(self.name, e, a, b, alpha, beta) for e, a, b, alpha, beta in (drawn() for _ in range(DRAWS))]


HOFFMANN = Fit("Hoffmann et al. 2022", 1.69, 406.4, 410.7, 0.34, 0.28)
BESIROGLU = Fit(
    *("Besiroglu et al. 2024", 1.8172, 482.01, 2085.43, 0.3478, 0.3658),
    errors=(0.03, 124.6, 1293.0, 0.02, 0.02),
)
FITS = (HOFFMANN, BESIROGLU)
"""The paper of Chinchilla (arXiv 2203.15556) and its refit from the same figures (arXiv 2404.10102), which gives errors."""


def worth(unique: float, tokens: float) -> float:
    """How many fresh tokens a training on `tokens` is worth whose data are `unique` tokens, repeated.

    D' = U + U·R*·(1 − e^(−R / R*)), R = tokens / U − 1 repetitions: four epochs are worth nearly as much as fresh text.
    """
    if tokens <= unique:
        return tokens
    return unique + unique * REPEATS * (1 - math.exp(-(tokens / unique - 1) / REPEATS))

"""Classification as an objective, and its batches: of token ids for a whole classifier, of vectors for a head alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treino.tokens.labelled import BucketedRows, ClassBatch, Pieces


class Classification:
    """Cross-entropy of the class, Σ w(y) · −log p(y) / Σ w(y), in natural logarithms.

    Args:
        class_weights: w by class, (classes,); None: all 1.
    """

    weights: Mapping[str, float] = {"class": 1.0}

    def __init__(self, class_weights: Tensor | None = None) -> None:
        self.class_weights = class_weights

    def counts(self, batch: ClassBatch) -> dict[str, float]:
        if self.class_weights is None:
            return {"class": float(len(batch.targets))}
        return {"class": float(self.class_weights.to(batch.targets.device)[batch.targets].sum())}

    def sums(self, model: nn.Module, batch: ClassBatch) -> dict[str, Tensor]:
        logits = model(*batch.inputs).float()
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        return {"class": F.cross_entropy(logits, batch.targets, weight=weights, reduction="sum")}


class SeveralClasses:
    """Binary cross-entropy of each class, Σ w(c, y) · −log P(y of c) / Σ w(c, y) over rows and classes, in natural logarithms.

    Args:
        class_weights: w(c, 1) by class, (classes,), where w(c, 0) is 1; None: all 1.
    """

    weights: Mapping[str, float] = {"class": 1.0}

    def __init__(self, class_weights: Tensor | None = None) -> None:
        self.class_weights = class_weights

    def _weights(self, targets: Tensor) -> Tensor:
        if self.class_weights is None:
            return torch.ones_like(targets)
        return 1 + targets * (self.class_weights.to(targets.device) - 1)

    def counts(self, batch: ClassBatch) -> dict[str, float]:
        return {"class": float(self._weights(batch.targets.float()).double().sum())}

    def sums(self, model: nn.Module, batch: ClassBatch) -> dict[str, Tensor]:
        logits, targets = model(*batch.inputs).float(), batch.targets.float()
        weights = self._weights(targets)
        return {"class": F.binary_cross_entropy_with_logits(logits, targets, weight=weights, reduction="sum")}


def positive_weights(targets: Sequence[Sequence[int]]) -> Tensor:
    """w(c, 1) = rows without c / rows with it: to have a class weighs as much in the sum as not to have it; 1 where no row has
    it.
    """
    rows = torch.as_tensor(targets)
    there = rows.sum(0).float()
    return torch.where(there > 0, (len(rows) - there) / there.clamp(min=1), torch.ones_like(there))


def balanced_weights(targets: Sequence[int], classes: int) -> Tensor:
    """w(c) = rows / (classes · rows of c): every class weighs the same in the sum; 1 where no row has it."""
    counts = torch.bincount(torch.as_tensor(targets), minlength=classes).float()
    return torch.where(counts > 0, counts.sum() / (classes * counts.clamp(min=1)), torch.ones_like(counts))


class PieceSource:
    """Batches of token ids in bucketed order; `at_once`: rows that go through the model together at most (None: all)."""

    def __init__(self, pieces: Pieces, order: BucketedRows, at_once: int | None = None) -> None:
        self.pieces, self.order, self.at_once = pieces, order, at_once

    def step(self, step: int) -> list[ClassBatch]:
        rows = self.order.rows(step)
        size = self.at_once or len(rows)
        return [self.pieces.batch(rows[first : first + size]) for first in range(0, len(rows), size)]


class FeatureSource:
    """The same rows in the same order as pooled vectors, which a frozen body gives once and for all."""

    def __init__(self, features: Tensor, targets: Tensor, order: BucketedRows) -> None:
        self.features, self.targets, self.order = features, targets, order

    def step(self, step: int) -> list[ClassBatch]:
        return [self.batch(self.order.rows(step))]

    def batch(self, rows: Sequence[int]) -> ClassBatch:
        """Vectors of these rows with their classes."""
        chosen = torch.as_tensor(rows)
        return ClassBatch((self.features[chosen],), self.targets[chosen])

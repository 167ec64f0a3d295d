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


def balanced_weights(targets: Sequence[int], classes: int) -> Tensor:
    """w(c) = rows / (classes · rows of c): every class weighs the same in the sum."""
    counts = torch.bincount(torch.as_tensor(targets), minlength=classes).float()
    return counts.sum() / (classes * counts)


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

"""A classification head on a language model's body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treino.models.base import LanguageModel
from treino.models.build import copy_of
from treino.models.nf4 import NF4Linear
from treino.models.transformer import INITIAL_DEVIATION
from treino.tokens.labelled import Pieces

HIDDEN = 64
"""Width of the hidden layer in the LSTM's head, as in the course."""


class LinearHead(nn.Module):
    """score(dropout(x)): one matrix without bias, as in `LlamaForSequenceClassification`."""

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.score = nn.Linear(width, classes, bias=False)
        nn.init.normal_(self.score.weight, std=INITIAL_DEVIATION)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.score(F.dropout(x, self.dropout, self.training))


class HiddenLayerHead(nn.Module):
    """width → 64 → ReLU → dropout → classes."""

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, HIDDEN), nn.Linear(HIDDEN, classes)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(F.dropout(F.relu(self.inner(x)), self.dropout, self.training))


class Classifier(nn.Module):
    """Class logits of each row: the head on the vector of its last token, found by length and never by a token's id.

    Attributes:
        body: the language model, whose own head is not used.
        labels: the classes, in the order of the logits.
        thresholds: where texts may have several classes or none, the probability of each from which on a text has it.
    """

    def __init__(
        self,
        body: LanguageModel,
        labels: Sequence[str],
        dropout: float = 0.0,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.body, self.labels = body, tuple(labels)
        self.thresholds = None if thresholds is None else list(thresholds)
        kind = HiddenLayerHead if body.settings.architecture == "lstm" else LinearHead
        self.head = kind(body.settings.width, len(self.labels), dropout)
        tables = {id(parameter) for part in body.parts() for parameter in part}
        for parameter in body.parameters():
            parameter.requires_grad_(id(parameter) in tables)  # a tied output table stays: it is the input table

    def pooled(self, ids: Tensor, present: Tensor) -> Tensor:
        """The last token's vector, (rows, width). `present` (rows, length) says which places hold a token; wherever the
        padding stands, tokens are moved to the front, where nothing before the padding sees it.
        """
        order = (~present).to(torch.uint8).argsort(dim=1, stable=True)
        lengths = present.sum(1)
        vectors = self.body.hidden(ids.gather(1, order))
        return vectors[torch.arange(len(ids), device=ids.device), lengths - 1]

    def forward(self, ids: Tensor, present: Tensor) -> Tensor:
        """Logits (rows, classes)."""
        return self.head(self.pooled(ids, present))

    def parameter_counts(self) -> dict[str, int]:
        """Numbers in the body and the head together, `total`, and those that training changes, `trainable`."""
        used = [parameter for part in self.body.parts() for parameter in part] + list(self.head.parameters())
        in_four_bits = sum(module.shape.numel() for module in self.body.modules() if isinstance(module, NF4Linear))
        return {
            "total": sum(parameter.numel() for parameter in used) + in_four_bits,
            "trainable": sum(parameter.numel() for parameter in used if parameter.requires_grad),
        }


def build_classifier(body: LanguageModel, labels: Sequence[str], *, dropout: float, fresh: bool = False) -> Classifier:
    """A classifier whose body is a copy of a model's (`fresh`: has random weights of its shape) with another dropout."""
    return Classifier(copy_of(body, dropout=dropout, fresh=fresh), labels, dropout)


@torch.no_grad()
def predict(classifier: Classifier, pieces: Pieces, *, rows: int = 64) -> np.ndarray:
    """Probabilities (texts, classes): softmax of the logits (sigmoid, where texts may have several classes), averaged over a
    text's pieces; NaN for a dropped text.
    """
    device = next(classifier.parameters()).device
    was_training = classifier.training
    classifier.eval()
    sums = np.zeros((pieces.count, len(classifier.labels)))
    order = pieces.by_length()
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        logits = classifier(*pieces.batch(chosen).to(device).inputs)
        chances = logits.double().softmax(-1) if classifier.thresholds is None else logits.double().sigmoid()
        np.add.at(sums, pieces.texts[chosen], chances.cpu().numpy())
    classifier.train(was_training)
    counts = np.bincount(pieces.texts, minlength=pieces.count)[:, None]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


@torch.no_grad()
def features(classifier: Classifier, pieces: Pieces, *, rows: int = 64) -> Tensor:
    """The pooled vectors (pieces, width) of the body as it is, without dropout: what a frozen body gives in every epoch."""
    device = next(classifier.parameters()).device
    classifier.eval()
    found = torch.empty(len(pieces), classifier.body.settings.width)
    order = pieces.by_length()
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        found[chosen] = classifier.pooled(*pieces.batch(chosen).to(device).inputs).float().cpu()
    return found

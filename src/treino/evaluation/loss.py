"""The loss of every token of held-out documents under a model; logits are never kept beyond a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from treino import events
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.models.lstm import LSTM
from treino.tokens.tokenizer import Tokenizer

TOKENS_AT_ONCE = 8192
"""Places of a batch: bounds the vectors."""

LONGEST_WINDOW = 8192
"""Places of a row at most: contexts of a hundred thousand places, as some models have, would not fit into a laptop."""

LOGITS_AT_ONCE = 1 << 22
"""Logits that exist at one time, whatever the vocabulary: 16 MB in float32, and as much again for their normalisation."""


def token_losses(
    model: LanguageModel, documents: Sequence[np.ndarray], end_of_text: int, begin_of_text: int | None = None
) -> list[np.ndarray]:
    """−ln p of every token of every document and of its end token, given all that stands before it: `begin_of_text` (by
    default the end token) and the document so far.

    A document longer than the context (or than `LONGEST_WINDOW`) is read in windows that overlap by half: each token is
    scored once, with at least half a window before it where there is one. An LSTM carries its state on instead and forgets
    nothing.
    """
    model.eval()
    losses = [np.empty(len(document) + 1, np.float32) for document in documents]
    begin, end = ([end_of_text if begin_of_text is None else begin_of_text], [end_of_text])
    wholes = [np.concatenate([begin, document, end]).astype(np.int64) for document in documents]
    longest = min(model.longest_row, LONGEST_WINDOW)
    windows = []
    for index, whole in enumerate(wholes):
        if isinstance(model, LSTM) and len(whole) - 1 > longest:
            losses[index] = _carried(model, whole)
        else:
            windows += [(index, *span) for span in spans(len(whole) - 1, longest)]
    windows.sort(key=lambda window: window[3] - window[1])
    done = 0
    while windows:
        length = windows[-1][3] - windows[-1][1]
        count = max(1, TOKENS_AT_ONCE // length)
        taken, windows = windows[-count:], windows[:-count]
        _score(model, taken, wholes, losses)
        done += len(taken)
        events.progress("evaluate", done, done + len(windows), N_("windows"))
    return losses


def mean_loss(model: LanguageModel, documents: Sequence[np.ndarray], tokenizer: Tokenizer) -> float:
    """The mean of `token_losses` over all tokens and end tokens of documents, in nats."""
    losses = token_losses(model, documents, tokenizer.end_of_text, tokenizer.begin_of_text)
    return float(np.concatenate(losses).mean(dtype=np.float64))


def spans(length: int, context: int) -> list[tuple[int, int, int]]:
    """(first, first that is scored, last) of the windows over `length` places: each place is scored in exactly one."""
    if length <= context:
        return [(0, 0, length)]
    step = max(1, context // 2)
    found = [(0, 0, context)]
    while found[-1][2] < length:
        scored = found[-1][2]
        last = min(length, scored + step)
        found.append((last - context, scored, last))
    return found


def _score(
    model: LanguageModel,
    windows: Sequence[tuple[int, int, int, int]],
    wholes: Sequence[np.ndarray],
    losses: list[np.ndarray],
) -> None:
    """Fill in the losses of a batch of windows over documents that stand between their end tokens."""
    length = max(last - first for _, first, _, last in windows)
    ids = np.zeros((len(windows), length), np.int64)
    targets, wanted = np.zeros_like(ids), np.zeros(ids.shape, bool)
    for row, (index, first, scored, last) in enumerate(windows):
        whole = wholes[index]
        ids[row, : last - first] = whole[first:last]
        targets[row, : last - first] = whole[first + 1 : last + 1]
        wanted[row, scored - first : last - first] = True
    found = _losses(model, ids, targets, wanted)
    ends = np.cumsum([last - scored for _, _, scored, last in windows])
    for (index, _, scored, last), end in zip(windows, ends, strict=True):
        losses[index][scored:last] = found[end - (last - scored) : end]


def _losses(model: LanguageModel, ids: np.ndarray, targets: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Losses of the wanted places of rows, one after the other; all arrays (rows, length)."""
    device = next(model.parameters()).device
    chosen = torch.from_numpy(wanted).to(device)
    with torch.inference_mode():
        hidden = model.hidden(torch.from_numpy(ids).to(device))
        return head_losses(model, hidden[chosen], torch.from_numpy(targets).to(device)[chosen]).cpu().numpy()


def head_losses(model: LanguageModel, hidden: Tensor, targets: Tensor) -> Tensor:
    """−ln p of targets (places,) behind vectors (places, width), in float32, from the logits of a few places at a time."""
    places = max(1, LOGITS_AT_ONCE // model.vocabulary)
    pieces = zip(hidden.split(places), targets.split(places), strict=True)
    return torch.cat([F.cross_entropy(model.logits(x).float(), y, reduction="none") for x, y in pieces])


def _carried(model: LanguageModel, document: np.ndarray) -> np.ndarray:
    """Losses of one document that stands between its end tokens, read piece by piece with the state carried on."""
    whole = torch.from_numpy(document).to(next(model.parameters()).device)
    piece = model.longest_row
    cache, pieces = model.new_cache(1, piece), []
    with torch.inference_mode():
        for first in range(0, len(whole) - 1, piece):
            last = min(first + piece, len(whole) - 1)
            hidden = model.hidden(whole[None, first:last], cache=cache)[0]
            pieces.append(head_losses(model, hidden, whole[first + 1 : last + 1]).cpu().numpy())
            events.progress("evaluate", last, len(whole) - 1, N_("tokens"))
    return np.concatenate(pieces)

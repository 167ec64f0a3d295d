"""The loss of every token of held-out documents under a model; logits are never kept beyond a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from treino import events
from treino.models.base import LanguageModel
from treino.models.lstm import LSTM

TOKENS_AT_ONCE = 8192
"""Places of a batch: bounds the logits."""


def token_losses(model: LanguageModel, documents: Sequence[np.ndarray], end_of_text: int) -> list[np.ndarray]:
    """−ln p of every token of every document and of its end token, given all that stands before it.

    A document longer than the context is read in windows that overlap by half: each token is scored once, with at least
    half a context before it where there is one. The LSTM carries its state instead and forgets nothing.
    """
    model.eval()
    if isinstance(model, LSTM):
        return [_carried(model, document, end_of_text) for document in documents]
    losses = [np.empty(len(document) + 1, np.float32) for document in documents]
    windows = [
        (index, first, scored, last)
        for index, document in enumerate(documents)
        for first, scored, last in spans(len(document) + 1, model.context)
    ]
    windows.sort(key=lambda window: window[3] - window[1])
    done = 0
    while windows:
        length = windows[-1][3] - windows[-1][1]
        count = max(1, TOKENS_AT_ONCE // length)
        taken, windows = windows[-count:], windows[:-count]
        _score(model, taken, documents, losses, end_of_text)
        done += len(taken)
        events.progress("evaluate", done, done + len(windows), "windows")
    return losses


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
    documents: Sequence[np.ndarray],
    losses: list[np.ndarray],
    end_of_text: int,
) -> None:
    length = max(last - first for _, first, _, last in windows)
    ids = np.zeros((len(windows), length), np.int64)
    targets = np.zeros_like(ids)
    for row, (index, first, _, last) in enumerate(windows):
        whole = np.concatenate([[end_of_text], documents[index].astype(np.int64), [end_of_text]])
        ids[row, : last - first] = whole[first:last]
        targets[row, : last - first] = whole[first + 1 : last + 1]
    device = next(model.parameters()).device
    with torch.inference_mode():
        logits = model(torch.from_numpy(ids).to(device)).float()
        found = F.cross_entropy(logits.transpose(1, 2), torch.from_numpy(targets).to(device), reduction="none").cpu()
    for row, (index, first, scored, last) in enumerate(windows):
        losses[index][scored:last] = found[row, scored - first : last - first].numpy()


def _carried(model: LanguageModel, document: np.ndarray, end_of_text: int) -> np.ndarray:
    whole = torch.from_numpy(np.concatenate([[end_of_text], document.astype(np.int64), [end_of_text]]))
    whole = whole.to(next(model.parameters()).device)
    cache, pieces = model.new_cache(1, model.context), []
    with torch.inference_mode():
        for first in range(0, len(whole) - 1, TOKENS_AT_ONCE // 4):
            last = min(first + TOKENS_AT_ONCE // 4, len(whole) - 1)
            hidden = model.hidden(whole[None, first:last], cache=cache)
            logits = model.logits(hidden)[0].float()
            pieces.append(F.cross_entropy(logits, whole[first + 1 : last + 1], reduction="none").cpu().numpy())
    return np.concatenate(pieces)

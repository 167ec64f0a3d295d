"""Every token of a document is scored exactly once, with what may stand before it, whatever the batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from treino import files
from treino.evaluation import loss
from treino.evaluation.forgetting import MOST_TOKENS, held_out_documents
from treino.evaluation.loss import head_losses, spans, token_losses
from treino.models import lstm
from treino.models.base import LanguageModel
from treino.models.build import build_model
from treino.models.lstm import LONG_ROW
from treino.recipe import ModelSettings
from treino.tokens.shards import RECORD, write_part

VOCABULARY = 19
CONTEXT = 8
END = 0
FLOAT32 = 2e-5
"""Of losses up to about 20 nats: sums of some tens of products in float32, in another order."""


def model_of(architecture: str, *, dropout: float = 0.0) -> LanguageModel:
    """A small random model whose weights are scaled so that its predictions are far from uniform."""
    torch.manual_seed(3)
    settings = ModelSettings(
        architecture=architecture,  # type: ignore[arg-type]
        width=16,
        layers=2,
        heads=2,
        kv_heads=1,
        feed_forward=24,
        embedding=16,
        context=CONTEXT,
        dropout=dropout,
    )
    model = build_model(settings, VOCABULARY)
    scale = {"transformer": 15.0, "lstm": 4.0}[architecture]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(scale)
    return model.eval()


@pytest.fixture(params=["transformer", "lstm"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return model_of(request.param)


def documents(*lengths: int) -> list[np.ndarray]:
    draw = np.random.default_rng(sum(lengths))
    return [draw.integers(1, VOCABULARY, length).astype(np.uint16) for length in lengths]


def slow_losses(model: LanguageModel, document: np.ndarray) -> list[float]:
    """Place by place, each from a row of its own: −log softmax of what stands before it, as far back as is documented.

    The first `CONTEXT` places see everything. Behind them half a context is scored at a time, and its places see the
    other half and each other. An LSTM sees everything always.
    """
    whole = [END, *document.tolist(), END]
    found = []
    for place in range(len(whole) - 1):
        first = 0
        if model.settings.architecture == "transformer" and place >= CONTEXT:
            half = CONTEXT // 2
            last = min(len(whole) - 1, CONTEXT + half * ((place - CONTEXT) // half + 1))
            first = last - CONTEXT
        with torch.inference_mode():
            logits = model(torch.tensor([whole[first : place + 1]]))[0, -1].double()
        found.append(-float(torch.log_softmax(logits, 0)[whole[place + 1]]))
    return found


@given(length=st.integers(1, 200), context=st.integers(1, 40))
def test_windows_score_each_place_once_with_half_a_context_before_it(length: int, context: int) -> None:
    windows = spans(length, context)
    scored = [place for _, first, last in windows for place in range(first, last)]
    assert scored == list(range(length))
    for first, begin, last in windows:
        assert 0 <= first <= begin < last and last - first <= context
        assert first == 0 or begin - first >= context // 2


@pytest.mark.parametrize("lengths", [(0,), (1,), (CONTEXT - 1,), (CONTEXT,), (CONTEXT + 1,), (30,), (5, 33, 0, 8, 21)])
def test_equals_the_slow_reference(model: LanguageModel, lengths: tuple[int, ...]) -> None:
    texts = documents(*lengths)
    for document, found in zip(texts, token_losses(model, texts, END), strict=True):
        assert len(found) == len(document) + 1, "the end token counts"
        np.testing.assert_allclose(found, slow_losses(model, document), atol=FLOAT32)


def test_predictions_are_far_from_uniform(model: LanguageModel) -> None:
    """Or the comparisons here would prove little."""
    found = np.concatenate(token_losses(model, documents(40, 40), END))
    assert found.std() > 0.5


@pytest.mark.parametrize(("tokens", "logits"), [(1, 1), (40, 5 * VOCABULARY), (10**6, 10**6)])
def test_sums_do_not_depend_on_batches(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, tokens: int, logits: int
) -> None:
    texts = documents(3, 17, 50, 1, 0, 9, 9, 9, 26)
    expected = token_losses(model, texts, END)
    monkeypatch.setattr(loss, "TOKENS_AT_ONCE", tokens)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", logits)
    for found, wanted in zip(token_losses(model, texts, END), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=FLOAT32)


def test_documents_are_strangers(model: LanguageModel) -> None:
    first, second, other = documents(12, 20, 7)
    together, exchanged = token_losses(model, [first, second], END), token_losses(model, [other, second], END)
    np.testing.assert_allclose(together[1], exchanged[1], atol=FLOAT32)


@pytest.mark.parametrize("longest", [1, 7, 30, 31, 1000])
def test_an_lstm_carries_its_state_from_piece_to_piece(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    model, texts = model_of("lstm"), documents(30, 4)
    monkeypatch.setattr(lstm, "LONG_ROW", longest)
    for document, found in zip(texts, token_losses(model, texts, END), strict=True):
        np.testing.assert_allclose(found, slow_losses(model, document), atol=FLOAT32)


def test_a_document_longer_than_any_piece_of_an_lstm() -> None:
    model = model_of("lstm")
    (document,) = documents(LONG_ROW + 50)
    found = token_losses(model, [document], END)[0]
    whole = torch.tensor([[END, *document.tolist(), END]])
    with torch.inference_mode():
        expected = torch.nn.functional.cross_entropy(model(whole[:, :-1])[0], whole[0, 1:], reduction="none")
    np.testing.assert_allclose(found, expected.numpy(), atol=FLOAT32)


def test_dropout_is_off(model: LanguageModel) -> None:
    texts = documents(11, 25)
    expected = token_losses(model, texts, END)
    noisy = model_of(model.settings.architecture, dropout=0.5).train()
    for found, wanted in zip(token_losses(noisy, texts, END), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_only_the_logits_of_scored_places_exist_and_few_at_a_time(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluation keeps sums: logits are never kept, nor made for padding or for the half of a window that is context."""
    made: list[int] = []
    head = model.logits

    def watched(hidden: Tensor) -> Any:
        made.append(hidden.shape[:-1].numel())
        return head(hidden)

    monkeypatch.setattr(model, "logits", watched)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 6 * VOCABULARY)
    texts = documents(50, 3, 0, 28)
    token_losses(model, texts, END)
    assert max(made) <= 6
    assert sum(made) == sum(len(document) + 1 for document in texts)


def test_losses_of_no_place_at_all(model: LanguageModel) -> None:
    assert head_losses(model, torch.zeros(0, 16), torch.zeros(0, dtype=torch.long)).shape == (0,)
    assert token_losses(model, [], END) == []


def test_of_a_held_out_document_longer_than_what_is_measured_the_beginning_is_read(tmp_path: Path) -> None:
    counts = write_part(tmp_path, "validation", [np.arange(5), np.zeros(2 * MOST_TOKENS), np.arange(9)], 1, "uint16")
    files.write_json(tmp_path / RECORD, {"dtype": "uint16", "end_of_text": 1, "parts": {"validation": counts}})
    assert [len(document) for document in held_out_documents(tmp_path)] == [5, MOST_TOKENS]

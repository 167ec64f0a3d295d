"""The Transformer and the LSTM: documents in one row do not see each other, memory equals recomputation, micro-batches
equal one batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import close, make

from treino.tokens.packing import DocumentRows, PackedRows, Rows, make_batch
from treino.tokens.shards import Shard
from treino.training.objective import NextToken
from treino.training.source import RowSource
from treino.training.step import accumulate_gradients
from treino.training.task import Task

V = 320


def shard(lengths: list[int], seed: int = 0) -> Shard:
    draw = np.random.default_rng(seed)
    tokens, offsets = [], [0]
    for length in lengths:
        tokens += [*draw.integers(2, V, length).tolist(), 0]
        offsets.append(len(tokens))
    return Shard(np.array(tokens, np.uint16), np.array(offsets, np.int64), 0)


def test_a_document_does_not_see_the_one_before_it_in_its_row() -> None:
    model = make(V)
    batch = make_batch(PackedRows(shard([15, 20]), 48, 0), [(0, 0)])
    first = batch.segments[0] == 0
    other = batch.ids.clone()
    other[0, first] = (other[0, first] + 17) % V
    with torch.no_grad():
        one = model(batch.ids, batch.positions, batch.segments)[0, batch.segments[0] == 1]
        two = model(other, batch.positions, batch.segments)[0, batch.segments[0] == 1]
        joined = model(other)[0, batch.segments[0] == 1]
    assert torch.equal(one, two)
    assert not torch.allclose(joined, two, atol=1e-2), "without segments the change must be seen"


def test_a_document_in_a_row_is_computed_as_if_it_were_alone() -> None:
    model = make(V)
    batch = make_batch(PackedRows(shard([15, 20]), 48, 0), [(0, 0)])
    with torch.no_grad():
        packed = model(batch.ids, batch.positions, batch.segments)[0]
        for number in (0, 1):
            place = batch.segments[0] == number
            assert close(packed[place], model(batch.ids[:, place])[0])


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_padding_at_the_right_and_what_comes_later_change_nothing(architecture: str) -> None:
    model = make(V, architecture=architecture)
    ids = torch.randint(2, V, (2, 30))
    later = ids.clone()
    later[:, 20:] = 1
    with torch.no_grad():
        assert torch.equal(model(ids)[:, :20], model(later)[:, :20])
        assert not torch.allclose(model(ids)[:, 20:], model(later)[:, 20:], atol=1e-2)


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
@pytest.mark.parametrize("pieces", [[1] * 48, [7, 1, 1, 20, 19], [47, 1]])
def test_going_on_from_memory_equals_reading_all_again(architecture: str, pieces: list[int]) -> None:
    model = make(V, architecture=architecture)
    ids = torch.randint(2, V, (2, 48), generator=torch.Generator().manual_seed(3))
    cache, parts = model.new_cache(2, 48), []
    with torch.inference_mode():
        for piece in torch.split(ids, pieces, 1):
            parts.append(model.logits(model.hidden(piece, cache=cache)))
        assert close(torch.cat(parts, 1), model(ids))


def test_fewer_key_heads_equal_repeated_ones() -> None:
    shared, full = make(V, kv_heads=2), make(V, kv_heads=4)
    weights = shared.state_dict()
    for name in weights:
        if "k_proj" in name or "v_proj" in name:
            weights[name] = weights[name].view(2, 8, 32).repeat_interleave(2, 0).reshape(32, 32)
    full.load_state_dict(weights)
    ids = torch.randint(2, V, (2, 30))
    with torch.no_grad():
        assert close(shared(ids), full(ids))


def gradients(architecture: str, rows: Rows, batch: int, micro: int) -> dict[str, torch.Tensor]:
    model = make(V, scale=3.0, architecture=architecture).train()
    task = Task(model, NextToken(), RowSource(rows, batch, micro))
    accumulate_gradients(task, task.source.step(0), "float32", torch.device("cpu"))
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_micro_batches_equal_one_batch(architecture: str) -> None:
    """Rows of very unequal lengths, so that the mean of the micro-batches' means would be far off."""
    source = shard([3, 40, 5, 44, 2, 30, 12, 7, 47, 4, 9, 26], seed=1)

    def rows() -> Rows:
        return PackedRows(source, 48, 0) if architecture == "transformer" else DocumentRows(source, 48, 0)

    whole, parts = gradients(architecture, rows(), 6, 1), gradients(architecture, rows(), 1, 6)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        # float32 sums of some hundred terms in another order: a few units in the sixth digit of the largest.
        assert float((value - parts[name]).abs().max()) <= 2e-5 * float(value.abs().max()), name


def test_dropout_acts_while_training_only() -> None:
    model = make(V, dropout=0.5)
    ids = torch.randint(2, V, (1, 20))
    with torch.no_grad():
        assert torch.equal(model(ids), model(ids))
        model.train()
        assert not torch.equal(model(ids), model(ids))


def test_weights_that_write_into_the_residual_path_start_smaller() -> None:
    model = make(V, scale=1.0, width=128, feed_forward=256, embedding=128)
    spread = {
        name.split(".")[-2]: float(value.detach().std()) for name, value in model.named_parameters() if value.ndim == 2
    }
    assert spread["o_proj"] == pytest.approx(0.02 / 2, rel=0.05)
    assert spread["down_proj"] == pytest.approx(0.02 / 2, rel=0.05)
    assert spread["q_proj"] == pytest.approx(0.02, rel=0.05)


def test_batches_move_between_devices_whole() -> None:
    batch = make_batch(PackedRows(shard([15, 20]), 48, 0), [(0, 0)])
    moved = batch.to(torch.device("meta"))
    assert {tensor.device.type for tensor in (moved.ids, moved.targets, moved.positions, moved.segments)} == {"meta"}
    assert replace(batch, segments=None).to(torch.device("meta")).segments is None

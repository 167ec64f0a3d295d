"""Layers that come from disk: the same numbers, two of them in memory, and each read when its turn comes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_models import make

from treino.models.base import LanguageModel
from treino.models.build import copy_of
from treino.models.folder import load_model, quantise_folder, save_model
from treino.models.lora import LoraShape, add_adapter, layers_of, targets_of
from treino.models.nf4 import in_four_bits
from treino.tokens.tokenizer import Tokenizer

IDS = torch.arange(60).view(3, 20) * 5 % 300
LAYERS = 4


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("streamed")
    model = make(
        tokenizer.size, width=64, heads=2, kv_heads=1, feed_forward=128, embedding=64, layers=LAYERS, scale=6.0
    )
    save_model(model, tokenizer, path / "base")
    quantise_folder(path / "base", path / "nf4")
    yield path / "nf4"


def adapted(folder: Path, stream: bool, dropout: float = 0.2) -> LanguageModel:
    model, _ = load_model(folder, stream=stream)
    model = copy_of(model, dropout=dropout)
    add_adapter(model, targets_of(model, model.matrices(), ("all",)), LoraShape(4, 12.0, dropout=dropout))
    draw = torch.Generator().manual_seed(7)
    for _, layer in layers_of(model):
        layer.lora_A["default"].data = torch.randn(layer.lora_A["default"].shape, generator=draw) * 0.1
        layer.lora_B["default"].data = torch.randn(layer.lora_B["default"].shape, generator=draw) * 0.1
    model.recompute = True
    return model.train()


def gradients(model: LanguageModel, precision: str, seed: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    model.zero_grad()
    segments = (torch.arange(20) // 8).repeat(3, 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        loss = model.loss(model.hidden(IDS, segments=segments), IDS.roll(-1, 1)) / IDS.numel()
    loss.backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return found | {"loss": loss.detach()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_are_those_of_the_model_in_memory_bit_by_bit(folder: Path, precision: str) -> None:
    """Dropout, documents apart, several steps, and a pass without gradients between them."""
    resident, streamed = adapted(folder, stream=False), adapted(folder, stream=True)
    assert streamed.stream is not None and resident.stream is None
    for seed in (4, 5):
        expected, found = gradients(resident, precision, seed), gradients(streamed, precision, seed)
        assert len(found) == 1 + LAYERS * 7 * 2
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
        assert all(float(value.abs().max()) > 0 for value in found.values())
        with torch.no_grad():
            assert torch.equal(resident.eval()(IDS), streamed.eval()(IDS))
        resident.train()
        streamed.train()


def test_two_layers_are_in_memory_and_what_is_there_is_not_read_again(folder: Path) -> None:
    model = adapted(folder, stream=True)
    stream = model.stream
    assert stream is not None
    layer = sum(span.size for matrix in stream.layers[0].values() for span in matrix.parts.values())
    held = []
    model.model.layers[2].register_forward_hook(  # type: ignore[union-attr, index]
        lambda *_: held.append([name for name, one in in_four_bits(model).items() if one.nibbles.numel()])
    )
    gradients(model, "float32")
    for names in held:
        assert {name.split(".")[2] for name in names} <= {"1", "2", "3"}
        assert len(names) <= 14
    assert sum(".layers.2." in name for name in held[0]) == 7
    # Up: four; down: the top two are still here, two. Then the lowest two are: two up.
    for reads in (4 + 2, 4 + 2 + 2 + 2):
        assert stream._coming is None and stream.read_bytes == reads * layer
        gradients(model, "float32")


def test_numbers_of_a_layer_that_is_not_here_cannot_be_used(folder: Path) -> None:
    model, _ = load_model(folder, stream=True)
    with torch.no_grad():
        model(IDS)
    away = model.get_submodule("model.layers.1.mlp.up_proj")
    with pytest.raises(AssertionError, match="not in memory"):
        away(torch.ones(1, 64))


def test_two_models_read_one_stream_in_turn(folder: Path) -> None:
    model, _ = load_model(folder, stream=True)
    with torch.no_grad():
        plain = model(IDS)
        other = adapted(folder, stream=True, dropout=0.0).eval()
        expected = other(IDS)
        mine = copy_of(model, dropout=0.0)
        add_adapter(mine, targets_of(mine, mine.matrices(), ("all",)), LoraShape(4, 12.0))
        for name, layer in layers_of(mine):
            layer.load_state_dict(
                {key: value for key, value in other.get_submodule(name).state_dict().items() if "lora" in key},
                strict=False,
            )
        for one, two in zip(model.model.layers, mine.eval().model.layers, strict=True):  # type: ignore[union-attr, arg-type]
            assert one is not two
        assert torch.equal(mine(IDS), expected)
        assert torch.equal(model(IDS), plain)
        assert mine.stream is model.stream


def test_a_tuned_model_is_saved_as_base_and_adapter(tokenizer: Tokenizer, folder: Path, tmp_path: Path) -> None:
    model = adapted(folder, stream=True).eval()
    save_model(model, tokenizer, tmp_path / "tuned é")
    again, _ = load_model(tmp_path / "tuned é")
    assert len(in_four_bits(again)) == LAYERS * 7
    with torch.no_grad():
        assert torch.equal(again(IDS), model(IDS))
        assert not torch.equal(again(IDS), load_model(folder)[0](IDS))
    assert (tmp_path / "tuned é" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_folder_that_does_not_fit_into_memory_is_streamed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_model(folder)[0].stream is None
    monkeypatch.setattr("treino.models.folder.available_memory", lambda: 100_000)
    assert load_model(folder)[0].stream is not None

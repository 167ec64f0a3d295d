"""Layers computed again on the way back: the same gradients from less memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from treino.models.build import build_model
from treino.models.families import OWN, Family
from treino.models.gpt2 import GPT2
from treino.recipe import ModelSettings

SHAPE = ModelSettings(width=64, layers=4, heads=2, kv_heads=1, feed_forward=128, context=96, embedding=64, dropout=0.2)


def model(architecture: str) -> nn.Module:
    torch.manual_seed(2)
    if architecture == "gpt2":
        return GPT2(SHAPE.model_copy(update={"kv_heads": 2}), 50, Family("gpt2"))
    return build_model(SHAPE, 50, OWN)


def gradients(network: nn.Module, precision: str) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients by name, and the numbers that were kept for the way back."""
    torch.manual_seed(4)
    ids = torch.randint(0, 50, (2, 96))
    segments = (torch.arange(96) // 40).repeat(2, 1)
    places = (torch.arange(96) % 40).repeat(2, 1)
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        kept.append(value)
        return value

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        hidden = network.hidden(ids, places, segments)  # type: ignore[operator]
        before_head = sum({value.data_ptr(): value.numel() for value in kept}.values())
        loss = network.loss(hidden, ids)  # type: ignore[operator]
    loss.backward()
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}, before_head


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["transformer", "gpt2"])
def test_recomputed_layers_give_the_same_gradients_and_keep_less(architecture: str, precision: str) -> None:
    plain, again = model(architecture), model(architecture)
    again.recompute = True  # type: ignore[assignment]
    expected, whole = gradients(plain, precision)
    found, kept = gradients(again, precision)
    assert kept < whole / 3
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_model_at_rest_is_not_slowed_down() -> None:
    network = model("transformer").eval()
    network.recompute = True  # type: ignore[assignment]
    _, kept = gradients(network, "float32")
    _, whole = gradients(model("transformer").eval(), "float32")
    assert kept == whole

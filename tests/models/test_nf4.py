"""NF4 weights beside bitsandbytes: the same codes, scales and values, bit by bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from treino.models.blockwise import dynamic_codes
from treino.models.kernels import library
from treino.models.nf4 import CODES, NF4Linear, Quantised, quantise, values_by_bitsandbytes

functional = pytest.importorskip("bitsandbytes.functional")

SHAPES = ((96, 200), (64, 64), (512, 1024), (3, 86), (1, 4098), (2, 64))


def matrix(shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    draw = torch.Generator().manual_seed(shape[0])
    weight = torch.randn(shape, generator=draw) * 10 ** torch.randn(shape[0], 1, generator=draw)
    weight.view(-1)[:64] = 0  # a block of zeros
    return weight.to(dtype)


def test_the_tables_are_those_of_bitsandbytes() -> None:
    assert torch.equal(dynamic_codes(), functional.create_dynamic_map())
    assert torch.equal(dynamic_codes(signed=False), functional.create_dynamic_map(signed=False))
    _, state = functional.quantize_4bit(torch.randn(64, 64), quant_type="nf4", blocksize=64)
    assert torch.equal(torch.tensor(CODES), state.code)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_codes_scales_and_values_are_those_of_bitsandbytes(shape: tuple[int, int], dtype: torch.dtype) -> None:
    weight = matrix(shape, dtype)
    theirs, state = functional.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    ours = quantise(weight)
    assert torch.equal(ours.nibbles, theirs.flatten())
    assert torch.equal(ours.scales, state.absmax)
    assert torch.equal(ours.coarse, state.state2.absmax)
    assert torch.equal(ours.offset, state.offset)
    values = functional.dequantize_4bit(theirs, state)
    assert values.dtype == dtype
    assert torch.equal(ours.values(dtype), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_kernels_make_our_weights_wide(dtype: torch.dtype) -> None:
    """What a GPU does where it is installed; here on the CPU."""
    found = quantise(matrix((96, 256), torch.float32))
    assert torch.equal(values_by_bitsandbytes(found, dtype), found.values(dtype))


@pytest.mark.skipif(library() is None, reason="this machine has no kernels")
def test_the_kernel_gives_the_bits_of_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = quantise(matrix((256, 1024), torch.float32))
    fast = found.values(torch.bfloat16)
    monkeypatch.setattr("treino.models.nf4.library", lambda: None)
    assert torch.equal(fast, found.values(torch.bfloat16))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_layer_is_a_linear_layer_with_the_rounded_weights(precision: str) -> None:
    torch.manual_seed(3)
    plain = nn.Linear(128, 96)
    found = quantise(plain.weight)
    layer = NF4Linear(found, plain.bias)
    plain.weight.data = found.values(torch.float32)
    inputs = [torch.randn(5, 128).requires_grad_() for _ in range(2)]
    inputs[1].data = inputs[0].data
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        outputs = [layer(inputs[0]), plain(inputs[1])]
    assert outputs[0].dtype == outputs[1].dtype
    room = 0 if precision == "float32" else 0.05
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-6 + room, atol=1e-6 + room)
    for output in outputs:
        output.square().sum().backward()
    assert inputs[0].grad is not None and inputs[1].grad is not None
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-5 + room, atol=1e-5 + 10 * room)
    assert not any(parameter.requires_grad for parameter in layer.parameters())
    stored = layer.state_dict()
    assert (
        Quantised(**{name: stored[name] for name in found.tensors()}, shape=found.shape)
        .values(torch.float32)
        .equal(plain.weight)
    )

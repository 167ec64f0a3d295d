"""Who computes attention: the same numbers by flex attention as by a mask, and which of them is taken, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_models import close, make
from torch import Tensor
from torch.nn.attention import flex_attention as flex

from treino import events
from treino.models import attention
from treino.models.attention import FLEX_DEVICES, Sight, attend, attention_mask, document_blocks, sight
from treino.models.families import OWN, Family

LENGTH = 150
"""More than one block of 128 places, and not a multiple of it."""


@pytest.fixture
def flexing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Flex attention on the CPU, as it is: torch refuses gradients there, for its compiler lacks them, not this form."""
    monkeypatch.setattr(attention, "FLEX_DEVICES", {"cpu"})
    monkeypatch.setattr(flex, "_validate_device", lambda *tensors: None)
    monkeypatch.setattr(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    attention.flex_works.cache_clear()
    yield
    attention.flex_works.cache_clear()


def ragged(rows: int) -> Tensor:
    """Documents of different lengths in each row, some padding behind all but the first."""
    segments = torch.full((rows, LENGTH), -1)
    for row in range(rows):
        begin, ends = 0, [31 + row, 32 + row, 129, LENGTH - 7 * row]
        for number, end in enumerate(ends):
            segments[row, begin:end] = number
            begin = end
    return segments


@pytest.mark.parametrize(("size", "heads", "kv_heads"), [(32, 4, 4), (64, 4, 2), (80, 3, 1), (128, 2, 1)])
def test_flex_attention_gives_what_the_mask_gives(size: int, heads: int, kv_heads: int, flexing: None) -> None:
    torch.manual_seed(0)
    segments = ragged(3)
    shapes = [(3, count, LENGTH, size) for count in (heads, kv_heads, kv_heads)]
    q, k, v = (2 * torch.randn(shape, requires_grad=True) for shape in shapes)
    forms = Sight(blocks=document_blocks(segments)), Sight(mask=attention_mask(segments, None, q[:, 0]))
    (got, wanted) = (attend(q, k, v, seen) for seen in forms)
    towards = torch.randn_like(wanted)
    assert close(got.detach(), wanted.detach())
    for one, other in zip(*(torch.autograd.grad(x, (q, k, v), towards) for x in (got, wanted)), strict=True):
        assert close(one, other)
    shifted = attend(q, k, v, Sight(blocks=document_blocks(segments.roll(1, 1))))
    assert not close(shifted.detach(), wanted.detach(), slack=100)


@pytest.mark.parametrize("family", [OWN, Family("gpt2", qkv_bias=True, output_bias=True, feed_forward_bias=True)])
def test_a_model_learns_the_same_by_it_from_blocks_made_once(
    family: Family, monkeypatch: pytest.MonkeyPatch, flexing: None
) -> None:
    changes = {"tied": True} if family is not OWN else {"kv_heads": 2}
    shape = {"width": 128, "embedding": 128, "context": LENGTH, "layers": 3, "kv_heads": 4} | changes
    model = make(61, scale=5.0, family=family, **shape)
    ids, segments = torch.randint(61, (2, LENGTH)), ragged(2)
    made: list[Tensor] = []
    blocks = attention.document_blocks
    monkeypatch.setattr(attention, "document_blocks", lambda segments: made.append(segments) or blocks(segments))

    def learnt() -> list[Tensor]:
        hidden = model.hidden(ids, segments=segments)
        return [
            hidden.detach(),
            *torch.autograd.grad(hidden.sin().sum(), [p for p in model.parameters() if p.ndim == 1]),
        ]

    attention.flex_works("cpu")
    made.clear()
    by_flex = learnt()
    assert len(made) == 1
    monkeypatch.setattr(attention, "FLEX_DEVICES", FLEX_DEVICES)
    for one, other in zip(by_flex, learnt(), strict=True):
        assert close(one, other, slack=10)


def test_a_compiler_can_trace_it(flexing: None) -> None:
    """Blocks and attention in one graph, which is what a compiled step is made of."""

    def whole(x: Tensor, segments: Tensor) -> Tensor:
        return attend(x, x, x, sight(x[:, 0], 32, segments, None))

    x, segments = torch.randn(2, 2, LENGTH, 32), ragged(2)
    with torch.no_grad():
        traced = torch.compile(whole, backend="aot_eager", fullgraph=True)(x, segments)
        assert close(traced, whole(x, segments))


def test_which_form_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    x, segments = torch.randn(2, 16, 64), (torch.arange(16) > 4).long().expand(2, 16)
    works = {"cuda": True}
    monkeypatch.setattr(attention, "flex_works", lambda device: works[device])
    assert sight(x, 32, segments, None).mask is not None  # float32 on a CPU
    assert sight(x, 32, None, None) == Sight()  # flash's case: no mask

    class OnCuda(torch.Tensor):
        device = torch.device("cuda")

    there = x.as_subclass(OnCuda)
    assert attention.flex_serves(there, 64)
    assert not attention.flex_serves(there, 8)
    works["cuda"] = False
    assert not attention.flex_serves(there, 64)


def test_where_it_cannot_be_compiled_the_mask_serves_and_that_is_told_once(
    monkeypatch: pytest.MonkeyPatch, flexing: None
) -> None:
    def broken(*tensors: Tensor, **options: Any) -> Tensor:
        raise RuntimeError("Cannot find a working triton installation\nand more")

    monkeypatch.setattr(attention, "_flex", lambda device: broken)
    heard: list[events.Event] = []
    x, segments = torch.randn(2, 16, 64), (torch.arange(16) > 4).long().expand(2, 16)
    with events.listening(heard.append), torch.inference_mode():
        assert [sight(x, 32, segments, None).blocks for _ in range(2)] == [None, None]
    assert [event.kind for event in heard] == ["warning.flex_failed"]
    assert heard[0].values["reason"] == "RuntimeError: Cannot find a working triton installation"

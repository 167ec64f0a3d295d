"""Our own kernels against slow references in float32 and float64, and what happens where they cannot be had."""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import make
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from treino import events
from treino.models import attention, head, transformer
from treino.models.families import OWN, Family
from treino.models.head import head_loss
from treino.models.kernels import build, ops

ROUNDING = 2**-8
"""Relative rounding of bfloat16, to nearest."""

there = pytest.mark.skipif(build.library() is None, reason="no AVX-512 BF16, or no compiler")


def relative(one: Tensor, other: Tensor) -> float:
    """Norm of the difference over the norm."""
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).norm() / other.norm())


def documents(rows: int, length: int, cuts: list[int]) -> Tensor:
    """Segments of a row with documents beginning at these places."""
    places = torch.arange(length)
    return torch.stack([sum((places >= cut % length).long() for cut in cuts) + 0 * places for _ in range(rows)])


def reference(qkv: Tensor, cosine: Tensor, sine: Tensor, segments: Tensor, heads: ops.Heads) -> Tensor:
    """Attention written out in float64, one head after the other."""
    rows, length, _ = qkv.shape
    split = qkv.view(rows, length, -1, heads.size)
    allowed = (segments[:, :, None] == segments[:, None, :]) & torch.ones(length, length, dtype=torch.bool).tril()

    def turned(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat((a * cosine - b * sine, b * cosine + a * sine), -1)

    out = []
    for head_number in range(heads.queries):
        kv = heads.queries + head_number // (heads.queries // heads.keys)
        q, k, v = turned(split[:, :, head_number]), turned(split[:, :, kv]), split[:, :, kv + heads.keys]
        scores = (q @ k.transpose(1, 2) / math.sqrt(heads.size)).masked_fill(~allowed, -math.inf)
        out.append(scores.softmax(-1) @ v)
    return torch.cat(out, -1)


@there
@settings(max_examples=20, deadline=None)
@given(
    size=st.sampled_from(ops.HEAD_SIZES),
    shape=st.sampled_from([(1, 1), (4, 4), (4, 2), (3, 1)]),
    length=st.one_of(st.integers(1, 140), st.sampled_from([512, 513, 700])),
    rows=st.integers(1, 2),
    cuts=st.lists(st.integers(0, 700), max_size=4),
)
def test_attention_and_its_gradient_follow_the_formula(
    size: int, shape: tuple[int, int], length: int, rows: int, cuts: list[int]
) -> None:
    torch.manual_seed(length)
    heads = ops.Heads(*shape, size)
    qkv = (1.5 * torch.randn(rows, length, (heads.queries + 2 * heads.keys) * size)).bfloat16()
    angles = 6 * torch.rand(rows, length, size // 2)
    segments, upper = documents(rows, length, cuts), torch.randn(rows, length, heads.queries * size).bfloat16()
    exact = qkv.double().requires_grad_()
    wanted = reference(exact, angles.cos().double(), angles.sin().double(), segments, heads)
    wanted.backward(upper.double())
    own = qkv.requires_grad_()
    got = ops.RotaryAttention.apply(own, angles.cos(), angles.sin(), attention.first_places(segments, own), heads)
    got.backward(upper)
    # Each output is rounded once and made of weights and rotated inputs that were each rounded once.
    assert relative(got, wanted) < 1.5 * ROUNDING
    assert exact.grad is not None and own.grad is not None
    assert relative(own.grad, exact.grad) < 2 * ROUNDING


@there
@pytest.mark.parametrize("fault", ["scale", "rotation", "documents"])
def test_a_fault_in_attention_would_be_seen(fault: str) -> None:
    torch.manual_seed(0)
    heads = ops.Heads(2, 1, 64)
    qkv = torch.randn(1, 100, 4 * 64).bfloat16()
    angles, segments = 6 * torch.rand(1, 100, 32), documents(1, 100, [30, 70])
    first = attention.first_places(segments, qkv)
    got = ops.attention_forward(qkv, angles.cos(), angles.sin(), first, heads)[0]
    if fault == "scale":
        qkv = qkv * 1.1
    if fault == "rotation":
        angles = 1.1 * angles
    if fault == "documents":
        segments = documents(1, 100, [30, 71])
    wrong = reference(qkv.double(), angles.cos().double(), angles.sin().double(), segments, heads)
    assert relative(got, wrong) > 4 * ROUNDING


@there
def test_documents_in_a_row_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    heads = ops.Heads(2, 2, 32)
    one = torch.randn(1, 90, 6 * 32).bfloat16()
    other = one.clone()
    other[:, :40] = torch.randn(1, 40, 6 * 32)
    first = attention.first_places(documents(1, 90, [40]), one)
    rotation = torch.ones(1, 90, 16), torch.zeros(1, 90, 16)
    a, b = (ops.attention_forward(x, *rotation, first, heads)[0] for x in (one, other))
    assert torch.equal(a[:, 40:], b[:, 40:]) and not torch.equal(a[:, :40], b[:, :40])


def fused_and_plain(monkeypatch: pytest.MonkeyPatch, work: Any) -> tuple[Any, Any]:
    """What `work` gives in bfloat16 with our kernels, and in float32 without them."""
    with torch.autocast("cpu", torch.bfloat16):
        fused = work()
    with monkeypatch.context() as patch:
        patch.setattr(attention, "usable", lambda x: False)
        patch.setattr(head, "usable", lambda x: False)
        return fused, work()


@there
@pytest.mark.parametrize(
    "width, kv_heads, feed_forward, family",
    [
        (128, 4, 344, OWN),
        (96, 1, 100, OWN),
        (96, 1, 100, Family("qwen2", qkv_bias=True, output_bias=True, feed_forward_bias=True)),
        (64, 2, 100, Family("qwen3", head_size=64, query_key_norm=True)),
    ],
)
def test_the_whole_model_follows_its_plain_form(
    monkeypatch: pytest.MonkeyPatch, width: int, kv_heads: int, feed_forward: int, family: Family
) -> None:
    shape = {"width": width, "heads": width // 32, "kv_heads": kv_heads, "feed_forward": feed_forward}
    model = make(301, scale=3.0, family=family, **shape)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    torch.manual_seed(1)
    ids, targets = torch.randint(301, (3, 40)), torch.randint(301, (3, 40))
    targets[:, -3:] = -100
    segments = documents(3, 40, [15, 22])

    def work() -> tuple[Tensor, dict[str, Tensor]]:
        model.zero_grad()
        loss = model.loss(model.hidden(ids, segments=segments), targets)
        loss.backward()
        return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    (loss, gradients), (plain_loss, plain_gradients) = fused_and_plain(monkeypatch, work)
    assert gradients.keys() == plain_gradients.keys() == dict(model.named_parameters()).keys()
    assert float(loss) == pytest.approx(float(plain_loss), rel=ROUNDING)
    for name, gradient in gradients.items():
        assert relative(gradient, plain_gradients[name]) < 12 * ROUNDING, name


@there
def test_frozen_weights_get_no_gradient_and_cost_none() -> None:
    model = make(50, scale=3.0, width=64, heads=2, kv_heads=2)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert isinstance(model, transformer.Transformer)
    last = model.model.layers[-1].mlp.down_proj.weight  # type: ignore[union-attr]
    last.requires_grad_(True)
    ids = torch.randint(50, (2, 9))
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad(), FlopCounterMode(display=False) as upward:
            model.loss(model.hidden(ids), ids)
        with FlopCounterMode(display=False) as both:
            model.loss(model.hidden(ids), ids).backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == [
        "model.layers.1.mlp.down_proj.weight"
    ]
    # Back through the head to its input, and to the one matrix; nothing else is multiplied.
    assert both.get_total_flops() - upward.get_total_flops() == 2 * ids.numel() * (50 * 64 + last.numel())


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("limit", [1 << 30, 4096])
def test_the_head_s_loss_in_chunks_is_the_plain_loss(monkeypatch: pytest.MonkeyPatch, biased: bool, limit: int) -> None:
    monkeypatch.setattr(head, "LOGIT_BYTES", limit)
    torch.manual_seed(0)
    x = torch.randn(3, 21, 16, requires_grad=True)
    weight = torch.randn(53, 16, requires_grad=True)
    bias = torch.randn(53, requires_grad=True) if biased else None
    targets = torch.randint(53, (3, 21))
    targets[0, :5] = -100
    leaves = [leaf for leaf in (x, weight, bias) if leaf is not None]
    wanted = F.cross_entropy(F.linear(x, weight, bias).flatten(0, 1), targets.flatten(), reduction="sum")
    gradients = torch.autograd.grad(0.3 * wanted, leaves)
    got = head_loss(x, weight, bias, targets)
    for own, plain in zip(torch.autograd.grad(0.3 * got, leaves), gradients, strict=True):
        assert (own - plain).abs().max() <= 1e-5 * max(1.0, float(plain.abs().max()))
    assert float(got.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6)
    kept = head._plain_chunk

    def without_gradients(*asked: Any) -> Any:
        assert asked[-1] is None, "gradients are formed that nobody asked for"
        return kept(*asked)

    monkeypatch.setattr(head, "_plain_chunk", without_gradients)
    with torch.no_grad():
        assert float(head_loss(x, weight, bias, targets)) == pytest.approx(float(wanted.detach()), rel=1e-6)


@there
def test_swiglu_and_its_gradient_up_to_gates_whose_exponential_overflows() -> None:
    torch.manual_seed(0)
    gates = [sign * size for size in (0.1, 1, 10, 30, 88, 89, 300, 1e4) for sign in (1, -1)]
    gate = torch.tensor(gates).expand(3, -1)
    gate_up, upper = torch.cat((gate, torch.randn_like(gate)), -1).bfloat16(), torch.randn(3, len(gates)).bfloat16()
    exact = gate_up.double().requires_grad_()
    g, up = exact.chunk(2, -1)
    wanted = F.silu(g) * up
    wanted.backward(upper.double())
    own = gate_up.requires_grad_()
    got = ops.SwiGLU.apply(own)
    got.backward(upper)
    assert exact.grad is not None and own.grad is not None
    for mine, theirs in ((got, wanted), (own.grad, exact.grad)):
        # Far below zero the slope is so small that only its being nothing counts.
        assert ((mine.detach() - theirs.detach()).abs() <= ROUNDING * theirs.detach().abs() + 1e-30).all()


@there
@pytest.mark.parametrize("vocabulary", [17, 256, 1000])
def test_cross_entropy_and_its_gradient(vocabulary: int) -> None:
    torch.manual_seed(0)
    logits = (4 * torch.randn(70, vocabulary)).bfloat16()
    targets = torch.randint(vocabulary, (70,))
    targets[3] = -100
    exact = logits.double().requires_grad_()
    wanted = F.cross_entropy(exact, targets, reduction="none")
    wanted.sum().backward()
    own = logits.clone()
    losses = ops.cross_entropy_(own, targets, gradients=True)
    assert (losses - wanted.detach()).abs().max() < 1e-5 * float(wanted.detach().max())
    assert exact.grad is not None
    assert relative(own, exact.grad) < ROUNDING and not own[3].any()


def fresh_build(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[str]:
    """Let `library` begin anew with this cache; returns the kinds of event that follow."""
    heard: list[str] = []
    monkeypatch.setenv("TREINO_CACHE", str(cache))
    build.library.cache_clear()
    with events.listening(lambda event: heard.append(event.kind)):
        build.library()
    build.library.cache_clear()
    return heard


@there
def test_kernels_are_compiled_once_and_a_failure_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "SOURCES", ("pointwise.cpp",))  # the quicker half is enough here
    build._sources.cache_clear()
    cache = tmp_path / "cache with ação"
    assert fresh_build(monkeypatch, cache) == ["kernels.building", "kernels.built"]
    assert fresh_build(monkeypatch, cache) == []
    assert (cache / "kernels").stat().st_mode & 0o077 == 0
    (cache / "kernels").chmod(0o777)
    assert fresh_build(monkeypatch, cache) == ["warning.kernels_missing"]

    def broken(command: list[str], **options: Any) -> Any:
        if "--version" in command:
            return subprocess.CompletedProcess(command, 0, "a compiler", "")
        raise subprocess.CalledProcessError(1, command, stderr="no such header\n")

    monkeypatch.setattr(subprocess, "run", broken)
    assert fresh_build(monkeypatch, tmp_path / "other") == ["kernels.building", "warning.kernels_missing"]
    assert build.identity() == "", "what cannot be compiled is not there"
    assert [path.suffix for path in (tmp_path / "other" / "kernels").iterdir()] == [".lock"]
    build.library.cache_clear()
    build._sources.cache_clear()


@there
def test_without_a_cache_that_can_be_written_all_runs_in_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh_build(monkeypatch, Path(os.devnull)) == ["warning.kernels_missing"]


@there
def test_a_limit_on_the_instruction_set_and_a_missing_compiler_are_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build.identity()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert fresh_build(monkeypatch, Path(os.devnull)) == [] and not build.identity()
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    assert fresh_build(monkeypatch, Path(os.devnull)) == [] and not build.identity()
    build.library.cache_clear()


@there
@pytest.mark.parametrize("rotated", [True, False])
def test_torch_knows_attention_by_name_and_its_compiler_sees_through(rotated: bool) -> None:
    torch.manual_seed(0)
    heads = ops.Heads(2, 1, 32)
    qkv = torch.randn(2, 20, 4 * 32).bfloat16()
    angles, segments = torch.rand(2, 20, 16), documents(2, 20, [7])
    first = attention.first_places(segments, qkv)
    tables = (angles.cos(), angles.sin()) if rotated else (None, None)
    numbers = [heads.queries, heads.keys, heads.size]
    given = (qkv, *tables, first, numbers)
    out, sums = torch.ops.treino.attention(*given)
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(torch.ops.treino.attention.default, given, test_utils=checks)
    backward = (torch.randn_like(out), *given[:4], out, sums, numbers)
    torch.library.opcheck(torch.ops.treino.attention_backward.default, backward, test_utils=checks)
    compiled = torch.compile(ops.RotaryAttention.apply, backend="aot_eager", fullgraph=True)
    found = []
    for call in (ops.RotaryAttention.apply, compiled):
        own = qkv.clone().requires_grad_()
        result = call(own, *tables, first, heads)
        found.append((result, *torch.autograd.grad(result, own, backward[0])))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))

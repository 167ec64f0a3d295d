"""Memory by part against a tracker of tensors (fake ones: the shapes may be of any size), and against published runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tracking import Tracker, tracking

from treino.models import attention, head, lora, nf4
from treino.models.build import build_model
from treino.models.classifier import build_classifier
from treino.models.lora import LoraShape, add_adapter, targets_of
from treino.planning.memory import EIGHT_BITS, adapter_parameters, memory
from treino.planning.parameters import architecture_of
from treino.planning.work import TARGETS, Work
from treino.recipe import ModelSettings
from treino.training.optimiser import Optimiser

SHAPES: dict[str, tuple[dict[str, Any], int, int, int]] = {
    "M": ({"width": 512, "layers": 4, "heads": 8, "kv_heads": 8, "feed_forward": 1376}, 16384, 8, 512),
    "shared keys": (
        {"width": 576, "layers": 4, "heads": 9, "kv_heads": 3, "feed_forward": 1536, "tied": False},
        *(49152, 4, 512),
    ),
    "states": ({"width": 1024, "layers": 3, "heads": 16, "kv_heads": 16, "feed_forward": 2752}, 32000, 1, 128),
    "long": ({"width": 512, "layers": 4, "heads": 8, "kv_heads": 8, "feed_forward": 1376}, 2048, 2, 2048),
    "wide": (
        {"width": 4096, "layers": 4, "heads": 32, "kv_heads": 32, "feed_forward": 11008, "tied": False},
        *(32000, 1, 2048),
    ),
}
"""What weighs most in each: activations, logits, states, the mask, the layers of a 7B model."""

NEAR = 0.05


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain torch: our own kernels take no fake tensors, and their memory is another test's."""
    monkeypatch.setattr(attention, "usable", lambda x: False)
    monkeypatch.setattr(head, "usable", lambda x: False)
    monkeypatch.setattr(lora, "quantise", packed)
    monkeypatch.setattr(nf4.Quantised, "values", lambda own, dtype: torch.empty(own.shape, dtype=dtype))


def packed(weight: Tensor) -> nf4.Quantised:
    """Numbers of a matrix in 4 bits, without their values, which fake tensors have not."""
    count = weight.numel()
    parts = {"scales": (-(-count // nf4.BLOCK), torch.uint8), "coarse": (-(-count // 2**14), torch.float32)}
    tensors = {name: torch.empty(size, dtype=kind) for name, (size, kind) in parts.items()}
    nibbles = torch.empty(-(-count // 2), dtype=torch.uint8)
    return nf4.Quantised(nibbles=nibbles, offset=torch.empty(()), shape=weight.shape, **tensors)


def settings_of(name: str) -> ModelSettings:
    sizes, _, _, context = SHAPES[name]
    return ModelSettings(**({"embedding": sizes["width"], "context": context, "tied": True} | sizes))


def built(name: str, dtype: torch.dtype) -> Any:
    """The model with weights of this format."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return build_model(settings_of(name), SHAPES[name][1])
    finally:
        torch.set_default_dtype(usual)


def expected(name: str, **work: Any) -> int:
    """What the calculation says of tensors: all parts without allocator, process and what it loads."""
    _, vocabulary, batch, context = SHAPES[name]
    parts = memory(architecture_of(settings_of(name), vocabulary), Work(batch, context, base=0, **work))
    return parts["total"] - parts["heap"] - parts.get("compiler", 0)


def peak_of_steps(tracker: Tracker, trained: list[nn.Parameter], loss: Any, autocast: bool) -> int:
    """Most bytes alive in the second step, when the optimiser's state is there."""
    optimiser = torch.optim.AdamW(trained, fused=True)
    for _ in range(2):
        tracker.peak = tracker.now
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = loss()
        value.backward()
        del value
        optimiser.step()
        optimiser.zero_grad()
    return tracker.peak


def rows(name: str) -> Tensor:
    _, _, batch, context = SHAPES[name]
    return torch.zeros(batch, context, dtype=torch.long)


def cases(*often: tuple[str, ...], seldom: Sequence[tuple[str, ...]] = ()) -> list[Any]:
    """Each shape with what is tried on all of them, and two with the rest."""
    return [(name, *case) for name in SHAPES for case in (*often, *(seldom if name in ("M", "wide") else ()))]


@pytest.mark.parametrize(("name", "precision"), cases(("float32",), ("bfloat16",), seldom=[("pure",)]))
def test_training_everything(name: str, precision: str) -> None:
    """`scratch`, and `full` of a language model."""
    packed = precision != "pure"  # as fine-tuning on a card has it
    with tracking() as tracker:
        model = built(name, torch.bfloat16 if precision == "pure" else torch.float32)
        ids = rows(name)

        def loss() -> Tensor:
            return model.loss(model.hidden(ids, segments=ids if packed else None), ids)

        peak = peak_of_steps(tracker, list(model.parameters()), loss, precision == "bfloat16")
    for method in ("scratch", "full"):
        assert peak == pytest.approx(expected(name, precision=precision, method=method, packed=packed), rel=NEAR)


@pytest.mark.parametrize(
    ("name", "method", "precision"),
    cases(
        *((method, "float32") for method in ("full", "frozen", "lora", "qlora")),
        seldom=[(method, "bfloat16") for method in ("full", "lora", "qlora")],
    ),
)
def test_training_a_classifier(name: str, method: str, precision: str) -> None:
    """On a pretrained body, whose vectors a frozen one gives once and for all."""
    with tracking() as tracker:
        body = build_model(settings_of(name), SHAPES[name][1])
        classifier = build_classifier(body, ["a", "b", "c"], dropout=0.0, fresh=True)
        del body
        ids = rows(name)
        present = torch.ones_like(ids, dtype=torch.bool)
        targets = torch.zeros(len(ids), dtype=torch.long)

        def loss() -> Tensor:
            return F.cross_entropy(classifier(ids, present), targets)

        if method in ("lora", "qlora"):
            layers = targets_of(classifier.body, classifier.body.matrices(), ["all"])
            add_adapter(classifier.body, layers, LoraShape(), nf4=method == "qlora")
        if method == "frozen":
            classifier.body.freeze(10**6)
            tracker.peak = tracker.now
            with torch.no_grad():
                found = classifier.pooled(ids, present)
            peak = tracker.peak
            head = list(classifier.head.parameters())
            steps = peak_of_steps(tracker, head, lambda: F.cross_entropy(classifier.head(found), targets), False)
            peak = max(peak, steps)
        else:
            trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
            peak = peak_of_steps(tracker, trained, loss, precision == "bfloat16")
    asked: dict[str, Any] = {"method": method, "classes": 3, "packed": False, "precision": precision}
    assert peak == pytest.approx(expected(name, **asked), rel=NEAR)


class FourBits(torch.autograd.Function):
    """x Wᵀ with W unpacked for the product alone, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(packed)
        ctx.shape = shape
        return x @ FourBits.unpacked(packed, shape, x).t()

    @staticmethod
    def unpacked(packed: Tensor, shape: torch.Size, x: Tensor) -> Tensor:
        return torch.stack((packed & 15, packed >> 4), -1).view(shape).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return gradient @ FourBits.unpacked(*ctx.saved_tensors, ctx.shape, gradient), None, None


class Adapted(nn.Module):
    """A frozen linear layer, plain or in 4 bits, beside a trained pair of small matrices."""

    def __init__(self, linear: nn.Linear, rank: int, four_bits: bool) -> None:
        super().__init__()
        kind = linear.weight.dtype
        self.shape = linear.weight.shape
        self.down = nn.Parameter(torch.zeros(rank, linear.in_features, dtype=kind))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank, dtype=kind))
        self.weight = None if four_bits else linear.weight
        self.packed = torch.zeros(self.shape.numel() // 2, dtype=torch.uint8) if four_bits else None
        self.scales = torch.zeros(round(self.shape.numel() * 0.127 / 8), dtype=torch.uint8) if four_bits else None

    def forward(self, x: Tensor) -> Tensor:
        adapter = x @ self.down.t() @ self.up.t()
        if self.weight is not None:
            return F.linear(x, self.weight) + adapter
        return FourBits.apply(x, self.packed, self.shape) + adapter


def adapt(model: nn.Module, rank: int, targets: str, four_bits: bool) -> list[nn.Parameter]:
    """Put adapters beside the matrices of every layer; all else is frozen. Returns what is trained."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            target = name.removesuffix("_proj")
            if isinstance(child, nn.Linear) and target in TARGETS[targets]:
                setattr(module, name, Adapted(child, rank, four_bits))
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize(
    ("name", "method", "targets"), cases(seldom=[("lora", "all"), ("lora", "qv"), ("qlora", "all")])
)
def test_training_adapters(name: str, method: str, targets: str) -> None:
    """As on a card: all in bfloat16, beside a language model's loss, with adapters and 4 bits written anew for the test."""
    with tracking() as tracker:
        model = built(name, torch.bfloat16)
        trained = adapt(model, 16, targets, method == "qlora")
        ids = rows(name)
        peak = peak_of_steps(tracker, trained, lambda: model.loss(model.hidden(ids), ids), False)
        count = sum(parameter.numel() for parameter in trained)
    shape = architecture_of(settings_of(name), SHAPES[name][1])
    assert count == adapter_parameters(shape, 16, targets)
    assert peak == pytest.approx(
        expected(name, precision="pure", method=method, targets=targets, packed=False), rel=NEAR
    )


def test_moments_in_eight_bits() -> None:
    """What is kept between steps, of real tensors."""
    shape = settings_of("M")
    network = nn.ParameterList([torch.zeros(shape.width, shape.feed_forward) for _ in range(4)])
    optimiser = Optimiser(network, kind="adamw8bit", weight_decay=0.0, beta2=0.99)
    for parameter in network:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step(0.1, torch.zeros(()))
    kept = sum(value.numel() * value.element_size() for value in optimiser.state().values())
    assert kept == pytest.approx(EIGHT_BITS * sum(parameter.numel() for parameter in network), rel=1e-4)


@pytest.mark.parametrize("name", ["M", "long", "wide"])
def test_recomputation(name: str) -> None:
    with tracking() as tracker:
        model = built(name, torch.float32)
        model.recompute = True
        ids = rows(name)
        peak = peak_of_steps(tracker, list(model.parameters()), lambda: model.loss(model.hidden(ids), ids), False)
    assert peak == pytest.approx(expected(name, recompute=True, packed=False), rel=NEAR)

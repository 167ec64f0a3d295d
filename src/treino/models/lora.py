"""Low-rank adapters beside frozen linear layers (LoRA: Hu et al. 2021, 2106.09685).

y = W x + b + s · B A drop(x), with A (r, in) and B (out, r) trained and all else frozen. B starts as zero, so that training
starts from the base model; A starts uniform in ±1/√in. s = α / r, so that another rank needs no other learning rate; or, in
rsLoRA (Kalajdzievski 2023, 2312.03732), α / √r, which keeps what larger ranks learn from vanishing. W is a matrix in float32 or
bfloat16, or in NF4 (`treino.models.nf4`: QLoRA). Several adapters may stand beside a layer; one at most is in force.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from treino.errors import UsageError
from treino.messages import N_
from treino.models.kernels import ops
from treino.models.nf4 import NF4Linear, quantise

SHORT_NAMES = {
    **dict.fromkeys(("q_proj", "q"), "q_proj"),
    **dict.fromkeys(("k_proj", "k"), "k_proj"),
    **dict.fromkeys(("v_proj", "v"), "v_proj"),
    **dict.fromkeys(("o_proj", "o"), "o_proj"),
    **dict.fromkeys(("gate_proj", "gate"), "gate_proj"),
    **dict.fromkeys(("up_proj", "up"), "up_proj"),
    **dict.fromkeys(("down_proj", "down"), "down_proj"),
}
"""How a layer may be called in a recipe."""

Base = nn.Linear | NF4Linear

ALL = "all"
"""Every linear layer of the body."""


@dataclass(frozen=True)
class LoraShape:
    """An adapter's rank r, α, the layers beside which it stands ("all", or short names), dropout, and whether s is α / √r."""

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = (ALL,)
    dropout: float = 0.0
    rslora: bool = False

    @property
    def scaling(self) -> float:
        """s."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class Lora(nn.Module):
    """A frozen linear layer and its adapters.

    Attributes:
        base: the layer itself.
        lora_A, lora_B: matrices by the name of the adapter.
        active: the adapter in force; empty: none, the layer is the base.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A, self.lora_B = nn.ParameterDict(), nn.ParameterDict()
        self.shapes: dict[str, LoraShape] = {}
        self.active = ""

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers that go in and come out."""
        if isinstance(self.base, nn.Linear | NF4Linear):
            return self.base.in_features, self.base.out_features
        inputs, outputs = cast(Tensor, self.base.weight).shape  # GPT-2's layers are laid out (in, out)
        return inputs, outputs

    def add(self, name: str, shape: LoraShape) -> None:
        """Another adapter, in force at once."""
        inputs, outputs = self.sizes
        a = torch.empty(shape.rank, inputs)
        nn.init.kaiming_uniform_(a, a=math.sqrt(5))
        self.lora_A[name], self.lora_B[name] = nn.Parameter(a), nn.Parameter(torch.zeros(outputs, shape.rank))
        self.shapes[name], self.active = shape, name

    def forward(self, x: Tensor) -> Tensor:
        if not self.active:
            return self._base(x)
        shape, rows = self.shapes[self.active], x.flatten(0, -2)
        inner = F.linear(F.dropout(rows, shape.dropout, self.training), self.lora_A[self.active].to(self._dtype(x)))
        # Into the base's result: copies that come and go between what is kept leave holes in the heap.
        y = self._base(rows).addmm_(inner, self.lora_B[self.active].to(inner.dtype).mT, alpha=shape.scaling)
        return y.unflatten(0, x.shape[:-1])

    def _base(self, x: Tensor) -> Tensor:
        """What the layer itself gives; weights kept in bfloat16 are widened where x is wider."""
        if isinstance(self.base, nn.Linear) and self.base.weight.dtype != self._dtype(x):
            return F.linear(x, self.base.weight.to(self._dtype(x)), self.base.bias)
        return self.base(x)

    @staticmethod
    def _dtype(x: Tensor) -> torch.dtype:
        kind = x.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype

    def delta(self) -> Tensor:
        """s · B A of the adapter in force, (out, in), in float32."""
        a, b = (matrices[self.active].detach().float() for matrices in (self.lora_A, self.lora_B))
        return self.shapes[self.active].scaling * (b @ a)

    def wide(self) -> Tensor:
        """The base's matrix (out, in) in float32: the numbers that the adapter was trained beside."""
        if isinstance(self.base, NF4Linear):
            return self.base.wide(torch.float32)
        weight = cast(Tensor, self.base.weight).detach().float()
        return weight if isinstance(self.base, nn.Linear) else weight.t()


def layers_of(model: nn.Module) -> Iterator[tuple[str, Lora]]:
    """The layers that have adapters, by name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, Lora))


def targets_of(body: nn.Module, matrices: Sequence[nn.Parameter], targets: Sequence[str]) -> list[str]:
    """Names of the body's linear layers that the targets mean; `matrices` are those of its layers.

    Raises:
        UsageError: for a name that it has not.
    """
    wanted = {id(matrix) for matrix in matrices}
    known = {
        name: module
        for name, module in body.named_modules()
        if id(getattr(module, "weight", None)) in wanted or isinstance(module, Lora | NF4Linear)
    }
    names = {name: name.rpartition(".")[2] for name in known if not _inside(name, known)}
    chosen = {SHORT_NAMES.get(target, target) for target in targets}
    unknown = sorted(chosen - set(names.values()) - {ALL})
    if unknown:
        raise UsageError(
            N_("this model has no layer {name} to put an adapter beside"),
            fix=N_("it has {known}"),
            name=unknown[0],
            known=", ".join(dict.fromkeys(names.values())),
        )
    return [name for name, last in names.items() if ALL in chosen or last in chosen]


def _inside(name: str, known: Mapping[str, nn.Module]) -> bool:
    return any(name.startswith(f"{outer}.") for outer in known)


def add_adapter(
    body: nn.Module, layers: Sequence[str], shape: LoraShape, name: str = "default", *, nf4: bool = False
) -> None:
    """Put an adapter beside each of the layers, and freeze all else; `nf4` brings their matrices into 4 bits."""
    body.requires_grad_(False)
    for path in layers:
        owner, _, last = path.rpartition(".")
        parent = body.get_submodule(owner)
        layer = getattr(parent, last)
        if not isinstance(layer, Lora):
            layer = Lora(_in_four_bits(layer) if nf4 else layer)
            setattr(parent, last, layer)
        layer.add(name, shape)


def narrow_bases(body: nn.Module) -> None:
    """Keep the matrices beside adapters in bfloat16: what a training in that format reads, in half the memory."""
    for _, layer in layers_of(body):
        if isinstance(layer.base, nn.Linear):
            layer.base.weight.data = layer.base.weight.data.bfloat16()


def _in_four_bits(layer: nn.Module) -> nn.Module:
    if isinstance(layer, NF4Linear):
        return layer
    assert isinstance(layer, nn.Linear), "refused by the recipe's checks"
    return NF4Linear(quantise(layer.weight), layer.bias)


@torch.no_grad()
def copy_adapters(source: nn.Module, target: nn.Module) -> None:
    """Give a model's adapters the numbers of those of another; where that one has none, they stay as they are."""
    found = dict(layers_of(source))
    for path, layer in layers_of(target):
        if path in found:
            layer.load_state_dict(
                {name: v for name, v in found[path].state_dict().items() if "lora_" in name}, strict=False
            )


def activate(model: nn.Module, name: str) -> None:
    """Bring an adapter into force everywhere; an empty name: the base model alone."""
    for _, layer in layers_of(model):
        layer.active = name if name in layer.shapes else ""


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Put W + s · B A in the place of each layer and its adapters, in float32, from the very numbers trained beside."""
    for path, layer in list(layers_of(model)):
        weight = layer.wide() + layer.delta() if layer.active else layer.wide()
        base = layer.base
        if isinstance(base, NF4Linear):
            bias, base = base.bias, nn.Linear(base.in_features, base.out_features, bias=False, device="meta")
            base.register_parameter("bias", bias)
        elif not isinstance(base, nn.Linear):
            weight = weight.t().contiguous()
        base.weight = nn.Parameter(weight)
        owner, _, last = path.rpartition(".")
        setattr(model.get_submodule(owner), last, base)


def linear(x: Tensor, *layers: nn.Module) -> Tensor:
    """[y₁ | … | yₙ] of layers that read the same x, with our own kernels' number formats (bfloat16)."""
    if all(type(layer) is nn.Linear for layer in layers):
        return ops.linear(x, *cast(tuple[nn.Linear, ...], layers))
    bases: list[Base] = []
    shapes: list[LoraShape | None] = []
    matrices: list[Tensor] = []
    for layer in layers:
        adapted = isinstance(layer, Lora)
        bases.append(cast(Base, layer.base if adapted else layer))
        shapes.append(layer.shapes[layer.active] if adapted and layer.active else None)
        if adapted and layer.active:
            matrices += [layer.lora_A[layer.active], layer.lora_B[layer.active]]
    dropout = max((shape.dropout for shape in shapes if shape), default=0.0)
    dropped = F.dropout(x, dropout) if dropout and layers[0].training else None
    return _Adapted.apply(x, dropped, _Beside(bases, shapes), *matrices)


@dataclass(frozen=True)
class _Beside:
    """Frozen layers of one input, and the adapter beside each, if one is."""

    bases: Sequence[Base]
    shapes: Sequence[LoraShape | None]

    @property
    def outputs(self) -> list[int]:
        return [base.out_features for base in self.bases]

    @property
    def ranks(self) -> list[int]:
        return [shape.rank for shape in self.shapes if shape]

    @property
    def biases(self) -> Tensor | None:
        found: list[Tensor] = [base.bias for base in self.bases if base.bias is not None]
        return torch.cat(found) if found else None

    def wide(self) -> Tensor:
        """All matrices below each other, in bfloat16."""
        plain = [base.weight for base in self.bases if isinstance(base, nn.Linear)]
        if len(plain) == len(self.bases):
            return ops.narrowed(plain)
        joint = torch.empty(sum(self.outputs), self.bases[0].in_features, dtype=torch.bfloat16)
        for part, base in zip(joint.split(self.outputs), self.bases, strict=True):
            base.quantised.write(part) if isinstance(base, NF4Linear) else part.copy_(base.weight)
        return joint

    def adapters(self, y: Tensor, inner: Tensor, b: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor, float]]:
        """Of each adapter: its columns of y (tokens, out), its inner values (tokens, r), B, and s."""
        columns = [part for part, shape in zip(y.split(self.outputs, 1), self.shapes, strict=True) if shape]
        scalings = [shape.scaling for shape in self.shapes if shape]
        parts = inner.split(self.ranks, 1) if self.ranks else ()
        yield from zip(columns, parts, b, scalings, strict=True)


class _Adapted(Function):
    """(x, dropped, A₁, B₁ …) ↦ [W₁x + s₁B₁A₁dropped | …], dropped None for x itself. W is read anew in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: Tensor | None, beside: _Beside, *matrices: Tensor) -> Tensor:
        y = x @ beside.wide().t()
        if (biases := beside.biases) is not None:
            y += biases
        given = x if dropped is None else dropped
        a, b = ([matrix.bfloat16() for matrix in matrices[first::2]] for first in (0, 1))
        joint = torch.cat(a) if a else x.new_empty(0, x.shape[-1])
        inner = given.flatten(0, -2) @ joint.t()
        for columns, u, up, scaling in beside.adapters(y.flatten(0, -2), inner, b):
            columns.addmm_(u, up.t(), alpha=scaling)
        ctx.save_for_backward(given, inner, joint, *b)
        ctx.beside, ctx.same = beside, dropped is None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        given, inner, joint, *b = ctx.saved_tensors
        beside: _Beside = ctx.beside
        dinner, db = torch.empty_like(inner), []
        first = 0
        for columns, u, up, scaling in beside.adapters(gradient.flatten(0, -2), inner, b):
            dinner[:, first : first + up.shape[1]] = (columns @ up).mul_(scaling)
            db.append((columns.t() @ u).float().mul_(scaling))
            first += up.shape[1]
        da = (dinner.t() @ given.flatten(0, -2)).float().split(beside.ranks) if db else ()
        dx = gradient @ beside.wide() if ctx.needs_input_grad[0] else None
        dropped = None
        if dx is not None and ctx.same:
            dx.flatten(0, -2).addmm_(dinner, joint)
        elif ctx.needs_input_grad[1]:
            dropped = (dinner @ joint).view_as(given)
        return dx, dropped, None, *(matrix for pair in zip(da, db, strict=True) for matrix in pair)

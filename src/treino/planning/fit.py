"""Whether a training fits into memory, and which smallest changes would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from treino.messages import N_, Message
from treino.planning.memory import training_memory
from treino.planning.parameters import Architecture, Shape


class Wish(Protocol):
    """What is to be trained: `batch` rows of `context` tokens in a pass, `accumulation` of them in a step."""

    @property
    def batch(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def accumulation(self) -> int: ...
    @property
    def recompute(self) -> Sequence[bool]:
        """Whether layers may be computed again in the backward pass, or not."""
        ...

    def bytes(self, **changes: Any) -> int:
        """Memory at the worst moment, with some of batch, accumulation and recompute changed."""
        ...

    def least(self) -> int:
        """The same with a row at a time, and layers computed again where they may be."""
        ...

    def changes(self, room: int) -> Iterator[Message]:
        """Changes of the recipe, each of which alone fits into `room` bytes, the gentlest first."""
        ...


@dataclass(frozen=True)
class PretrainingWish:
    """A pretraining: the shape and the work of a step.

    `reshaped(width, layers)` gives the same shape with another width or number of layers; None: of a model that was brought
    along, whose shape is not to be chosen. `recompute`: whether layers may
    be computed again in the backward pass, or not. `optimiser`, `ranks`, `shard`, `common`, `accelerator`: as in `Work`; the
    rows are those of one rank.
    """

    shape: Shape | Architecture
    vocabulary: int
    batch: int
    context: int
    accumulation: int
    precision: str
    packed: bool
    kernels: bool
    base: int
    reshaped: Callable[[int, int], Shape] | None
    recompute: Sequence[bool] = (False, True)
    optimiser: str = "adamw"
    ranks: int = 1
    shard: str = "none"
    common: bool = False
    accelerator: bool = False

    def bytes(self, **changes: Any) -> int:
        """With width, layers, context and method, too."""
        shape = self.shape
        if self.reshaped and ("width" in changes or "layers" in changes):
            shape = self.reshaped(changes.get("width", shape.width), changes.get("layers", shape.layers))
        return training_memory(
            *(shape, self.vocabulary, changes.get("batch", self.batch), changes.get("context", self.context)),
            precision=self.precision,
            method=changes.get("method", "scratch"),
            packed=self.packed,
            base=self.base,
            kernels=self.kernels,
            accumulation=changes.get("accumulation", self.accumulation),
            recompute=bool(changes.get("recompute", False)),
            optimiser=self.optimiser,
            ranks=self.ranks,
            shard=self.shard,
            common=self.common,
            accelerator=self.accelerator,
        )["total"]

    def least(self) -> int:
        again = int(True in self.recompute)
        return self.bytes(batch=1, accumulation=self.batch * self.accumulation, recompute=again)

    def changes(self, room: int) -> Iterator[Message]:
        """What makes another model: context, layers, width; of one that is there already, an adapter beside it. Each with one
        row in a pass, and layers computed again.
        """
        least = {"batch": 1, "accumulation": self.batch * self.accumulation, "recompute": int(True in self.recompute)}
        if True not in self.recompute and (need := self.bytes(**least | {"recompute": 1})) <= room:
            yield Message(N_('pretrain.recompute = "auto" ({need:bytes})'), {"need": need - self.base})
        if not self.reshaped:
            if (need := self.bytes(**least | {"method": "lora"})) <= room:
                yield Message(N_('pretrain.method = "lora" ({need:bytes})'), {"need": need - self.base})
            return
        for name in ("context", "layers", "width"):
            now = self.context if name == "context" else getattr(self.shape, name)
            step = 2 * self.shape.heads if name == "width" else 1  # a width that its heads can share
            for value in smaller(now, step):
                need = self.bytes(**least | {name: value})
                if need <= room:
                    yield Message(
                        N_("model.{name} = {value:raw} ({need:bytes})"),
                        {"name": name, "value": value, "need": need - self.base},
                    )
                    break


@dataclass(frozen=True)
class Arrangement:
    """How the rows of a step go through the model: so many in a pass, and whether layers are computed again on the way back."""

    rows: int
    recompute: bool = False


EFFICIENT_TOKENS = 2048
"""Tokens of a pass from which on smaller passes take hardly longer than one large one; layers computed again take a third."""


def arrange(wish: Wish, room: int) -> Arrangement | None:
    """The quickest arrangement that fits into `room` bytes; None: none does.

    All give the same training up to the order of additions. Tried in this order: all rows of a pass; fewer, while a pass
    keeps `EFFICIENT_TOKENS`; layers computed again, likewise; at last passes of few tokens.
    """
    efficient = [rows for rows in _halves(wish.batch) if rows == wish.batch or rows * wish.context >= EFFICIENT_TOKENS]
    small = [rows for rows in _halves(wish.batch) if rows not in efficient]
    for rows, again in [(rows, again) for sizes in (efficient, small) for again in wish.recompute for rows in sizes]:
        passes = -(-wish.batch * wish.accumulation // rows)
        if wish.bytes(batch=rows, accumulation=passes, recompute=int(again)) <= room:
            return Arrangement(rows, again)
    return None


def _halves(rows: int) -> list[int]:
    """A number, its half rounded up, and so on to 1."""
    found = [rows]
    while found[-1] > 1:
        found.append(-(-found[-1] // 2))
    return found


def smallest_changes(wish: Wish, room: int, most: int = 3) -> list[Message]:
    """At most three changes of settings, each of which alone fits into `room` bytes, the gentlest first."""
    return [message for _, message in zip(range(most), wish.changes(room), strict=False)]


def smaller(value: int, step: int = 1) -> Iterator[int]:
    """Values below, in about ten steps a halving, all multiples of `step`."""
    while value > step:
        value = max(step, min(value - step, int(value * 0.93) // step * step))
        yield value

"""Whether a training fits into memory, and which smallest changes would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from treino.messages import N_, Message
from treino.planning.memory import training_memory
from treino.planning.parameters import Shape


@dataclass(frozen=True)
class Wish:
    """What is to be trained: the shape and the work of a step.

    `reshaped(width, layers)` gives the same shape with another width or number of layers.
    """

    shape: Shape
    vocabulary: int
    batch: int
    context: int
    accumulation: int
    precision: str
    packed: bool
    kernels: bool
    base: int
    reshaped: Callable[[int, int], Shape]

    def bytes(self, **changes: int) -> int:
        """Memory at the worst moment, with some of width, layers, batch, context and accumulation changed."""
        shape = self.shape
        if "width" in changes or "layers" in changes:
            shape = self.reshaped(changes.get("width", shape.width), changes.get("layers", shape.layers))
        return training_memory(
            *(shape, self.vocabulary, changes.get("batch", self.batch), changes.get("context", self.context)),
            precision=self.precision,
            packed=self.packed,
            base=self.base,
            kernels=self.kernels,
            accumulation=changes.get("accumulation", self.accumulation),
        )["total"]


def smallest_changes(wish: Wish, room: int, most: int = 3) -> list[Message]:
    """At most three changes of settings, each of which alone fits into `room` bytes, the gentlest first."""
    return [message for _, message in zip(range(most), _changes(wish, room), strict=False)]


def _changes(wish: Wish, room: int) -> Iterator[Message]:
    """Fewer rows in more passes (the same training), then what makes another model: context, layers, width."""
    for batch in _smaller(wish.batch):
        passes = -(-wish.batch * wish.accumulation // batch)
        need = wish.bytes(batch=batch, accumulation=passes)
        if need <= room:
            text = N_("pretrain.batch = {batch:raw} with pretrain.accumulation = {passes:raw} ({need:bytes})")
            yield Message(text, {"batch": batch, "passes": passes, "need": need - wish.base})
            break
    for name in ("context", "layers", "width"):
        now = wish.context if name == "context" else getattr(wish.shape, name)
        step = 2 * wish.shape.heads if name == "width" else 1  # a width that its heads can share
        for value in _smaller(now, step):
            need = wish.bytes(**{name: value})
            if need <= room:
                yield Message(
                    N_("model.{name} = {value:raw} ({need:bytes})"),
                    {"name": name, "value": value, "need": need - wish.base},
                )
                break


def _smaller(value: int, step: int = 1) -> Iterator[int]:
    """Values below, in about ten steps a halving, all multiples of `step`."""
    while value > step:
        value = max(step, min(value - step, int(value * 0.93) // step * step))
        yield value

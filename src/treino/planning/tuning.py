"""What a fine-tuning needs beside a step's memory, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from treino.messages import N_, Message
from treino.planning.activations import WORD, forward_bytes, head_bytes
from treino.planning.fit import smaller
from treino.planning.memory import memory, trained_parameters
from treino.planning.parameters import Architecture, count
from treino.planning.work import Work

ROWS_LOOKED_AT = 64
"""Rows that go through the model together where nothing is learnt from them, and memory does not ask for fewer."""

VARIED_HEAP_SHARE = 0.75
"""What the allocator keeps back besides, as a share of activations and logits, where our kernels meet rows of other lengths
each time: 1.0 was measured under adapters, .5 under full fine-tuning, on shape S with five lengths (alike, none)."""

DISTILLED_BYTES = 5 * WORD
"""Of each number of the vocabulary at each token that is distilled: the old model's logits and probabilities, the new one's
logits, their logarithms of probabilities, and the gradient."""


@dataclass(frozen=True)
class TuningWish:
    """A fine-tuning of a model that is held beside it, as `treino.planning.fit` wants to know it.

    Attributes:
        work: of a step; its rows are as long as the longest that it meets. Of a classifier by the method "frozen" it is the
            pass through the body, so many rows at a time.
        patience: the weights of the best look are kept beside those that are trained.
        anchors: copies of the trained weights that cures compare them with, and numbers as large.
        distillation: whether the base model answers, too.
        old: rows and tokens of old text in a step.
        vectors: numbers that a frozen body gives for all texts together, where they are kept: under a classifier's head.
        looked: rows that are looked at together, where memory does not ask for fewer.
        recompute: whether layers may be computed again in the backward pass, or not.
        offers: what a recipe can be changed to, the gentlest first: {setting: fields of `work`}; `shorter`: whether the context
            is the recipe's to shorten.
    """

    model: Architecture
    work: Work
    patience: bool = False
    anchors: int = 0
    distillation: bool = False
    old: tuple[int, int] = (0, 0)
    vectors: int = 0
    looked: int = ROWS_LOOKED_AT
    recompute: Sequence[bool] = (False, True)
    offers: Sequence[tuple[str, str, dict[str, Any]]] = ()
    shorter: bool = False

    @property
    def batch(self) -> int:
        return self.work.batch

    @property
    def context(self) -> int:
        return self.work.context

    @property
    def accumulation(self) -> int:
        return self.work.accumulation

    @property
    def cached(self) -> bool:
        """Whether the body is passed through once and for all, by the method "frozen"."""
        return self.work.method == "frozen" and self.work.classes > 0

    def parts(self, **changes: Any) -> dict[str, int]:
        """Bytes by part at the worst moment, `total` their sum, with some fields of `work` changed: those of a step
        (`treino.planning.memory`), and

        - looks: rows that are only looked at, in float32: where that takes more than a step does, in place of activations;
          where steps run in our own kernels (bfloat16), beside them, for the C library keeps the blocks of both (measured)
        - best, cures: copies of trained weights, and what the old task's rows and answers take
        - logits: of a language model's own head on a frozen body, with the gradient of its matrix
        - vectors: of a frozen body
        - merging: the whole model in float32, where it comes narrow or in 4 bits out of a copy and goes back into one
        """
        work = replace(self.work, **changes)
        parts = memory(self.model, work)
        trained = trained_parameters(self.model, work)
        if work.method == "frozen" and not work.classes:
            parts["logits"] = head_bytes(
                self.model, self.model.vocabulary, work.tokens, work.precision, kernels=work.kernels
            )
        if work.kernels and not work.packed:
            parts["heap"] += round(VARIED_HEAP_SHARE * (parts["activations"] + parts["logits"]))
        if self.old[0]:
            again = replace(work, batch=self.old[0], context=self.old[1], classes=0, packed=True)
            rehearsed = memory(self.model, again)
            parts = max(parts, rehearsed, key=lambda one: one["total"])
        rows = work.batch if work.batch < self.work.batch else max(work.batch, self.looked)
        seen = forward_bytes(self.model, rows * work.context, "float32")
        parts["looks"] = seen if work.kernels else max(0, seen - parts["activations"] - parts["logits"])
        parts["best"] = WORD * trained if self.patience and not (work.method == "frozen" and work.classes) else 0
        parts["cures"] = WORD * trained * self.anchors
        if self.distillation:
            parts["cures"] += DISTILLED_BYTES * work.tokens * self.model.vocabulary
        parts["vectors"] = WORD * self.vectors if work.method == "frozen" else 0
        parts["total"] = 0
        whole = WORD * count(self.model)["total"]
        held = parts["weights"] + parts["constants"] + parts["float32"]
        step = sum(parts.values()) - held - parts["base"] - parts.get("compiler", 0)
        narrowed = (work.method == "qlora" and not work.stream) or (
            work.method == "lora" and work.precision == "bfloat16"
        )
        parts["merging"] = max(0, whole - held - step) if narrowed else 0
        return parts | {"total": sum(parts.values())}

    def bytes(self, **changes: Any) -> int:
        """`total` of the parts."""
        return self.parts(**{name: bool(v) if name == "recompute" else v for name, v in changes.items()})["total"]

    def least(self) -> int:
        """The same with a row at a time, and layers computed again where they may be."""
        return self.bytes(**self._least)

    @property
    def _least(self) -> dict[str, Any]:
        return {"batch": 1, "accumulation": self.batch * self.accumulation, "recompute": True in self.recompute}

    def changes(self, room: int) -> Iterator[Message]:
        """Changes of the recipe, each of which alone fits into `room` bytes with a row at a time, the gentlest first."""
        told: set[str] = set()
        for setting, value, fields in self.offers:
            if "rank" in fields and setting in told:
                continue  # the largest that fits is enough
            need = self.bytes(**self._least | fields)
            if need <= room and any(getattr(self.work, name) != wanted for name, wanted in fields.items()):
                told.add(setting)
                yield Message(
                    N_("{setting} = {value} ({need:bytes})"),
                    {"setting": setting, "value": value, "need": need - self.work.base},
                )
        for tokens in smaller(self.context) if self.shorter else ():
            need = self.bytes(**self._least | {"context": tokens})
            if need <= room:
                values = {"setting": "model.context", "value": str(tokens), "need": need - self.work.base}
                yield Message(N_("{setting} = {value} ({need:bytes})"), values)
                return

"""What is done with a model in a step, as the planner needs to know it."""

from __future__ import annotations

from dataclasses import dataclass

BASE_BYTES = 350_000_000
"""The interpreter with torch loaded and its kernels warm, before any model: measured on Linux with the CPU build."""

CONTEXT_BYTES = 500_000_000
"""What a driver takes on an accelerator before the first tensor: the usual .4 to .6 GB of CUDA."""

OPTIMISERS = {"adamw": 2.0, "adamw8bit": 0.0, "lion": 1.0, "muon": 1.0, "sgd": 0.0, "adafactor": 0.0}
"""Numbers, each in the format of the trained weights, that an optimiser keeps for every one of them: Muon for the matrices of
the layers, and AdamW's for the rest."""

MUON_TOGETHER = 2**24
"""Numbers in matrices of one shape that Muon makes orthogonal together, unless one matrix alone has more."""

TARGETS = {
    "all": ("q", "k", "v", "o", "gate", "up", "down"),
    "attention": ("q", "k", "v", "o"),
    "qv": ("q", "v"),
}
"""Which matrices of a layer get adapters."""

SHARDS = ("none", "optimiser", "gradients", "weights")
"""What the processes divide among them, each with what stands before it: ZeRO's stages 0 to 3; the last is FSDP."""


@dataclass(frozen=True)
class Work:
    """What is done with a model, on each of `ranks` processes: `batch` rows of `context` tokens at a time.

    Attributes:
        precision: "float32", "bfloat16" (weights in float32, products in bfloat16: mixed), or "pure" (all in bfloat16).
        method: see `treino.planning.flops.METHODS`.
        loss: "chunks" (ours: logits are made and left chunk by chunk), "split" (16-bit logits kept, their loss by eighths) or
            "whole" (in float32, as transformers does).
        classes: of a classifier in place of the head over the vocabulary; 0: a language model.
        rank, targets: of adapters.
        packed: rows hold several documents kept apart by a mask; `kernels`: our own, which need none.
        compiled: point-wise operations are fused and computed again.
        common: the ranks have weights and the optimiser's state in memory that all of them see, and pass gradients on in it;
            of that each counts its part (`treino.training.together`).
        shard, offload, stream: what is divided among the ranks; what lies in the host's memory (of "optimiser",
            "gradients", "activations"); frozen weights come layer by layer from there.
        base: bytes of the process before the model, or of the driver.
        accelerator: whether the memory is that of a card.
    """

    batch: int
    context: int
    precision: str = "float32"
    method: str = "scratch"
    optimiser: str = "adamw"
    loss: str = "chunks"
    classes: int = 0
    rank: int = 16
    targets: str = "all"
    recompute: bool = False
    compiled: bool = False
    packed: bool = True
    kernels: bool = False
    accumulation: int = 1
    checkpoints: bool = False
    ranks: int = 1
    shard: str = "none"
    common: bool = False
    offload: frozenset[str] = frozenset()
    stream: bool = False
    base: int = BASE_BYTES
    accelerator: bool = False

    @property
    def adapted(self) -> bool:
        return self.method in ("lora", "qlora")

    @property
    def narrow(self) -> bool:
        """Whether the weights that a pass reads, and so its residual path, are in 16 bits: in pure bfloat16, and on a card
        frozen ones under adapters. Here frozen weights stay in float32, as they were loaded.
        """
        return self.precision == "pure" or (self.adapted and self.accelerator and self.precision == "bfloat16")

    @property
    def tokens(self) -> int:
        return self.batch * self.context

    def divided(self, part: str) -> int:
        """Among how many processes a part is divided."""
        if self.common and part != "gradients":
            return self.ranks
        return self.ranks if SHARDS.index(self.shard) >= SHARDS.index(part) else 1

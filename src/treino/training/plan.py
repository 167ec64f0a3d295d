"""Everything that the loop needs to know, decided before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from treino.training.optimiser import Kind
from treino.training.parallel import Shard
from treino.training.schedule import Schedule

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainingPlan:
    """A finished plan: the same plan, data, build and thread count give the same weights, bit for bit, on a CPU.

    `batch` rows are one micro-batch, `accumulation` micro-batches are one step. `patience`: looks at validation without a
    lower loss before training ends with the best weights (0: it goes on to the last step, whose weights count). `shard`: how
    several processes train one model; one process heeds it not. `lora_plus`: rate of adapters' B over that of all else.
    """

    steps: int
    batch: int
    accumulation: int
    schedule: Schedule
    weight_decay: float
    beta2: float
    clip: float
    precision: Precision
    seed: int
    log_every: int
    validate_every: int
    checkpoint_seconds: float
    checkpoints_kept: int = 2
    patience: int = 0
    optimiser: Kind = "adamw"
    compile: bool = False
    shard: Shard = "ddp"
    lora_plus: float = 1.0

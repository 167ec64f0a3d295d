"""Which device computes: a GPU of NVIDIA's before one of Apple's before the processors, unless one is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from treino import environment
from treino.errors import UsageError
from treino.messages import N_, Message

DEVICES = ("cuda", "mps", "cpu")
"""The quickest first. mps is used plainly: float32, torch's attention, nothing compiled, no kernels of ours."""


@dataclass(frozen=True)
class Chosen:
    """A device, and why it is the one."""

    device: torch.device
    reason: Message


def choose(local_rank: int = 0, local_size: int = 1) -> Chosen:
    """The device of one of `local_size` processes of this machine.

    Raises:
        UsageError: for a device that `TREINO_DEVICE` asks for and that is none, or not there.
    """
    asked = environment.device_asked_for()
    if asked and asked not in DEVICES:
        raise UsageError(N_("TREINO_DEVICE must be cuda, mps or cpu, not {value}"), value=asked)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = torch.backends.mps.is_available() and local_size == 1
    there = {"cuda": gpus >= local_size, "mps": apple, "cpu": True}
    if asked and not there[asked]:
        raise UsageError(
            N_("TREINO_DEVICE asks for {value}, which this process cannot have here"),
            fix=N_("unset it: the quickest device that is there is then taken"),
            value=asked,
        )
    kind = asked or next(kind for kind in DEVICES if there[kind])
    if asked:
        reason = N_("TREINO_DEVICE asks for it")
    elif kind == "cuda":
        reason = N_("an NVIDIA GPU is there for each process")
    elif kind == "mps":
        reason = N_("the GPU of an Apple processor is there")
    else:
        reason = N_("there are fewer GPUs than processes") if gpus else N_("no GPU is there")
    return Chosen(torch.device("cuda", local_rank) if kind == "cuda" else torch.device(kind), Message(reason))

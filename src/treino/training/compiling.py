"""Whether `torch.compile` pays for a run: it makes each step faster, after a cold start of a minute."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from treino import events
from treino.models.kernels.build import COMPILERS
from treino.training.objective import B, Objective

GAIN = {"cpu": 1.25, "cuda": 1.3}
"""How much faster steps are taken to become: 1.46 was measured once, on a CPU in bfloat16 (`LOG.md`); on CUDA nothing was."""

COLD_SECONDS = 90.0
"""What compiling is taken to cost once: 39 s were measured on two processors (`LOG.md`)."""

BACKEND = "inductor"


def pays(seconds: float, device: torch.device, *, kernels: bool, one_shape: bool) -> bool:
    """Whether a run that takes so many seconds as it is would be over sooner.

    Never beside our own kernels, which are faster than what is compiled; nor where rows have many lengths, for each of which
    the compiler would begin anew; nor without a C++ compiler on a CPU.
    """
    if kernels or not one_shape or device.type not in GAIN:
        return False
    if device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        return False
    return seconds * (1 - 1 / GAIN[device.type]) > COLD_SECONDS


def compiled_sums(objective: Objective[B]) -> Callable[[nn.Module, B], dict[str, Tensor]]:
    """The objective's sums, compiled at their first use; where that fails, as they are, with a warning."""
    compiled: Callable[..., Any] = torch.compile(objective.sums, backend=BACKEND)
    state = {"call": compiled, "tried": False}

    def sums(model: nn.Module, batch: B) -> dict[str, Tensor]:
        if state["tried"]:
            return state["call"](model, batch)
        state["tried"] = True
        events.emit("compile.started")
        try:
            return compiled(model, batch)
        except (
            Exception
        ) as error:  # the compiler's failures have no common kind; the plain form shows a mistake of ours
            events.emit("warning.compile_failed", reason=f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")
            state["call"] = objective.sums
            return objective.sums(model, batch)

    return sums

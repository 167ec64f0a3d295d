"""Whether `torch.compile` pays for a run, by a trial: it makes each step faster, after a cold start of a minute."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from treino import events
from treino.errors import first_line
from treino.messages import N_, Message
from treino.models.kernels.build import COMPILERS
from treino.training.objective import B, Objective

if TYPE_CHECKING:
    from treino.training.calibrate import Speed

GAIN = {"cpu": 1.25, "cuda": 1.3}
"""How much faster steps may become, to tell which runs are long enough for a trial: 1.46 was measured once, on a CPU in
bfloat16 (`LOG.md`); on CUDA nothing was. Whether steps are compiled, the trial of the run itself decides."""

COLD_SECONDS = 90.0
"""What compiling may cost, for the same purpose: 39 s were measured on two processors (`LOG.md`)."""

BACKEND = "inductor"


@dataclass(frozen=True)
class Verdict:
    """Whether steps are compiled, why, and how fast they are so."""

    compiles: bool
    reason: Message
    speed: Speed


def worth_a_trial(seconds: float, device: torch.device, *, kernels: bool, one_shape: bool) -> bool:
    """Whether compiling may pay in a run that takes so many seconds as it is, the compiler's time counted twice: for the trial,
    and for the run.

    Never beside our own kernels, which are faster than what is compiled; nor where rows have many lengths, for each of which
    the compiler would begin anew; nor without a C++ compiler on a CPU.
    """
    if kernels or not one_shape or device.type not in GAIN:
        return False
    if device.type == "cpu" and not any(map(shutil.which, COMPILERS)):
        return False
    return seconds * (1 - 1 / GAIN[device.type]) > 2 * COLD_SECONDS


def judged(eager: Speed, steps: int, trial: Callable[[], Speed] | None) -> Verdict:
    """Compile where the steps that are left save more than compiling costs even if the trial was lucky:
    steps · (eager − compiled − 2 · √(e² + c²)) > cold, all in seconds as this machine just took them, e and c the standard
    errors of a step; `trial` measures compiled steps (None: not worth one).

    The cost is an upper bound: the run's compiler finds some of the trial's work in its cache.
    """
    if trial is None:
        return Verdict(False, Message(N_("it would not pay within this run")), eager)
    compiled = trial()
    figures = {
        "eager": 1000 * eager.seconds_per_step,
        "compiled": 1000 * compiled.seconds_per_step,
        "cold": compiled.cold_seconds,
        "steps": steps,
    }
    saved = eager.seconds_per_step - compiled.seconds_per_step
    if steps * (saved - 2 * math.hypot(eager.error, compiled.error)) > compiled.cold_seconds:
        why = N_(
            "measured: a step takes {compiled:1} ms instead of {eager:1}, and compiling {cold:seconds} for {steps} steps"
        )
        return Verdict(True, Message(why, figures), compiled)
    why = N_(
        "measured: a step takes {compiled:1} ms instead of {eager:1}; {steps} steps do not win back {cold:seconds}"
    )
    return Verdict(False, Message(why, figures), eager)


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
        except Exception as error:  # the compiler's have no common kind; the plain form shows a mistake of ours
            events.emit("warning.compile_failed", reason=first_line(error))
            state["call"] = objective.sums
            return objective.sums(model, batch)

    return sums

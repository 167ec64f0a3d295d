"""What this machine has, and what that means for Treino."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino import __version__, environment
from treino.measure import machine_memory
from treino.messages import N_, Message

ENOUGH_MEMORY = 2e9
ENOUGH_DISK = 2e9


@dataclass(frozen=True)
class Finding:
    """One thing looked at: its name for programs, its label for people, what was found, and what to do if it is not well."""

    name: str
    label: str
    value: Any
    ok: bool = True
    note: str | Message = ""

    @property
    def advice(self) -> Message:
        """The note as a sentence to be rendered."""
        return self.note if isinstance(self.note, Message) else Message(self.note)

    unit: str = ""


def examine() -> list[Finding]:
    """Look at versions, processors, memory, disk, number formats, compiler and GPU."""
    import torch

    from treino.models.device import choose
    from treino.models.kernels import identity
    from treino.training.formats import format_for

    environment.prepare()
    memory = machine_memory()
    disk = shutil.disk_usage(Path.cwd()).free
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    where = choose()
    chosen = format_for(where.device, kernels=bool(identity()))
    return [
        Finding("treino", N_("treino"), __version__),
        Finding("python", N_("Python"), platform.python_version()),
        Finding("torch", N_("torch"), torch.__version__),
        Finding("system", N_("system"), platform.platform()),
        Finding("processors", N_("processors"), environment.processors()),
        Finding("instruction_set", N_("instruction set"), torch.backends.cpu.get_cpu_capability()),
        Finding(
            "precision",
            N_("number format of trainings"),
            chosen.precision,
            note=chosen.reason,
        ),
        Finding(
            "memory",
            N_("memory"),
            memory,
            ok=memory is None or memory >= ENOUGH_MEMORY,
            note=N_("the quickstart needs up to 1.5 GB") if memory is not None and memory < ENOUGH_MEMORY else "",
            unit="bytes" if memory is not None else "",
        ),
        Finding(
            "disk",
            N_("free disk here"),
            disk,
            ok=disk >= ENOUGH_DISK,
            note=N_("free some space before a long run") if disk < ENOUGH_DISK else "",
            unit="bytes",
        ),
        Finding(
            "compiler",
            N_("C++ compiler"),
            compiler or "-",
            note="" if compiler else N_("none is needed; some runs would be faster with one"),
        ),
        Finding("device", N_("device of trainings"), where.device.type, note=where.reason),
        Finding("gpu", N_("GPU"), gpu or "-", note="" if gpu else N_("none is needed")),
        Finding("language", N_("language"), environment.language()),
    ]

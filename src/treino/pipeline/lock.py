"""`recipe.lock.toml`: every decision that was taken from a measurement, with the hash of the settings behind it."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from treino import environment, events, files
from treino.errors import UsageError, reason_of
from treino.messages import N_
from treino.pipeline.stage import Decisions
from treino.recipe.source_lines import syntax_reason

SCHEMA = 1
NAME = "recipe.lock.toml"


class DecisionLock:
    """Decisions by name. One is valid while the hash of the settings that it was decided from is the same: the `given` lock's
    where it fits, else the run's own. `ranks`: processes of a training, of which the machine is one part more.
    """

    def __init__(self, path: Path, given: Path | None = None, ranks: int = 1) -> None:
        self.path, self.ranks = path, ranks
        self.entries: dict[str, dict[str, Any]] = {}
        self.machine: dict[str, Any] = {}  # on which the decisions last asked for were taken
        if path.exists():
            self._take_own()
        self.own_machine = self.machine
        self.given = _read(given) if given else {"decisions": {}, "machine": {}}

    def _take_own(self) -> None:
        """The run's own lock; a damaged one is set aside and its decisions are taken anew."""
        try:
            content = _read(self.path)
            self.entries, self.machine = content["decisions"], content["machine"]
        except UsageError as error:
            aside = self.path.with_name(f"damaged-{NAME}")
            os.replace(self.path, aside)
            events.emit("warning.damaged", path=str(self.path), reason=error.message, aside=aside.name)

    def valid(self, names: tuple[str, ...], settings: str) -> dict[str, Any] | None:
        """Values of the named decisions, if all were taken from settings of this hash."""
        for entries, taken_on in ((self.given["decisions"], self.given["machine"]), (self.entries, self.own_machine)):
            if all(entries.get(name, {}).get("settings") == settings for name in names):
                self.entries |= {name: entries[name] for name in names}
                self.machine = taken_on
                return {name: entries[name]["value"] for name in names}
        return None

    def add(self, decisions: Decisions, settings: str) -> None:
        """Record new decisions and write the file at once."""
        for name, (value, why, figures) in decisions.items():
            self.entries[name] = {"value": value, "why": why.english(), "settings": settings} | {
                "figures": json.dumps(figures)
            }
            events.emit("decision", where=name, value=value, reason=why)
        self.machine = self.own_machine = machine(self.ranks)
        self.write()

    def write(self) -> None:
        lines = [f"schema = {SCHEMA}", "", "[machine]"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in sorted(self.machine.items())]
        for name, entry in sorted(self.entries.items()):
            lines += ["", f'[decisions."{name}"]']
            lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in sorted(entry.items())]
        files.write_text(self.path, "\n".join(lines) + "\n")

    def differences(self) -> list[str]:
        """What of the machine is not as it was when the decisions were taken."""
        now = machine(self.ranks)
        return [name for name, value in self.machine.items() if now.get(name) != value]


def machine(ranks: int = 1) -> dict[str, Any]:
    """What two runs must share for equal bits: torch build, threads, processes, instruction set, own kernels."""
    import torch

    from treino.models.kernels import identity

    return {
        "torch": torch.__version__,
        "threads": environment.processors(),
        "ranks": ranks,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "kernels": identity(),
        "limits": json.dumps(environment.instruction_set_limits(), sort_keys=True),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        for entry in content.get("decisions", {}).values():
            assert {"value", "settings"} <= set(entry)
    except FileNotFoundError:
        raise UsageError(N_("there is no lock file {path}"), path=str(path)) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, AttributeError, AssertionError) as error:
        raise UsageError(
            N_("the lock file {path} cannot be used: {reason}"),
            fix=N_("delete it: the decisions are then measured again"),
            path=str(path),
            reason=syntax_reason(error) if isinstance(error, tomllib.TOMLDecodeError) else reason_of(error),
        ) from None
    if content.get("schema", 0) > SCHEMA:
        raise UsageError(N_("the lock file {path} was written by a newer version of treino"), path=str(path))
    return {"decisions": content.get("decisions", {}), "machine": content.get("machine", {})}

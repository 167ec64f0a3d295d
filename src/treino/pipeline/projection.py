"""What trainings that were measured here would take on another chip, by the planner's calculation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino import environment
from treino.errors import UsageError
from treino.messages import N_, Message
from treino.planning.configuration import read_configuration
from treino.planning.facts import Facts
from treino.planning.model import described
from treino.planning.plan import calculate
from treino.planning.throughput import Interval, efficiency
from treino.planning.wanted import Wanted, find_chips, price_notes
from treino.planning.work import CONTEXT_BYTES, Work


@dataclass(frozen=True)
class Projector:
    """Projects to one chip (`NAME` or `NAME:COUNT`), with the prices and published runs that the planner knows."""

    gpu: str
    facts: Facts

    @classmethod
    def to(cls, gpu: str) -> Projector:
        """Raises `UsageError` for a chip that is not known, with the nearest name."""
        facts = Facts(environment.configuration_folder())
        find_chips(gpu, facts)
        return cls(gpu, facts)

    def row(self, method: str, model: Path, record: Mapping[str, Any], forecast: Mapping[str, Any]) -> dict[str, Any]:
        """One training: {method, seconds, cost (intervals; cost None without a price), memory (bytes), fits}.

        Args:
            model: folder of the base model.
            record, forecast: of the fine-tuning, which say what went through the model.
        """
        chip, count = find_chips(self.gpu, self.facts)
        settings, work = record["facts"]["settings"], forecast["work"]
        frozen = method == "frozen"
        wanted = Wanted(
            described("", read_configuration(model)),
            *(chip, count),
            Work(
                *(work["rows"], work["context"]),
                method=method,
                precision="bfloat16",
                classes=work["classes"],
                rank=settings["lora_rank"],
                packed=False,
                base=CONTEXT_BYTES,
                accelerator=True,
                ranks=count,
            ),
            tokens=work["pass"] if frozen else work["tokens_per_epoch"] * record["facts"]["epochs"],
            unique=None,
            price=self._price(chip.name),
            grams=0.0,
            cooling=1.0,
            mfu=efficiency(chip, self.facts.runs),
        )
        plan = calculate(wanted, search=False)
        return {
            "method": method,
            "seconds": _plain(plan.seconds),
            "cost": _plain(plan.dollars),
            "memory": plan.memory["total"],
            "fits": plan.fits,
        }

    def notes(self, parameters: float) -> list[Message]:
        """What must be said beside the figures."""
        chip, _ = find_chips(self.gpu, self.facts)
        least = min(run.parameters for run in self.facts.runs if run.learnt)
        small = N_(
            "this model has {parameters} parameters, and the smallest that the speed is learnt from has {least}: small ones "
            "keep a card less busy, so that it would take longer than calculated"
        )
        notes = [Message(small, {"parameters": parameters, "least": least})] if parameters < least else []
        return notes + list(price_notes(chip.name, self.facts.price(chip.name)))

    def _price(self, chip: str) -> Interval | None:
        price = self.facts.price(chip)
        return Interval(price.low, price.typical, price.high) if price else None


def check_projectable(architecture: str) -> None:
    """Refuse a model whose speed nobody published."""
    if architecture == "lstm":
        raise UsageError(
            N_("the planner calculates Transformers alone: an LSTM cannot be projected to another chip"),
            where="--gpu",
        )


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return {"low": interval.low, "mean": interval.middle, "high": interval.high} if interval else None

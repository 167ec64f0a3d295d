"""A pretraining as one value that a file or a store of keys can carry to other processes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from treino.recipe import ModelSettings, OrderSettings, PretrainSettings
from treino.training.pretrain import Pretraining
from treino.training.ranks import Ranks, join, leave, meeting_place

LONG = timedelta(days=30)
"""How long the other processes wait while the first one makes the tokens ready."""


@dataclass(frozen=True)
class Order:
    """What a process needs to know to train with others: settings, folders, decisions, seed, threads for each, curriculum.

    `base`: folder of the model that it goes on from; "": a fresh one.
    """

    settings: Mapping[str, Any]
    shape: Mapping[str, Any]
    tokens: str
    output: str
    decisions: Mapping[str, Any]
    seed: int
    threads: int = 0
    curriculum: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Order:
        return Order(**json.loads(text))

    def pretraining(self, ranks: Ranks) -> Pretraining:
        settings, shape = PretrainSettings.model_validate(self.settings), ModelSettings.model_validate(self.shape)
        curriculum = OrderSettings.model_validate(self.curriculum)
        return Pretraining(settings, shape, Path(self.tokens), self.seed, ranks, curriculum, self.base)

    def carry_out(self, ranks: Ranks) -> dict[str, Any]:
        """Train; the facts of the first process, nothing of the others."""
        return self.pretraining(ranks).run(dict(self.decisions), Path(self.output))


class Leading:
    """The first of several processes that torchrun started: it runs the whole pipeline, and hands on what all must do."""

    def __init__(self) -> None:
        self.orders = 0
        meeting_place()  # at once, for the others look for it from their start

    def carry_out(self, order: Order) -> dict[str, Any]:
        """Train together with the processes that `follow`."""
        meeting_place().set(_key(self.orders), order.to_json())
        self.orders += 1
        facts = order.carry_out(join(meeting=_key(self.orders - 1)))
        leave()
        return facts

    def end(self) -> None:
        """Let the others go."""
        meeting_place().set(_key(self.orders), "")


def follow() -> None:
    """What every process but the first does: wait for an order, carry it out, and end with the first."""
    store = meeting_place()
    for number in itertools.count():
        store.wait([_key(number)], LONG)
        text = store.get(_key(number)).decode()
        if not text:
            return
        Order.from_json(text).carry_out(join(meeting=_key(number)))
        leave()


def _key(number: int) -> str:
    return f"order/{number}"

"""Fine-tunings as the planner describes them: what fits, what is offered where it does not, and what counts beside a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from treino.planning.fit import Arrangement, arrange, smallest_changes
from treino.planning.memory import memory
from treino.planning.parameters import Architecture
from treino.planning.tuning import TuningWish
from treino.planning.work import Work

MODEL = Architecture(8192, 512, 8, 8, 8, 1376, tied=True, context=512)
OFFERS = (
    ("finetune.precision", '"bfloat16"', {"precision": "bfloat16"}),
    ("finetune.method", '"lora"', {"method": "lora"}),
    ("finetune.method", '"qlora"', {"method": "qlora"}),
    ("finetune.method", '"frozen"', {"method": "frozen"}),
)


def wish(**changes: Any) -> TuningWish:
    work = Work(16, 256, method="full", classes=3, packed=False, base=0)
    return replace(TuningWish(MODEL, work, offers=OFFERS), **changes)


def test_a_step_goes_through_in_parts_where_it_does_not_fit_whole() -> None:
    asked = wish()
    whole, half = asked.bytes(), asked.bytes(batch=8, accumulation=2)
    assert half < whole
    assert arrange(asked, whole) == Arrangement(16)
    assert arrange(asked, whole - 1) == Arrangement(8)
    least = asked.bytes(batch=1, accumulation=16, recompute=True)
    assert arrange(asked, least) == Arrangement(1, True) and arrange(asked, least - 1) is None


def test_each_change_that_is_offered_fits_and_the_gentlest_come_first() -> None:
    asked = wish()
    room = asked.bytes(batch=1, accumulation=16, recompute=True, method="lora")
    assert arrange(asked, room) is None
    changes = smallest_changes(asked, room)
    assert [change.values["value"] for change in changes] == ['"lora"', '"qlora"', '"frozen"']
    for change in changes:
        assert change.values["need"] <= room
    shorter = smallest_changes(wish(shorter=True, offers=()), asked.least() - 1)
    assert shorter[0].values["setting"] == "model.context" and int(shorter[0].values["value"]) < 256


def test_what_counts_beside_a_step() -> None:
    alone = wish().parts()
    step = memory(MODEL, wish().work)
    assert alone["total"] - alone["looks"] == step["total"]
    trained = step["gradients"]
    assert wish(patience=True).parts()["best"] == trained
    assert wish(anchors=2).parts()["cures"] == 2 * trained
    assert wish(old=(16, 512)).bytes() > wish(old=(1, 8)).bytes() == wish().bytes(), "the larger of two passes counts"
    assert wish(distillation=True).parts()["cures"] == 5 * 4 * 16 * 256 * 8192
    few = replace(wish().work, batch=1, context=8, method="qlora")
    narrow = wish(work=few).parts()
    held = narrow["weights"] + narrow["constants"] + narrow["float32"]
    assert narrow["total"] >= alone["weights"] - 4 * 512 * 3 > held, (
        "it is made of, and merged into, a model in float32"
    )
    frozen = wish(work=replace(few, method="frozen", batch=64), vectors=1000).parts()
    assert frozen["vectors"] == 4000 and frozen["gradients"] == 4 * 512 * 3

"""What does not fit is refused with changes that would fit, each checked by the same calculation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from treino.errors import DoesNotFit
from treino.measure import available_memory
from treino.planning.fit import Wish, smallest_changes
from treino.recipe import ModelSettings, PretrainSettings
from treino.training import fit

SHAPE = ModelSettings(
    architecture="transformer", width=512, layers=8, heads=8, kv_heads=8, feed_forward=1376, context=512, embedding=512
)


def wish(**changes: Any) -> Wish:
    whole = Wish(
        *(SHAPE, 16384, 8, 512, 1, "float32", True, False, 0),
        reshaped=lambda width, layers: SHAPE.model_copy(update={"width": width, "layers": layers}),
    )
    return replace(whole, **changes)


def test_each_change_fits_and_a_little_less_of_it_would_not() -> None:
    asked = wish()
    room = int(0.8 * asked.bytes())
    changes = smallest_changes(asked, room)
    assert [change.text.split()[0] for change in changes] == ["pretrain.batch", "model.{name}", "model.{name}"]
    batch = changes[0].values
    assert batch["batch"] * batch["passes"] >= 8
    assert asked.bytes(batch=batch["batch"], accumulation=batch["passes"]) == batch["need"] <= room
    assert asked.bytes(batch=batch["batch"] + 1, accumulation=batch["passes"]) > room
    for change in changes[1:]:
        name, value = change.values["name"], change.values["value"]
        assert asked.bytes(**{name: value}) == change.values["need"] <= room
        assert asked.bytes(**{name: value + max(1, value // 8)}) > room, name


def test_where_the_weights_alone_are_too_much_only_a_smaller_model_is_offered() -> None:
    asked = wish(batch=1, context=64)
    changes = smallest_changes(asked, int(0.7 * asked.bytes()))
    assert {change.values.get("name") for change in changes} <= {"layers", "width"} and changes
    assert smallest_changes(asked, 1000) == []


def test_the_refusal_names_need_room_and_fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        settings = PretrainSettings(batch=8, precision="float32")
        fit.check_fit(SHAPE, 16384, settings, 8, packed=True, kernels=False, device=torch.device("cpu"))

    monkeypatch.setattr(fit, "available_memory", lambda: 2_000_000_000)
    with pytest.raises(
        DoesNotFit, match=r"needs about [23].* GB .*pretrain.batch = \d .*or model.context = \d+"
    ) as refused:
        check()
    assert refused.value.exit_code == 4
    monkeypatch.setattr(fit, "available_memory", lambda: 3_000_000)
    with pytest.raises(DoesNotFit, match=r"smaller model\.size"):
        check()
    for room in (None, 10**11):
        monkeypatch.setattr(fit, "available_memory", lambda room=room: room)
        check()


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="reads /proc")
def test_the_free_memory_of_this_machine_is_a_size() -> None:
    free = available_memory()
    assert free is not None and 10**8 < free < 10**14

"""What does not fit is refused with changes that would fit, each checked by the same calculation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from treino.errors import DoesNotFit
from treino.measure import available_memory
from treino.planning.fit import Arrangement, PretrainingWish, arrange, smallest_changes
from treino.planning.parameters import architecture_of
from treino.recipe import ModelSettings, PretrainSettings
from treino.training import fit
from treino.training.ranks import Ranks

SHAPE = ModelSettings(
    architecture="transformer", width=512, layers=8, heads=8, kv_heads=8, feed_forward=1376, context=512, embedding=512
)


def wish(**changes: Any) -> PretrainingWish:
    whole = PretrainingWish(
        *(SHAPE, 16384, 8, 512, 1, "float32", True, False, 0),
        reshaped=lambda width, layers: SHAPE.model_copy(update={"width": width, "layers": layers}),
    )
    return replace(whole, **changes)


LEAST = {"batch": 1, "accumulation": 8, "recompute": 1}


def test_on_a_card_packed_rows_take_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    work = {"kernels": False, "precision": "float32", "device": torch.device("cuda")}
    settings = PretrainSettings(batch=8, precision="float32", optimiser="adamw", schedule="cosine")
    whole = wish(accelerator=True)
    assert whole.bytes() == wish(accelerator=True, packed=False).bytes() < wish().bytes()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (whole.bytes(), 0))
    assert fit.fitted(SHAPE, 16384, settings, 8, packed=True, **work) == (Arrangement(8), "ddp")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (whole.bytes() - 1, 0))
    assert fit.fitted(SHAPE, 16384, settings, 8, packed=True, **work) == (Arrangement(4), "ddp")


def test_each_change_fits_and_a_little_less_of_it_would_not() -> None:
    asked = wish()
    room = int(0.8 * asked.bytes(**LEAST))
    assert arrange(asked, room) is None
    changes = smallest_changes(asked, room)
    assert [change.text.split()[0] for change in changes] == ["model.{name}"] * len(changes) and changes
    for change in changes:
        name, value = change.values["name"], change.values["value"]
        assert asked.bytes(**LEAST | {name: value}) == change.values["need"] <= room
        assert asked.bytes(**LEAST | {name: value + max(1, value // 8)}) > room, name


def test_changes_fit_where_layers_may_not_be_computed_again() -> None:
    asked = wish(recompute=(False,))
    least = {"batch": 1, "accumulation": 8, "recompute": 0}
    room = int(0.8 * asked.bytes(**LEAST))
    changes = smallest_changes(asked, room)
    assert changes
    for change in changes:
        assert asked.bytes(**least | {change.values["name"]: change.values["value"]}) == change.values["need"] <= room


def test_a_step_is_arranged_as_quickly_as_fits() -> None:
    asked = wish(batch=16)
    whole = asked.bytes()
    halved = asked.bytes(batch=8, accumulation=2)
    again = asked.bytes(batch=16, recompute=1)
    assert asked.bytes(batch=4, accumulation=4) < halved < whole
    assert arrange(asked, whole) == Arrangement(16)
    assert arrange(asked, whole - 1) == Arrangement(8)
    assert arrange(asked, halved - 1) == Arrangement(4), "4 rows are 2048 tokens; fewer would be slow"
    assert arrange(asked, asked.bytes(batch=4, accumulation=4) - 1).recompute  # type: ignore[union-attr]
    assert again < whole
    only = replace(asked, recompute=(True,))
    assert arrange(only, whole) == Arrangement(16, True)
    least = asked.bytes(batch=1, accumulation=16, recompute=1)
    assert arrange(asked, least) == Arrangement(1, True)
    assert arrange(asked, least - 1) is None
    never = replace(asked, recompute=(False,))
    assert arrange(never, least) is None
    assert smallest_changes(never, least)[0].text.startswith("pretrain.recompute")


def test_where_the_weights_alone_are_too_much_only_a_smaller_model_is_offered() -> None:
    asked = wish(batch=1, context=64)
    changes = smallest_changes(asked, int(0.7 * asked.bytes()))
    assert {change.values.get("name") for change in changes} <= {"layers", "width"} and changes
    assert smallest_changes(asked, 1000) == []


def test_the_refusal_names_need_room_and_fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> Arrangement:
        settings = PretrainSettings(batch=8, precision="float32", optimiser="adamw", schedule="cosine")
        work = {"packed": True, "kernels": False, "precision": "float32", "device": torch.device("cpu")}
        arrangement, shard = fit.fitted(SHAPE, 16384, settings, 8, **work)
        assert shard == "ddp"
        return arrangement

    monkeypatch.setattr(fit, "available_memory", lambda: 300_000_000)
    with pytest.raises(DoesNotFit, match=r"needs about \d+.MB .*300.MB are free.*model.width = \d+") as refused:
        check()
    assert refused.value.exit_code == 4
    monkeypatch.setattr(fit, "available_memory", lambda: 3_000_000)
    with pytest.raises(DoesNotFit, match=r"smaller model\.size"):
        check()
    monkeypatch.setattr(fit, "available_memory", lambda: 1_500_000_000)
    assert check() != Arrangement(8)
    for room in (None, 10**11):
        monkeypatch.setattr(fit, "available_memory", lambda room=room: room)
        assert check() == Arrangement(8)


def test_of_a_model_that_is_there_no_other_shape_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    model = architecture_of(SHAPE, 16384)
    work = {"packed": True, "kernels": False, "precision": "float32", "device": torch.device("cpu")}
    settings = PretrainSettings(batch=1, precision="float32", optimiser="adamw")
    for free, said in (
        (500_000_000, r'pretrain.method = "lora" \(\d+.MB\)$'),
        (3_000_000, "take a smaller base model"),
    ):
        monkeypatch.setattr(fit, "available_memory", lambda free=free: free)
        with pytest.raises(DoesNotFit, match=said):
            fit.fitted(model, 16384, settings, 1, **work)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="reads /proc")
def test_the_free_memory_of_this_machine_is_a_size() -> None:
    free = available_memory()
    assert free is not None and 10**8 < free < 10**14


def among(ranks: Ranks, room: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[Arrangement, str]:
    """What several processes would do where so much is free on their machine."""
    monkeypatch.setattr(fit, "available_memory", lambda: room)
    work = {"packed": True, "kernels": False, "precision": "float32", "device": torch.device("cpu")}
    wanted = PretrainSettings(
        **{"batch": 8, "precision": "float32", "optimiser": "adamw", "schedule": "cosine"} | settings
    )
    return fit.fitted(SHAPE, 16384, wanted, 8, **work, ranks=ranks)


def test_several_processes_take_parts_where_the_whole_does_not_fit_and_are_refused_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fit, "resident_memory", lambda: 1)
    apart = Ranks(size=2, local_size=1)  # one on each of two machines, so that each has the whole model
    shared = Ranks(size=2, local_size=2)
    asked = wish(base=1)
    whole, parts = fit.among(asked, apart, "ddp"), fit.among(asked, apart, "fsdp")
    assert whole.batch == parts.batch == 4 and parts.least() < whole.least()
    assert among(apart, whole.bytes(), monkeypatch) == (Arrangement(8), "ddp")
    assert among(apart, whole.least() - 1, monkeypatch)[1] == "fsdp"
    assert among(apart, parts.least(), monkeypatch)[1] == "fsdp"
    with pytest.raises(DoesNotFit, match=r"each of the 2 processes .* free for each; this would fit") as refused:
        among(apart, parts.least() - 1, monkeypatch)
    assert refused.value.exit_code == 4
    with pytest.raises(DoesNotFit, match=r'pretrain.shard = "fsdp" \('):
        among(apart, parts.least(), monkeypatch, shard="ddp")
    with pytest.raises(DoesNotFit):
        among(apart, parts.least() - 1, monkeypatch, shard="ddp")
    by_muon = fit.among(replace(asked, optimiser="muon"), apart, "fsdp").least()
    assert among(apart, by_muon, monkeypatch, optimiser="muon")[1] == "fsdp", "Muon works in parts, too"
    with pytest.raises(DoesNotFit):
        among(apart, by_muon - 1, monkeypatch, optimiser="muon")
    if fit.can_share(shared):  # two on one machine: each counts its part of what both see, and has half of the room
        common = fit.among(asked, shared, "ddp")
        assert common.common and common.least() < whole.least()
        assert among(shared, 2 * common.bytes(), monkeypatch) == (Arrangement(8), "ddp")
        alone = wish(batch=8, base=1).least() - 1
        assert alone < 2 * parts.least()
        with pytest.raises(DoesNotFit, match="one process instead of 2"):
            among(shared, alone, monkeypatch)
    met = Ranks(size=2, local_size=2, joined=True)
    monkeypatch.setattr(fit, "resident_memory", lambda: 50_000_000)
    room = 2 * fit.among(wish(base=0), met, "fsdp").least()
    assert among(met, room, monkeypatch)[1] == "fsdp", "what a process holds already it need not find again"
    with pytest.raises(DoesNotFit):
        among(replace(met, joined=False), room, monkeypatch, recompute="yes")

"""Memory of fine-tunings that others measured, where they state batch, row, format and recomputation: a development set.

Fitted to these rows: `DEVICE_HEAP_SHARE` of the memory, one number for the six together. `WHOLE_LOGITS` and `SPLIT_LOGITS` are
counted from the operations of the losses.
"""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from treino.planning.facts import Facts
from treino.planning.memory import adapter_parameters, memory
from treino.planning.model import find_model
from treino.planning.parameters import count, matrices
from treino.planning.work import Work

GIB = 2**30
PACKED: dict[str, Any] = {"batch": 2, "context": 4096, "precision": "pure", "loss": "whole"}
LONGEST: dict[str, Any] = {"batch": 4, "context": 768, "loss": "whole"}
ROWS: list[tuple[str, dict[str, Any], float]] = [
    ("torchtune README, packed", PACKED, 60.0),
    ("and compiled", PACKED | {"compiled": True}, 51.0),
    ("and loss in chunks", PACKED | {"compiled": True, "loss": "split"}, 42.9),
    ("and recomputation", PACKED | {"compiled": True, "loss": "split", "recompute": True}, 24.9),
    ("PEFT comparison, full, largest", LONGEST | {"precision": "pure"}, 36.20),
    (
        "PEFT comparison, LoRA r32 on q and v, largest",
        LONGEST | {"precision": "bfloat16", "method": "lora", "rank": 32, "targets": "qv"},
        20.76,
    ),
]
"""All of Llama-3.2-3B, in GiB; the largest memory of the rows of at most 768 tokens is compared with rows of 768."""


def foretold(work: dict[str, Any]) -> float:
    model = find_model("Llama-3.2-3B", Facts()).architecture
    assert model is not None
    settings = {"method": "full", "accelerator": True, "base": 0} | work
    return memory(model, Work(**settings))["total"] / GIB


def test_published_rows() -> None:
    errors = {name: foretold(work) / measured - 1 for name, work, measured in ROWS}
    assert statistics.mean(map(abs, errors.values())) <= 0.08, errors
    assert max(map(abs, errors.values())) <= 0.20, errors
    print({name: f"{error:+.1%}" for name, error in errors.items()})


@pytest.mark.parametrize(("name", "gigabytes"), [("7B", 3.87), ("13B", 7.20), ("33B", 17.4), ("65B", 34.5)])
def test_four_bit_weights(name: str, gigabytes: float) -> None:
    """4.127 bits for the linear layers, 16 for table and head."""
    model = find_model(f"LLaMA-{name}", Facts()).architecture
    assert model is not None
    parts = memory(model, Work(1, 1, method="qlora", accelerator=True))
    assert (parts["weights"] + parts["constants"]) / 1e9 == pytest.approx(gigabytes, rel=0.005)
    linear = sum(matrices(model).values())
    assert 8 * (linear / 2 + parts["constants"]) / linear == pytest.approx(4.127, abs=0.001)


def test_few_trained_parameters_save_less_memory_than_one_would_think() -> None:
    model = find_model("Llama-3.2-3B", Facts()).architecture
    assert model is not None
    assert adapter_parameters(model, 32, "qv") / count(model)["total"] == pytest.approx(0.00286, rel=0.02)
    saved = 1 - foretold(ROWS[5][1]) / foretold(ROWS[4][1])
    assert 0.3 < saved < 0.6

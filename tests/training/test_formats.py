"""The table of number formats: each row by device and ability, with its reason."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch

import treino
from treino import environment, events
from treino.training import formats
from treino.training.formats import NARROW, TABLE, format_for

CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))


def machine(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool, limits: dict[str, str] | None = None) -> None:
    monkeypatch.setattr(environment, "instruction_set_limits", lambda: limits or {})
    monkeypatch.setattr(formats, "processor_multiplies_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16 or including_emulation)


def test_every_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for device, bfloat16, kernels, width, limits, wanted, said in (
        (CPU, True, True, NARROW, None, "bfloat16", "AVX-512 BF16, and our kernels"),
        (CPU, True, False, NARROW, None, "bfloat16", "our kernels are missing"),
        (CPU, False, False, NARROW, None, "float32", "would only imitate it"),
        (CPU, True, True, NARROW - 1, None, "float32", "so narrow"),
        (CPU, True, False, NARROW, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "float32", "limited by ONEDNN_MAX_CPU_ISA=AVX2"),
        (CUDA, True, False, 8, None, "bfloat16", "the GPU multiplies"),
        (CUDA, False, False, 512, None, "float32", "older than compute capability 8.0"),
        (MPS, False, False, 512, None, "float32", "nothing else was tried"),
    ):
        machine(monkeypatch, bfloat16=bfloat16, limits=limits)
        chosen = format_for(device, kernels=kernels, width=width)
        assert (chosen.precision, said in chosen.reason.english()) == (wanted, True), chosen
        found.add(chosen.reason.text)
    assert found == {reason for _, reason in TABLE.values()}


def test_a_run_says_the_format_and_its_reason_and_locks_them(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    content = {
        "name": "formato",
        "corpus": {"sources": [{"lines": ["o gato subiu no telhado", "a gata subiu no muro"]}], "held_out": 0.0},
        "clean": {"minimum_characters": 1},
        "tokens": {"kind": "words"},
        "model": {"architecture": "lstm", "width": 8, "embedding": 8, "context": 8},
        "pretrain": {"budget": "2 steps", "batch": 2},
        "evaluate": {"ngrams": False, "compressor": False, "bootstrap": 100},
    }
    with events.listening(heard.append):
        run = treino.run(content, runs=tmp_path / "runs")
    (told,) = [item.values for item in heard if item.values.get("where") == "pretrain.precision"]
    assert told["value"] == "float32" and "so narrow" in told["reason"]["text"]
    json.dumps(told)
    lock = tomllib.loads((run.folder / "recipe.lock.toml").read_text(encoding="utf-8"))
    entry = lock["decisions"]["pretrain.precision"]
    assert entry["value"] == "float32" and entry["why"] == "a model so narrow gains nothing from bfloat16"

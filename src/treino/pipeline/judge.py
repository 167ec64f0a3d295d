"""Judge: the chosen model on the test rows, once; and the log of how often these rows have judged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from treino import files
from treino.pipeline.finetuning import (
    BASELINES,
    BASELINES_FILE,
    CLASSIFIER,
    LABELLED,
    MODEL,
    Splits,
    main_figures,
    measured_on,
)
from treino.pipeline.gate import judge_gate
from treino.pipeline.stage import Work

JUDGEMENT_FILE = "judgement.json"
USES = "test-uses.jsonl"
"""In the runs folder: a line for every model that a test split has judged."""


def judge(work: Work) -> dict[str, Any]:
    """Measures on the test rows beside those of the baselines, the gate, and what the base task lost (forgetting)."""
    from treino.evaluation.forgetting import forgetting

    model = work.inputs[CLASSIFIER] / "model"
    splits = Splits(work.inputs[LABELLED])
    found = _test(work, splits, model)
    if "tokens" in work.inputs and work.loaded.recipe.finetune.method != "scratch":
        found["forgetting"] = forgetting(work.inputs[MODEL] / "model", model, work.inputs["tokens"])
    files.write_json(work.output / JUDGEMENT_FILE, found)
    facts = {name: found.get(name) for name in ("passed", "gate", "forgetting")}
    if "test" in found:
        digest = files.sha256_file(_trained(model))
        facts |= {"test_uses": count_use(work.runs, splits.test_digest, digest, work.loaded.recipe.name)}
        facts |= {"test": main_figures(found["test"])}
        facts |= {name: main_figures(row) for name, row in found["baselines"].items()}
    return facts


def _trained(model: Path) -> Path:
    """The file with what fine-tuning made: the adapter of a model whose layers stay in 4 bits, else the weights."""
    adapter = model / "adapter" / "adapter_model.safetensors"
    return adapter if adapter.is_file() else model / "model.safetensors"


def _test(work: Work, splits: Splits, model: Path) -> dict[str, Any]:
    """Everything that needs the test rows; nothing of it where the recipe kept none."""
    from treino.models.classifier import predict
    from treino.models.classifier_folder import load_classifier

    recipe, test = work.loaded.recipe, splits.examples("test")
    if not test.texts:
        return {"passed": None, "gate": []}
    classifier, tokenizer, _ = load_classifier(model)
    pieces = test.encode(tokenizer, classifier.body.longest_row, recipe.finetune.long_texts)
    measures = measured_on(recipe, test.targets, predict(classifier, pieces), splits.labels)
    answers = files.read_json(work.inputs[BASELINES] / BASELINES_FILE)["test_answers"]
    baselines = {
        name: measured_on(recipe, test.targets, np.array(rows), splits.labels) for name, rows in answers.items()
    }
    rows = judge_gate(recipe.gate.require, measures, baselines)
    passed = all(row["passed"] for row in rows) if rows else None
    return {"test": measures, "baselines": baselines, "gate": rows, "passed": passed, "long_texts": pieces.long}


def count_use(runs: Path, test_digest: str, model_digest: str, run: str) -> int:
    """Note that a test split judged a model; returns how many models it has judged by now. A model judged twice counts
    once: its figures are the same.
    """
    log = runs / USES
    with files.machine_errors(log):
        known = {row["model"] for row in _uses(log) if row["test_digest"] == test_digest}
        if model_digest not in known:
            row = {"test_digest": test_digest, "model": model_digest, "run": run, "time": round(time.time(), 3)}
            with open(log, "a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(known | {model_digest})


def _uses(log: Path) -> Iterator[dict[str, Any]]:
    """Whole lines of the log; one that broke off with the machine is passed over."""
    if not log.is_file():
        return
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"test_digest", "model"} <= row.keys():
            yield row

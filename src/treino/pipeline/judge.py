"""Judge: the chosen model on the test rows, once; and the log of how often these rows have judged."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from treino import files
from treino.errors import DataError
from treino.messages import N_
from treino.pipeline.finetuning import (
    BASELINES,
    BASELINES_FILE,
    CLASSIFIER,
    LABELLED,
    MODEL,
    Splits,
    main_figures,
    measured_beside,
    measured_on,
    unanswered,
)
from treino.pipeline.gate import judge_gate
from treino.pipeline.stage import Work
from treino.recipe import PROMPT

if TYPE_CHECKING:
    from treino.training.finetune import Examples

JUDGEMENT_FILE = "judgement.json"
USES = "test-uses.jsonl"
"""In the runs folder: a line for every model that a test split has judged."""


def judge(work: Work) -> dict[str, Any]:
    """Measures on the test rows beside those of the baselines, the gate, and what the base task lost (forgetting)."""
    from treino.evaluation.forgetting import forgetting

    model, splits = work.inputs[CLASSIFIER] / "model", Splits(work.inputs[LABELLED])
    found, took = _test(work, splits)
    if "tokens" in work.inputs and work.loaded.recipe.finetune.method != "scratch":
        found["forgetting"] = forgetting(work.inputs[MODEL] / "model", model, work.inputs["tokens"])
    files.write_json(work.output / JUDGEMENT_FILE, found)
    facts = {name: found.get(name) for name in ("passed", "gate", "forgetting")} | took
    if "test" in found:
        digest = files.sha256_file(next(path for path in _weights(work) if path.is_file()))
        facts |= {"test_uses": count_use(work.runs, splits.test_digest, digest, work.loaded.recipe.name)}
        facts |= {"test": main_figures(found["test"])}
        facts |= {name: main_figures(row) for name, row in found["baselines"].items()}
    return facts


def _test(work: Work, splits: Splits) -> tuple[dict[str, Any], dict[str, Any]]:
    """Everything that needs the test rows, and what it took; nothing of it where the recipe kept none."""
    recipe, test = work.loaded.recipe, splits.examples("test")
    if not test.texts:
        return {"passed": None, "gate": []}, {}
    answer = _prompted if recipe.finetune.method == PROMPT else _classified
    measures, long, left_out, took = answer(work, splits, test)
    beside = files.read_json(work.inputs[BASELINES] / BASELINES_FILE)
    baselines = measured_beside(
        *(recipe, test.targets, beside["test_answers"], left_out, splits.labels, beside.get("thresholds", {}))
    )
    rows = judge_gate(recipe.gate.require, measures, baselines)
    passed = all(row["passed"] for row in rows) if rows else None
    return {"test": measures, "baselines": baselines, "gate": rows, "passed": passed, "long_texts": long}, took


def _classified(work: Work, splits: Splits, test: Examples) -> tuple[dict[str, Any], int, np.ndarray, dict[str, Any]]:
    """The measures of the tuned classifier, the number of long texts, which were left out (texts), and seconds of a row."""
    from treino.models.classifier import predict
    from treino.models.classifier_folder import load_classifier

    recipe = work.loaded.recipe
    classifier, tokenizer, _ = load_classifier(work.inputs[CLASSIFIER] / "model")
    pieces = test.encode(tokenizer, classifier.body.longest_row, recipe.finetune.long_texts)
    started = time.perf_counter()
    chances = predict(classifier, pieces)
    took = {"row_seconds": (time.perf_counter() - started) / len(test.texts)}
    left_out = unanswered(chances)
    if left_out.all():
        raise DataError(
            N_("every test text is longer than the context of {count} tokens"),
            fix=N_('set finetune.long_texts to "cut" or "split"'),
            count=classifier.body.longest_row,
        )
    measures = measured_on(recipe, test.targets, chances, splits.labels, classifier.thresholds)
    return measures, pieces.long, left_out, took


def _prompted(work: Work, splits: Splits, test: Examples) -> tuple[dict[str, Any], int, np.ndarray, dict[str, Any]]:
    """The same of a remote model, and what its answers cost."""
    from treino.pipeline.prompting import judged_by_prompt, measured_by_answers

    chances, took = judged_by_prompt(work, test.texts)
    graded = took["graded"]
    measures = measured_by_answers(work.loaded.recipe, splits, test.targets, chances, graded)
    return measures, 0, np.zeros(len(test.texts), bool), took


def _weights(work: Work) -> tuple[Path, ...]:
    """Files of which the first that is there was judged: the adapter of a model whose layers stay in 4 bits, a classifier's
    weights, or what is said to a remote model.
    """
    made = work.inputs[CLASSIFIER]
    model = made / "model"
    return model / "adapter" / "adapter_model.safetensors", model / "model.safetensors", made / "prompt.json"


def count_use(runs: Path, test_digest: str, model_digest: str, run: str) -> int:
    """Note that a test split judged a model; returns how many models it has judged by now. A model judged twice counts
    once: its figures are the same.
    """
    log = runs / USES
    with files.machine_errors(log):
        known = {row["model"] for row in _uses(log) if row["test_digest"] == test_digest}
        if model_digest not in known:
            row = {"test_digest": test_digest, "model": model_digest, "run": run, "time": round(time.time(), 3)}
            files.append_line(log, json.dumps(row, ensure_ascii=False))
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

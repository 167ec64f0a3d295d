"""The loop around fine-tuning: finds what the first settings miss, survives a kill, and says no where nothing passes.

    python benchmarks/gate_loop.py [--folder DIR]

The threshold stands in `benchmarks/loop.toml`. Twenty settings drawn evenly from the search's ranges are trained and judged
on validation: the share that fails shows that the gate is no formality. The test rows are read by the finished runs alone.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).with_name("loop.toml")
RANDOM = 20
LEAST_FAILING = 0.3


def lines_of(*arguments: str, kill_at_trial: int | None = None) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and JSON lines of `treino run`; killed (SIGKILL) when a trial begins, if one is named."""
    command = [sys.executable, "-m", "treino", "run", *arguments, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8")
    assert process.stdout
    rows = []
    for line in process.stdout:
        rows.append(json.loads(line))
        if rows[-1]["kind"] == "search.trial" and rows[-1]["trial"] == kill_at_trial:
            process.kill()
    return process.wait(), rows


def tried(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each trial that was begun tried."""
    return [row["tried"] for row in rows if row["kind"] == "search.trial"]


def failing_share(store: Path) -> float:
    """Share of random settings whose model misses the gate on the validation rows."""
    from treino import environment

    environment.prepare()
    from treino.evaluation.measures import measure
    from treino.models.classifier import predict
    from treino.pipeline.finetuning import Splits
    from treino.pipeline.gate import judge_gate
    from treino.pipeline.search import space
    from treino.recipe.load import load_recipe
    from treino.training.finetune import Finetuning

    recipe = load_recipe(RECIPE).recipe
    splits = Splits(next(store.glob("split-*")))
    training, validation = splits.examples("training"), splits.examples("validation")
    model = next(store.glob("pretrain-*")) / "model"
    tuning = Finetuning(model, splits.labels, training, validation, long_texts="", seed=recipe.seed)
    draw, failed = random.Random(2026), 0
    for _ in range(RANDOM):
        chosen = {}
        for name, values in space(recipe.finetune, recipe.search.vary).items():
            low, high = values.low, values.high
            share = draw.random()
            value = low * (high / low) ** share if values.log else low + (high - low) * share
            chosen[name] = round(value) if name == "epochs" else value
        with tempfile.TemporaryDirectory() as place:
            classifier, _ = tuning.run(recipe.finetune.model_copy(update=chosen), Path(place))
        measures = measure(validation.targets, predict(classifier, tuning.validation), splits.labels, resamples=2)
        failed += not all(row["passed"] for row in judge_gate(recipe.gate.require, measures, {}))
    return failed / RANDOM


def prove(folder: Path) -> tuple[str, bool]:
    """Run everything; what was measured, and whether it meets the claim."""
    runs = str(folder / "runs")
    code, rows = lines_of(str(RECIPE), "--runs", runs)
    result = rows[-1]["facts"]["finetune"]["trials"]
    figures = rows[-1]["facts"]["judge"]["test"]["macro_f1"]
    found = code == 0 and not result[0]["passed"] and result[-1]["passed"]
    share = failing_share(folder / "runs" / "store")
    hopeless, end = lines_of(
        str(RECIPE), "--runs", runs, "--set", 'gate.require=["macro_f1 >= 1.01"]', "--set", "search.trials=3"
    )
    table = len(end[-1]["facts"]["finetune"]["trials"]) == 3
    # Other dropout, so that nothing of the first search can be taken over.
    other = [
        str(RECIPE),
        "--runs",
        runs,
        "--set",
        "finetune.dropout=0.05",
        "--set",
        'gate.require=["macro_f1 >= 1.01"]',
    ]
    other += ["--set", "search.trials=5"]
    _, before = lines_of(*other, kill_at_trial=3)
    _, after = lines_of(*other)
    _, whole = lines_of(*other[:1], "--runs", str(folder / "undisturbed"), *other[3:])
    goes_on = tried(before)[:2] + tried(after) == tried(whole) and len(tried(after)) == 3
    measured = (
        f"trial {len(result)} passed after {len(result) - 1} that failed, macro-F1 {figures:.3f} on the test rows; "
        f"{share:.0%} of {RANDOM} random settings fail; hopeless gate: exit {hopeless} with its 3 trials; "
        f"killed in trial 3: trials 3 to 5 {'equal' if goes_on else 'NOT equal'} to the undisturbed ones"
    )
    return measured, bool(found and share >= LEAST_FAILING and hopeless == 5 and table and goes_on)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the runs here, and take those that are there already")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="treino-loop-") as temporary:
        measured, met = prove(chosen.folder or Path(temporary))
    print(measured)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

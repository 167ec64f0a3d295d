"""Which learning rate does continued pretraining want, as a share of a fresh model's? Old and new text after it, side by side.

    python benchmarks/continuing.py --data DIR --runs FOLDER [--shares 0.25 0.5 1] [--seeds 3] [--budget "150k tokens"]
    python benchmarks/continuing.py --table --runs FOLDER

A model of width 64 learns the embedded town (300k tokens); then it goes on with other text (DIR, a folder of texts) at every
share of the fresh model's rate. Loss in nats a token: on the new text's validation rows, and on the town's held-out documents
before and after. `--methods lora` does the same with an adapter at its own rate. What is done stands in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

FILE = "continuing.jsonl"
WIDTH = 64
TOWN, SMALL = "300k tokens", {"ngrams": False, "compressor": False, "bootstrap": 100}


def go_on(asked: argparse.Namespace, method: str, share: float, seed: int) -> dict[str, Any]:
    """Pretrain on the town (once a seed), go on with the other text, and say what became of both."""
    import treino
    from treino.pipeline.stages import pipeline_of
    from treino.recipe import pretraining_rate
    from treino.recipe.load import load_recipe

    first: dict[str, Any] = {
        "name": f"town {seed}",
        "seed": seed,
        "corpus": {"sources": ["world"]},
        "model": {"width": WIDTH},
        "pretrain": {"budget": TOWN, "precision": "float32"},
        "evaluate": SMALL,
    }
    base = treino.run(first, runs=asked.runs)
    rate = share * pretraining_rate(WIDTH) if method == "full" else 0.0
    pretrain = {"base": str(base.folder), "budget": asked.budget, "precision": "float32", "method": method}
    second = {
        "name": f"on {method} {share:g} {seed}",
        "seed": seed,
        "corpus": {"sources": [str(asked.data)]},
        "pretrain": pretrain | {"learning_rate": rate},
        "evaluate": SMALL,
    }
    loaded = load_recipe(second)
    stages = [stage for stage in pipeline_of(loaded.recipe) if stage.name not in ("evaluate", "report")]
    facts = treino.run(loaded, runs=asked.runs, pipeline=tuple(stages)).facts
    new = facts["pretrain"]
    return {
        "method": method,
        "share": share,
        "seed": seed,
        "new_before": new["first_validation_loss"],
        "new": new["last_validation_loss"],
        "old_before": facts["keep"]["before"],
        "old": facts["keep"]["after"],
    }


def table(folder: Path) -> None:
    rows = read(folder)
    print("| method | share of the fresh rate | seeds | new text, before | after | old text, before | after |")
    print("|---|---|---|---|---|---|---|")
    for key in sorted({(row["method"], row["share"]) for row in rows}):
        tried = [row for row in rows if (row["method"], row["share"]) == key]
        cells = []
        for name in ("new_before", "new", "old_before", "old"):
            values = [row[name] for row in tried]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        print(f"| {key[0]} | {key[1]:g} | {len(tried)} | " + " | ".join(cells) + " |")


def read(folder: Path) -> list[dict[str, Any]]:
    path = folder / FILE
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of other text")
    parser.add_argument("--runs", type=Path, required=True, help="folder for runs and results")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--methods", nargs="+", default=["full"], choices=("full", "lora", "qlora"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", default="150k tokens")
    parser.add_argument("--table", action="store_true", help="print what is there")
    asked = parser.parse_args()
    if asked.table:
        table(asked.runs)
        return
    if asked.data is None or not asked.data.is_dir():
        raise SystemExit("skipped: give --data, a folder of texts")
    asked.runs.mkdir(parents=True, exist_ok=True)
    done = {(row["method"], row["share"], row["seed"]) for row in read(asked.runs)}
    for seed in range(1, asked.seeds + 1):
        for method in asked.methods:
            for share in asked.shares if method == "full" else [1.0]:
                if (method, share, seed) in done:
                    continue
                row = go_on(asked, method, share, seed)
                with open(asked.runs / FILE, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

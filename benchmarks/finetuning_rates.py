"""Which learning rate does each way of fine-tuning want, at which width? Judged on validation rows alone.

    python benchmarks/finetuning_rates.py world 64 128 256 --runs FOLDER
    python benchmarks/finetuning_rates.py told-br 128 --data DIR --runs FOLDER --methods lora qlora --seeds 3
    python benchmarks/finetuning_rates.py --table --runs FOLDER

One body a width is pretrained on texts without labels. Then every rate of one grid is tried by every method, on the same
labelled rows for each seed; a training goes to its end, and its epoch of the lowest validation loss counts. What is done stands
as a line in FOLDER/rates.jsonl, so that it can be interrupted. `--table` prints, for each body and method, the mean over seeds
of the validation loss over that of the best rate, and the accuracy.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from few_labels import rows_of

RATES = (1e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3)
LABELS = {"world": 512, "told-br": 2048, "movie-polarity": 2048}
VALIDATION_LABELS = 512
EPOCHS = {"world": 8, "told-br": 3, "movie-polarity": 4}
BUDGET = {64: "1M tokens", 128: "1M tokens"}
WIDE_BUDGET = "500k tokens"
FILE = "rates.jsonl"


def body(name: str, width: int, data: Path | None, folder: Path) -> tuple[Path, Path]:
    """Pretrain once; the folders of the split rows and of the model."""
    import treino
    from treino.pipeline.stages import pipeline_of
    from treino.recipe.load import load_recipe

    source = "world"
    if name != "world":
        assert data is not None, "give --data"
        source = str(folder / f"{name}.jsonl")
        rows = [json.dumps({"text": text, "label": label}) for text, label in rows_of(name, data)]
        Path(source).write_text("\n".join(rows) + "\n", encoding="utf-8")
    recipe = {
        "name": f"{name} {width}",
        "corpus": {"sources": ["world" if name == "world" else "labels"]},
        "clean": {"minimum_characters": 1},
        "model": {"width": width},
        "pretrain": {"budget": BUDGET.get(width, WIDE_BUDGET)},
        "labels": {"source": source, "validation": 0.0},
    }
    loaded = load_recipe(recipe)
    stages = pipeline_of(loaded.recipe)
    end = [stage.name for stage in stages].index("pretrain") + 1
    split = next(stage for stage in stages if stage.name == "split")
    chosen = stages[:end] if split in stages[:end] else (*stages[:end], split)
    run = treino.run(loaded, runs=folder, pipeline=chosen)
    return run.artefacts["split"].folder, run.model_folder


def search(name: str, width: int, asked: argparse.Namespace) -> None:
    from treino.corpus.labelled.split import deal, limited, read_split
    from treino.pipeline.finetuning import Splits
    from treino.recipe import FinetuneSettings
    from treino.training.finetune import Examples, Finetuning
    from treino.training.trouble import NotFinite

    folder: Path = asked.runs
    split, model = body(name, width, asked.data, folder)
    splits = Splits(split)
    done = {(r["body"], r["width"], r["method"], r["rate"], r["seed"]) for r in read(folder)}
    for seed in range(1, asked.seeds + 1):
        tuning = None
        for method in asked.methods:
            for rate in asked.rates or RATES:
                if (name, width, method, rate, seed) in done:
                    continue
                if tuning is None:
                    rows = limited(read_split(split, "training"), LABELS[name] + VALIDATION_LABELS, seed)
                    held = VALIDATION_LABELS / (LABELS[name] + VALIDATION_LABELS)
                    parts = deal(rows, {"training": 1 - held, "validation": held}, seed)
                    examples = [
                        Examples([r.text for r in parts[part]], [splits.labels.index(r.label) for r in parts[part]])
                        for part in ("training", "validation")
                    ]
                    tuning = Finetuning(model, splits.labels, *examples, long_texts="cut", seed=seed)
                settings = FinetuneSettings(
                    method=method,
                    epochs=EPOCHS[name],
                    batch=16,
                    learning_rate=rate,
                    patience=EPOCHS[name] + 1,
                    class_weights=name == "told-br",
                )
                started = time.monotonic()
                with tempfile.TemporaryDirectory() as place:
                    try:
                        _, facts = tuning.run(settings, Path(place))
                        found = {"loss": facts["validation_loss"], "accuracy": facts["validation_accuracy"]}
                    except NotFinite:
                        found = {"loss": None, "accuracy": None}
                row: dict[str, Any] = {"body": name, "width": width, "method": method, "rate": rate, "seed": seed}
                row |= found | {"seconds": round(time.monotonic() - started, 2)}
                with open(folder / FILE, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def read(folder: Path) -> list[dict[str, Any]]:
    path = folder / FILE
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table(folder: Path) -> None:
    rows = read(folder)
    groups: dict[tuple, dict[float, list[dict]]] = collections.defaultdict(lambda: collections.defaultdict(list))
    for row in rows:
        groups[row["body"], row["width"], row["method"]][row["rate"]].append(row)
    rates = sorted({row["rate"] for row in rows})
    print("| body | width | method | seeds | " + " | ".join(f"{rate:g}" for rate in rates) + " |")
    print("|---|---|---|---|" + "---|" * len(rates))
    for (name, width, method), found in sorted(groups.items()):
        losses = {
            rate: statistics.mean(row["loss"] if row["loss"] is not None else 9.0 for row in tried)
            for rate, tried in found.items()
        }
        least, best = min(losses.values()), min(losses, key=lambda rate: losses[rate])
        seeds = min(len(tried) for tried in found.values())
        cells = []
        for rate in rates:
            if rate not in losses:
                cells.append("")
                continue
            accuracy = statistics.mean(row["accuracy"] or 0.0 for row in found[rate])
            text = f"{losses[rate] / least:.2f} ({accuracy:.3f})"
            cells.append(f"**{text}**" if rate == best else text)
        print(f"| {name} | {width} | {method} | {seeds} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("body", nargs="?", choices=("world", "told-br", "movie-polarity"))
    parser.add_argument("widths", nargs="*", type=int)
    parser.add_argument("--runs", type=Path, required=True, help="folder for bodies and results")
    parser.add_argument("--data", type=Path, help="folder that holds told-br and movie-polarity")
    parser.add_argument("--methods", nargs="+", default=["lora"])
    parser.add_argument("--rates", nargs="+", type=float)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="print what is there")
    asked = parser.parse_args()
    asked.runs.mkdir(parents=True, exist_ok=True)
    if asked.table:
        table(asked.runs)
        return
    for width in asked.widths:
        search(asked.body, width, asked)


if __name__ == "__main__":
    main()

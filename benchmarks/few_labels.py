"""Few labels: is fine-tuning a pretrained body better than the same network from scratch, and than TF-IDF?

    python benchmarks/few_labels.py world
    python benchmarks/few_labels.py world --architecture lstm
    python benchmarks/few_labels.py told-br --data DIR            DIR holds the folder `told-br`
    python benchmarks/few_labels.py movie-polarity --data DIR

One body is pretrained on texts without labels, never on those of the test rows. Then, for each of the paired draws (of labels
and of every other random choice): the drawn rows are cut into training and validation; `full` and `scratch` are trained for
equal steps with each learning rate of one grid, validation (lowest loss) picks the rate and the epoch; TF-IDF with logistic
regression is tuned on the same validation rows. All are judged on one fixed test split. The figure is the mean of the paired
differences with Student's 95 % interval. Draws run in parallel, one thread each.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import json
import math
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRID = (3e-4, 1e-3, 3e-3)
VALIDATION = 0.25
TOXIC_VOTES = 2
STUDENT = {9: 2.262, 19: 2.093}
"""Quantile 0.975 of Student's distribution by degrees of freedom."""


@dataclass(frozen=True)
class Question:
    """A data set: the number of labels, epochs of each fine-tuning, the recipe of the body, and whether classes of unequal
    size weigh the same (for all methods, TF-IDF too): where one class in five is rare, macro-F1 asks for it.
    """

    labels: int
    epochs: int
    recipe: dict[str, Any]
    balanced: bool = False


QUESTIONS = {
    "world": Question(64, 20, {"world": {"documents": 40000}, "pretrain": {"budget": "8M tokens"}}),
    "told-br": Question(
        256, 8, {"corpus": {"sources": ["labels"]}, "pretrain": {"budget": "10 epochs"}}, balanced=True
    ),
    "movie-polarity": Question(256, 8, {"corpus": {"sources": ["labels"]}, "pretrain": {"budget": "10 epochs"}}),
}


def rows_of(name: str, data: Path) -> Iterator[tuple[str, str]]:
    """(text, label) of a data set; a tweet is toxic if two annotators or more named the same kind."""
    if name == "told-br":
        with open(data / name / "ToLD-BR.csv", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                votes = [float(value or 0) for key, value in row.items() if key != "text"]
                yield row["text"], "toxic" if max(votes) >= TOXIC_VOTES else "other"
        return
    for ending, label in (("pos", "positive"), ("neg", "negative")):
        for line in (data / name / f"rt-polarity.{ending}").read_text(encoding="latin-1").splitlines():
            yield line, label


def body(name: str, architecture: str, data: Path | None, folder: Path) -> tuple[Path, Path]:
    """Pretrain once; the folders of the split rows and of the model."""
    import treino
    from treino.pipeline.stages import pipeline_of
    from treino.recipe.load import load_recipe

    question = QUESTIONS[name]
    source = "world"
    if name != "world":
        assert data is not None
        source = str(folder / f"{name}.jsonl")
        rows = [json.dumps({"text": text, "label": label}) for text, label in rows_of(name, data)]
        Path(source).write_text("\n".join(rows) + "\n", encoding="utf-8")
    recipe = question.recipe | {
        "name": f"{name}-{architecture}",
        "model": {"architecture": architecture},
        "clean": {"minimum_characters": 1},
        "evaluate": {"ngrams": False, "compressor": False},
        "labels": {"source": source, "validation": 0.0},
    }
    loaded = load_recipe(recipe)
    stages = pipeline_of(loaded.recipe)
    end = [stage.name for stage in stages].index("evaluate") + 1
    run = treino.run(loaded, runs=folder / "runs", pipeline=stages[:end])
    return run.artefacts["split"].folder, run.model_folder


def one_draw(split: Path, model: Path, question: Question, draw: int) -> dict[str, float]:
    """Macro-F1 on the test rows of each method for one draw of labels and seed."""
    from treino.corpus.labelled.split import deal, limited, read_split
    from treino.evaluation.baselines import fit_tfidf
    from treino.evaluation.measures import measure
    from treino.models.classifier import predict
    from treino.pipeline.finetuning import Splits
    from treino.recipe import FinetuneSettings
    from treino.training.finetune import Examples, Finetuning

    splits = Splits(split)
    chosen = limited(read_split(split, "training"), question.labels, draw)
    parts = deal(chosen, {"training": 1 - VALIDATION, "validation": VALIDATION}, draw)

    def examples(part: str) -> Examples:
        rows = parts[part]
        return Examples([row.text for row in rows], [splits.labels.index(row.label) for row in rows])

    training, validation, test = examples("training"), examples("validation"), splits.examples("test")
    tuning = Finetuning(model, splits.labels, training, validation, long_texts="cut", seed=draw)
    pieces = test.encode(tuning.tokenizer, tuning.body.longest_row, "cut")

    def macro_f1(chances: Any) -> float:
        return measure(test.targets, chances, splits.labels, resamples=2)["macro_f1"]["mean"]

    scores = {}
    for method in ("full", "scratch"):
        best: tuple[float, Any] = (math.inf, None)
        for rate in GRID:
            # As much patience as epochs: every fine-tuning runs to its end, and has the weights of its best epoch.
            settings = FinetuneSettings(
                method=method,
                epochs=question.epochs,
                batch=16,
                learning_rate=rate,
                patience=question.epochs + 1,
                class_weights=question.balanced,
            )
            with tempfile.TemporaryDirectory() as place:
                classifier, facts = tuning.run(settings, Path(place))
            if facts["validation_loss"] < best[0]:
                best = (facts["validation_loss"], classifier)
        scores[method] = macro_f1(predict(best[1], pieces))
    rows = training.texts, training.targets, validation.texts, validation.targets
    tfidf = fit_tfidf(*rows, len(splits.labels), balanced=question.balanced)
    return scores | {"tfidf": macro_f1(tfidf.predict(test.texts))}


def _alone(queue: Any) -> None:
    """A worker keeps to a processor of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {queue.get()})


def paired(differences: list[float]) -> dict[str, float]:
    """Mean of the differences with Student's 95 % interval."""
    mean = statistics.mean(differences)
    reach = STUDENT.get(len(differences) - 1, 1.96) * statistics.stdev(differences) / len(differences) ** 0.5
    return {"mean": mean, "low": mean - reach, "high": mean + reach}


def compare(name: str, architecture: str, data: Path | None, folder: Path, draws: int = 20) -> dict[str, Any]:
    """All draws; means of each method, and the paired differences of `full` to the others."""
    from treino import environment

    environment.prepare()
    question = QUESTIONS[name]
    split, model = body(name, architecture, data, folder)
    spawn = multiprocessing.get_context("spawn")
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    queue = spawn.Queue()
    for processor in processors:
        queue.put(processor)
    with concurrent.futures.ProcessPoolExecutor(len(processors), spawn, _alone, (queue,)) as pool:
        waiting = [pool.submit(one_draw, split, model, question, draw) for draw in range(draws)]
        scores = [future.result() for future in waiting]
    return {
        "data": name,
        "architecture": architecture,
        "labels": question.labels,
        "draws": draws,
        "macro_f1": {method: statistics.mean(row[method] for row in scores) for method in scores[0]},
        "full_minus_scratch": paired([row["full"] - row["scratch"] for row in scores]),
        "full_minus_tfidf": paired([row["full"] - row["tfidf"] for row in scores]),
        "scores": scores,
    }


def sentence(found: dict[str, Any]) -> str:
    """What came out, in a line."""
    means = ", ".join(f"{method} {value:.3f}" for method, value in found["macro_f1"].items())
    gains = "; ".join(
        f"full − {other} {row['mean']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        for other in ("scratch", "tfidf")
        for row in (found[f"full_minus_{other}"],)
    )
    return f"{found['labels']} labels, {found['draws']} draws, macro-F1: {means}; {gains}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=QUESTIONS)
    parser.add_argument("--architecture", choices=("transformer", "lstm"), default="transformer")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="keep the bodies here, and take those that are there already")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="treino-few-") as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = compare(chosen.name, chosen.architecture, chosen.data, folder, chosen.draws)
    print(json.dumps(found, indent=1))
    print(sentence(found))


if __name__ == "__main__":
    main()

"""Compare and finetune: the baselines of a classifier, and the loop that tries fine-tuning settings."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from treino import events, files
from treino.corpus.labelled.read import classes_of
from treino.corpus.labelled.split import LABELS, read_split
from treino.errors import RanAway
from treino.messages import N_
from treino.models.several import HALF, best_thresholds, named
from treino.pipeline.gate import judge_gate, smallest_margin
from treino.pipeline.search import WEIGHTS, WORST, search, space
from treino.pipeline.stage import Decisions, Work
from treino.pipeline.store import CHECKPOINTS
from treino.recipe import FinetuneSettings, Recipe

if TYPE_CHECKING:
    from treino.evaluation.baselines import Baseline
    from treino.models.classifier import Classifier
    from treino.training.finetune import Examples, Finetuning
    from treino.training.trouble import NotFinite

LABELLED, BASELINES, CLASSIFIER, MODEL, TOKENS = "labelled", "baselines", "classifier", "model", "tokens"
"""Kinds of artefact."""

QUANTISED = "base-nf4"
"""The base model in 4 bits while its layers are streamed; what a classifier needs of it has a name in its own folder, too."""

FINETUNING_DECISIONS = ("finetune.rows_at_once", "finetune.recompute", "finetune.seconds_per_token")
"""What is measured before a fine-tuning and then locked; the last one is for the forecast alone."""

BASELINES_FILE, TRIALS_FILE = "baselines.json", "records/trials.json"


class Splits:
    """The three parts of the labelled rows, with classes as numbers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        content = files.read_json(folder / LABELS)
        self.labels: list[str] = content["labels"]
        self.test_digest: str = content["test_digest"]
        self.several: bool = content.get("several", False)
        """Whether a text may have several classes or none."""

    def examples(self, name: str) -> Examples:
        """Texts and classes of "training", "validation" or "test"."""
        from treino.training.finetune import Examples

        rows = read_split(self.folder, name)
        return Examples([row.text for row in rows], [self._target(row.label) for row in rows])

    def _target(self, label: str) -> int | list[int]:
        if not self.several:
            return self.labels.index(label)
        classes = classes_of(label)
        return [int(name in classes) for name in self.labels]


def compare(work: Work) -> dict[str, Any]:
    """Fit the baselines on the training rows; write their measures on validation and their answers to the test rows."""
    recipe, splits = work.loaded.recipe, Splits(work.inputs[LABELLED])
    training, validation, test = (splits.examples(name) for name in ("training", "validation", "test"))
    fitted, chosen = _baselines(splits, training, validation, recipe.finetune.class_weights)
    held = {name: baseline.predict(validation.texts) for name, baseline in fitted.items() if validation.texts}
    thresholds = {name: _thresholds(recipe, splits, validation, chances) for name, chances in held.items()}
    measured = {
        name: measured_on(recipe, validation.targets, chances, splits.labels, thresholds[name])
        for name, chances in held.items()
    }
    answers = {name: baseline.predict(test.texts).tolist() for name, baseline in fitted.items() if test.texts}
    content = {"validation": measured, "test_answers": answers, "tfidf": chosen}
    content["validation_answers"] = {name: chances.tolist() for name, chances in held.items()}
    if splits.several:
        content["thresholds"] = {name: thresholds.get(name) or [HALF] * len(splits.labels) for name in fitted}
    files.write_json(work.output / BASELINES_FILE, content)
    return {"tfidf": chosen, "validation": {name: main_figures(row) for name, row in measured.items()}}


def _baselines(
    splits: Splits, training: Examples, validation: Examples, balanced: bool
) -> tuple[dict[str, Baseline], dict[str, Any]]:
    """The fitted baselines, and what was chosen for TF-IDF; they are treated as the classifier is."""
    from treino.evaluation.baselines import fit_majority, fit_tfidf
    from treino.evaluation.several import fit_one_against_rest, fit_shares

    if splits.several:
        learnt, held = np.array(training.targets), np.array(validation.targets)
        one = fit_one_against_rest(training.texts, learnt, validation.texts, held, balanced=balanced)
        return {"majority": fit_shares(learnt), "tfidf": one}, one.settings()
    classes = len(splits.labels)
    tfidf = fit_tfidf(
        training.texts, training.targets, validation.texts, validation.targets, classes, balanced=balanced
    )
    return {"majority": fit_majority(training.targets, classes), "tfidf": tfidf}, tfidf.settings()


def _thresholds(recipe: Recipe, splits: Splits, validation: Examples, chances: np.ndarray) -> list[float] | None:
    """Where texts may have several classes: the threshold of each, as the recipe has them chosen."""
    if not splits.several:
        return None
    if recipe.finetune.thresholds == "half":
        return [HALF] * len(splits.labels)
    return best_thresholds(np.array(validation.targets), chances)


def tuning_of(recipe: Recipe, inputs: Mapping[str, Path], output: Path) -> Finetuning:
    """The classes and texts of the split rows, and the base model that they are learnt by; `output`: for its 4-bit form."""
    from treino.training.finetune import Finetuning

    splits = Splits(inputs[LABELLED])
    training, validation, test = (splits.examples(name) for name in ("training", "validation", "test"))
    tuning = Finetuning(
        inputs[MODEL] / "model",
        splits.labels,
        training,
        validation,
        long_texts=recipe.finetune.long_texts,
        several=splits.several,
        seed=recipe.finetune.seed or recipe.seed,
        cleaning=recipe.clean.model_dump(mode="json"),
        old_text=inputs.get(TOKENS),
        stream=recipe.finetune.stream,
        quantised=output / QUANTISED,
    )
    # Before hours of training, not after them: a test text too long for the model, and no rule for it.
    test.encode(tuning.tokenizer, tuning.body.longest_row, recipe.finetune.long_texts)
    return tuning


def decide(work: Work) -> Decisions:
    """How the steps fit into memory, and how fast they are."""
    with tempfile.TemporaryDirectory(dir=work.runs, ignore_cleanup_errors=True) as place:
        tuning = tuning_of(work.loaded.recipe, work.inputs, Path(place))
        return tuning.decide(tuning.settled(work.loaded.recipe.finetune))


def finetune(work: Work) -> dict[str, Any]:
    """Fine-tune and judge on validation, with other settings until the gate is passed or the trials are spent."""
    recipe = work.loaded.recipe
    splits, tuning = Splits(work.inputs[LABELLED]), tuning_of(recipe, work.inputs, work.output)
    first = tuning.settled(recipe.finetune)
    space(
        first, recipe.search.vary
    )  # loads what the search needs, so that it counts as the process and not as the training
    tuning.foresee(first, work.decisions, work.output)
    trial = _Trial(recipe, splits.labels, tuning, files.read_json(work.inputs[BASELINES] / BASELINES_FILE))
    folder = work.output / "records" / "trials"
    rows, chosen = search(first, recipe.search.vary, recipe.search.trials, trial, folder, recipe.seed)
    best = chosen_of(rows, chosen, first.learning_rate)
    settle(work.output, chosen)
    files.remove_folder(work.output / QUANTISED)
    files.write_json(work.output / TRIALS_FILE, {"rows": rows, "chosen": chosen})
    return {
        "method": first.method,
        "settings": first.model_dump(mode="json") | best["tried"],
        "trials": [trial_line(row, main_figures(row["measures"])) for row in rows],
        "chosen": chosen,
        "passed_on_validation": best["passed"] if recipe.gate.require else None,
        "validation": main_figures(best["measures"]),
        "prepare_seconds": tuning.prepared,
        **best["facts"],
        **tuning.facts(),
    }


class _Trial:
    """One fine-tuning and its judgement on validation; `beside`: what `compare` wrote of the baselines."""

    def __init__(self, recipe: Recipe, labels: list[str], tuning: Finetuning, beside: Mapping[str, Any]) -> None:
        self.recipe, self.labels, self.tuning, self.beside = recipe, labels, tuning, beside

    def __call__(self, settings: FinetuneSettings, folder: Path) -> dict[str, Any]:
        from treino.training.trouble import NotFinite

        try:
            classifier, facts = self.tuning.run(settings, folder)
        except NotFinite as error:
            return ran_away(folder, error)
        if not self._has_validation:
            return {"value": -facts["last_loss"], "passed": True, "measures": None, "gate": [], "facts": facts}
        return self._judged(classifier, facts)

    @cached_property
    def _has_validation(self) -> bool:
        return len(self.tuning.validation) > 0

    def _judged(self, classifier: Classifier, facts: dict[str, Any]) -> dict[str, Any]:
        from treino.models.classifier import predict

        tuning = self.tuning
        rows = tuning.rows_looked_at
        truth, answers = tuning.validation.text_targets.tolist(), predict(classifier, tuning.validation, rows=rows)
        measures = measured_on(self.recipe, truth, answers, self.labels, classifier.thresholds)
        learnt = predict(classifier, tuning.training, rows=rows)
        judged = ~unanswered(learnt)
        if classifier.thresholds is None:
            right = learnt.argmax(1) == tuning.training.text_targets
        else:
            right = (named(learnt, classifier.thresholds) == tuning.training.text_targets).all(1)
        facts["training_accuracy"] = float(right[judged].mean())
        facts["validation_accuracy"] = measures["accuracy"]["mean"]
        rows = judge_gate(self.recipe.gate.require, measures, self._baselines(truth, unanswered(answers)))
        value = smallest_margin(rows) if rows else measures["macro_f1"]["mean"]
        passed = bool(rows) and all(row["passed"] for row in rows)
        return {"value": value, "passed": passed, "measures": measures, "gate": rows, "facts": facts}

    def _baselines(self, truth: list[Any], left_out: np.ndarray) -> Mapping[str, Mapping[str, Any]]:
        if not left_out.any():
            return self.beside["validation"]
        answers, thresholds = self.beside["validation_answers"], self.beside.get("thresholds", {})
        return measured_beside(self.recipe, truth, answers, left_out, self.labels, thresholds)


def unanswered(chances: np.ndarray) -> np.ndarray:
    """Which texts (texts, classes) have no answer, for they were dropped as too long."""
    return np.atleast_1d(np.isnan(chances).any(axis=1))


def measured_beside(
    recipe: Recipe,
    targets: Sequence[Any],
    answers: Mapping[str, Any],
    left_out: np.ndarray,
    labels: Sequence[str],
    thresholds: Mapping[str, Sequence[float]],
) -> dict[str, dict[str, Any]]:
    """The baselines' measures by their answers (texts, classes); texts that the classifier drops as too long judge nobody."""
    return {
        name: measured_on(
            recipe, targets, np.where(left_out[:, None], np.nan, np.array(rows)), labels, thresholds.get(name)
        )
        for name, rows in answers.items()
    }


def measured_on(
    recipe: Recipe,
    targets: Sequence[Any],
    chances: np.ndarray,
    labels: Sequence[str],
    thresholds: Sequence[float] | None = None,
) -> dict[str, Any]:
    """All measures, with the recipe's resamples and seed; with thresholds those of texts with several classes."""
    from treino.evaluation.measures import measure
    from treino.evaluation.several import measure_several

    resamples, seed = recipe.evaluate.bootstrap, recipe.seed
    if thresholds is None:
        return measure(targets, chances, labels, resamples=resamples, seed=seed)
    return measure_several(np.array(targets), chances, labels, thresholds, resamples=resamples, seed=seed)


def main_figures(measures: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The few figures of a judgement that a line can hold."""
    if not measures:
        return None
    return {
        "rows": measures["rows"],
        "accuracy": measures["accuracy"]["mean"],
        "macro_f1": measures["macro_f1"]["mean"],
        "log_loss": measures["log_loss"],
        "calibration_error": measures["calibration_error"],
    } | ({"micro_f1": measures["micro_f1"]["mean"]} if "micro_f1" in measures else {})


def trial_line(row: Mapping[str, Any], figures: Mapping[str, Any] | None) -> dict[str, Any]:
    """A trial as the run's facts keep it: what was tried, what came out, and how far each threshold was passed."""
    return {
        "tried": row["tried"],
        "value": row["value"],
        "passed": row["passed"],
        "gate": row["gate"],
        "seconds": row["facts"].get("train_seconds"),
        "figures": figures,
    }


def ran_away(folder: Path, error: NotFinite) -> dict[str, Any]:
    """The outcome of a trial whose loss ran away."""
    files.remove_folder(folder / CHECKPOINTS)
    events.emit("search.ran_away", reason=error.message)
    return {"value": WORST, "passed": False, "measures": None, "gate": [], "facts": {}}


def chosen_of(rows: Sequence[Mapping[str, Any]], chosen: int, rate: float) -> Mapping[str, Any]:
    """The chosen trial.

    Raises:
        RanAway: where no trial was trained to its end.
    """
    if not rows[chosen]["facts"]:
        raise RanAway(
            N_("the loss ran away in every trial ({count} tried)"),
            fix=N_("lower finetune.learning_rate (now {rate:6})"),
            count=len(rows),
            rate=rate,
        )
    return rows[chosen]


def settle(output: Path, chosen: int) -> None:
    """Put the chosen trial's model and records in their final places."""
    trial = output / "records" / "trials" / f"trial-{chosen:03d}"
    kept = [name for name in WEIGHTS if (trial / name).is_dir()]
    for name in kept:
        if not (output / name).is_dir():
            partial = output / f".{name}.partial"
            files.remove_folder(partial)
            shutil.copytree(trial / name, partial, copy_function=_link)
            files.publish_folder(partial, output / name)
    for record in (trial / "records").glob("*.json"):
        shutil.copyfile(record, output / "records" / record.name)
    for name in kept:
        files.remove_folder(trial / name)


def _link(source: str, target: str) -> None:
    files.link(Path(source), Path(target))

"""Single acts on a model that is there already: classes of the texts of a file, figures on data of one's own, and 4 bits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from treino import environment, files
from treino.errors import DataError, UsageError
from treino.messages import N_
from treino.pipeline.api import LoadedClassifier, LoadedModel, load, load_classifier, open_run
from treino.pipeline.run_folder import brought_model
from treino.recipe import CleanSettings, EvaluateSettings, LabelSettings, SourceSettings, WorldSettings

AT_ONCE, WRITTEN_AT_ONCE = 1024, 16
"""Texts of a file that are classified together, and texts that a model goes on with together."""


def predict_file(
    path: Path, column: str = "", run: str | Path | None = None, *, runs: str | Path | None = None
) -> Iterator[dict[str, Any]]:
    """{place, text, label, probability, probabilities} of each row of a table, or of each line of a text file.

    Rows without text are left out and told in a warning at the end.
    """
    classifier = load_classifier(run, runs=runs)
    for places, texts in _groups(path, column, AT_ONCE):
        for place, text, answer in zip(places, texts, classifier.predict(texts), strict=True):
            yield {"place": place, "text": text, **answer}


def generate_file(
    path: Path,
    column: str = "",
    run: str | Path | None = None,
    *,
    runs: str | Path | None = None,
    seed: int | None = None,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """{place, prompt, text} of each row of a table, or of each line of a text file, with the model's continuation: that
    which the prompt of row i (from 0) has alone with seed + i. Options as in `treino.models.generation.generate`.
    """
    from treino.models.generation import generate_batch

    model, done = load(run, runs=runs), 0
    for places, prompts in _groups(path, column, WRITTEN_AT_ONCE):
        own = None if seed is None else seed + done
        texts = generate_batch(model.model, model.tokenizer, prompts, seed=own, **options)
        for place, prompt, text in zip(places, prompts, texts, strict=True):
            yield {"place": place, "prompt": prompt, "text": text}
        done += len(prompts)


def _groups(path: Path, column: str, size: int) -> Iterator[tuple[list[str], list[str]]]:
    """Places and texts of a file's rows, so many at a time; rows without text are told in a warning at the end."""
    from treino.corpus.labelled.read import read_texts
    from treino.corpus.sources.raw import Problems

    problems = Problems()
    rows = read_texts(path, column, problems)
    while group := list(itertools.islice(rows, size)):
        yield [place for place, _ in group], [text for _, text in group]
    problems.tell()


def evaluate_data(
    path: Path,
    run: str | Path | None,
    labels: LabelSettings,
    *,
    runs: str | Path | None = None,
    language_model: bool = False,
) -> dict[str, Any]:
    """Figures of a model on a file: a classifier's measures on labelled rows, or a language model's loss on texts. A run
    is taken by its classifier, if it has one and `language_model` does not ask for the other.
    """
    environment.prepare()
    if not language_model and _has_classifier(run, runs):
        return evaluate_classifier(load_classifier(run, runs=runs), path, labels)
    return evaluate_model(load(run, runs=runs), path)


def _has_classifier(run: str | Path | None, runs: str | Path | None) -> bool:
    if run is not None and (folder := brought_model(run)):
        from treino.models.classifier_folder import is_classifier

        return is_classifier(folder)
    return open_run(run, runs=runs).classifier_folder is not None


def evaluate_classifier(classifier: LoadedClassifier, path: Path, labels: LabelSettings) -> dict[str, Any]:
    """All measures of a classifier on all labelled rows of a file (`treino.evaluation.measures.measure`). Of one for texts
    with several classes (`treino.evaluation.several.measure_several`), the file has a column of lists or, where no label is
    named, a column of numbers for each class.

    Raises:
        DataError: for a file without a usable row, or with a label that the classifier does not know.
    """
    from treino.corpus.labelled.read import classes_of, read_labelled
    from treino.corpus.sources.raw import Problems
    from treino.evaluation.measures import measure
    from treino.evaluation.several import measure_several

    problems, known, thresholds = Problems(), list(classifier.labels), classifier.model.thresholds
    if thresholds is not None and path.suffix.lower() in (".csv", ".tsv", ".parquet") and not labels.label:
        labels = labels.model_copy(update={"columns": tuple(known)})
    rows = list(read_labelled(path, labels, problems))
    problems.tell()
    if not rows:
        raise DataError(N_("{path} holds no labelled row that can be used"), path=str(path))
    truth = [classes_of(row.label) if thresholds is not None and row.several else [row.label] for row in rows]
    for row, classes in zip(rows, truth, strict=True):
        for name in classes:
            _check_known(name, known, row.place)
    answers = classifier.predict([row.text for row in rows])
    chances = np.array([[(answer["probabilities"] or {}).get(name, np.nan) for name in known] for answer in answers])
    if thresholds is None:
        found = measure([known.index(label) for (label,) in truth], chances, known)
    else:
        targets = np.array([[int(name in classes) for name in known] for classes in truth])
        found = measure_several(targets, chances, known, thresholds)
    if not found["rows"]:
        raise DataError(
            N_(
                "every text of {path} is longer than the context of {count} tokens, and the classifier drops such texts"
            ),
            fix=N_("give shorter texts"),
            path=str(path),
            count=classifier.model.body.longest_row,
        )
    return {"kind": "classifier"} | found


def _check_known(label: str, known: list[str], place: str) -> None:
    if label not in known:
        raise DataError(
            N_("the classifier does not know the label {label}"),
            where=place,
            fix=N_("its classes are: {labels}"),
            label=label,
            labels=", ".join(known),
        )


def evaluate_model(model: LoadedModel, path: Path) -> dict[str, Any]:
    """Loss (nats per token), perplexity and bits per byte of a language model on the documents of a file or folder."""
    from treino.corpus.clean import clean_text
    from treino.corpus.sources.raw import Problems
    from treino.corpus.sources.read import read_source
    from treino.evaluation.evaluate import figures_on

    problems = Problems()
    source = SourceSettings(path=str(path))
    raw = read_source(source, WorldSettings(), Path(), 1, problems)
    texts = [text for document in raw if (text := clean_text(document.text, CleanSettings())[0])]
    if not texts:
        raise DataError(N_("{path} holds no text that can be used"), path=str(path))
    problems.tell()
    return {"kind": "language model"} | figures_on(model.model, model.tokenizer, texts, EvaluateSettings())


def quantise_model(run: str | Path, folder: Path, *, runs: str | Path | None = None) -> dict[str, Any]:
    """Write the language model of a run, or of a folder, with its layers in NF4; returns the bytes of its weights `before` and
    `after`.

    Raises:
        UsageError: where the new folder has something in it already.
    """
    environment.prepare()
    from treino.models.folder import quantise_folder

    source = brought_model(run) or open_run(run, runs=runs).model_folder
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(N_("{path} is not empty"), fix=N_("name a folder that is not there yet"), path=str(folder))
    partial = folder.with_name(f".{folder.name}.partial")
    files.remove_folder(partial)
    quantise_folder(source, partial)
    files.remove_folder(folder)
    files.publish_folder(partial, folder)
    sizes = [sum(path.stat().st_size for path in each.glob("*.safetensors")) for each in (source, folder)]
    return {"folder": str(folder), "before": sizes[0], "after": sizes[1]}

"""The filter stage: language, quality, personal data and toxicity, in this order, each a step on record batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from treino import files
from treino.corpus.filters.language import Language
from treino.corpus.filters.linear import features, save_model, train
from treino.corpus.filters.personal_data import PersonalData
from treino.corpus.filters.quality import Quality
from treino.corpus.filters.toxicity import Toxicity, terms
from treino.corpus.filters.words import count_words
from treino.corpus.labelled.read import read_labelled
from treino.corpus.shards import Step, apply
from treino.corpus.sources.raw import Problems
from treino.errors import DataError, NothingLeft, UsageError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import FilterSettings

MODEL = "toxicity.json"
"""The linear model, beside the documents that it judged."""

TOXIC_LABELS = frozenset({"1", "true", "yes", "sim", "toxic", "tóxico", "tóxica", "toxico", "toxica"})
FEWEST_ROWS = 50
"""Rows of each kind that a linear model over words is trained from at least."""

_LANGUAGE = "pt"
"""Language whose terms the rows' features use."""


def row_digests(settings: FilterSettings, base: Path) -> dict[str, str]:
    """Digest of the file that the toxicity model is trained from."""
    if not settings.toxicity_rows:
        return {}
    path = base / settings.toxicity_rows
    return {settings.toxicity_rows: files.sha256_file(path) if path.is_file() else "missing"}


def filter_documents(settings: FilterSettings, documents: Path, output: Path, base: Path = Path()) -> dict[str, Any]:
    """Put both parts of a documents folder through the filters that the settings ask for; returns the stage's facts.

    Raises:
        UsageError: for a language that is not known.
        DataError: where nothing is left to train on, or the labelled rows cannot be used.
    """
    _check_languages(settings.languages)
    steps: list[Step] = [Language(settings.languages)]
    if settings.quality != "none":
        steps.append(Quality(settings.quality))
    if settings.personal_data != "keep":
        steps.append(PersonalData(settings.personal_data))
    learnt: dict[str, Any] = {}
    if settings.toxicity != "keep":
        model = ""
        if settings.toxicity_rows:
            files.make_private(output)
            model = str(output / MODEL)
            learnt = {"toxicity_model": train_model(base / settings.toxicity_rows, Path(model))}
        steps.append(Toxicity(settings.toxicity, model))
    facts = apply(steps, documents, output, "filter")
    if facts["documents_out"] == facts["held_out_documents"]:
        rules = facts["removed_by_rule"]
        raise NothingLeft(
            N_("no text is left after filtering: {count} documents were removed, most by the rule {rule}"),
            fix=N_("loosen [filter]: languages, quality, personal_data or toxicity"),
            count=facts["documents_in"],
            rule=max(rules, key=lambda name: rules[name], default="-"),
        )
    return facts | learnt


def train_model(rows: Path, output: Path) -> dict[str, Any]:
    """Train the linear model from a table of texts and labels (1 for toxic, 0 for not) and write it."""
    from treino.recipe import LabelSettings

    problems = Problems()
    texts, toxic = [], []
    for row in read_labelled(rows, LabelSettings(), problems):
        words = count_words(row.text.lower()).words
        texts.append(features(words, terms(_LANGUAGE).weight(words)))
        toxic.append(row.label.lower() in TOXIC_LABELS)
    problems.tell()
    if min(sum(toxic), len(toxic) - sum(toxic)) < FEWEST_ROWS:
        raise DataError(
            N_("{path} has {toxic} toxic rows and {others} others: each must be {fewest} at least"),
            fix=N_("label rows with 1 for toxic and 0 for not"),
            path=rows.name,
            toxic=sum(toxic),
            others=len(toxic) - sum(toxic),
            fewest=FEWEST_ROWS,
        )
    model, reached = train(texts, toxic)
    save_model(model, output)
    return reached


def _check_languages(languages: tuple[str, ...]) -> None:
    if not languages:
        return
    from treino.corpus.filters.identify import known_languages

    for language in languages:
        if language not in known_languages():
            raise UsageError(
                N_("filter.languages names {language}, which cannot be told"),
                fix=N_("known are {languages}"),
                language=language,
                languages=", ".join(known_languages()),
            )

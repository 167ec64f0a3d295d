"""The first stages: collect → clean → filter → deduplicate → decontaminate → order, from anything to documents worth learning.

Where the difficulty of the order is a model's loss, score stands before it; where there are labelled texts, split before all.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from treino.pipeline.stage import Pipeline, Stage, Work
from treino.recipe import Recipe, Settings, parse_condition
from treino.recipe.load import LoadedRecipe

DOCUMENTS, TRUTH, LABELLED, SCORES, ORDER = "documents", "truth", "labelled", "scores", "order"
CONTAMINATION = "contamination"
SHARDS = "records/shards/*.json"
"""What makes a partial output worth keeping: the accounts of finished shards (`treino.corpus.shards.RESUMES`)."""
GATHERED = "records/*/*"
"""The same, and what web sites answered."""
DECIDED = "records/**/*.json"
"""The same, and what was found before the first shard."""

NAMING = ("upsampling", "most_repeats", "difficulty")
"""Settings of the order that are applied when it is made; the others are the training's."""


def dump(settings: Settings, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """Settings as JSON-able values."""
    return settings.model_dump(mode="json", exclude=set(leave_out))


def pacing(recipe: Recipe) -> dict[str, Any]:
    """What the training must know of a curriculum; nothing where there is none."""
    return dump(recipe.order, leave_out=(*NAMING, "model")) if recipe.order.difficulty != "none" else {}


def _collect_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    uses_world = any(source.path == "world" for source in recipe.corpus.sources)
    return {"corpus": dump(recipe.corpus)} | ({"world": dump(recipe.world)} if uses_world else {})


def _collect_reads(loaded: LoadedRecipe) -> Any:
    from treino.corpus.collect import source_digests

    if loaded.recipe.order.model:  # a model that is not there is told before hours of work on the documents
        from treino.pipeline.adopt import model_at

        model_at(loaded, "order.model", loaded.recipe.order.model)
    return source_digests(loaded.recipe.corpus, loaded.base)


def _collect(work: Work) -> dict[str, Any]:
    from treino.corpus.collect import collect

    recipe = work.loaded.recipe
    labelled = work.inputs.get(LABELLED)
    return collect(recipe.corpus, recipe.world, work.output, recipe.seed, work.loaded.base, labelled)


def _clean(work: Work) -> dict[str, Any]:
    from treino.corpus.clean import clean

    return clean(work.loaded.recipe.clean, work.inputs[DOCUMENTS], work.output)


def _filter_reads(loaded: LoadedRecipe) -> Any:
    from treino.corpus.filters.filter import row_digests

    return row_digests(loaded.recipe.filter, loaded.base)


def _filter(work: Work) -> dict[str, Any]:
    from treino.corpus.filters.filter import filter_documents

    return filter_documents(work.loaded.recipe.filter, work.inputs[DOCUMENTS], work.output, work.loaded.base)


def _deduplicate(work: Work) -> dict[str, Any]:
    from treino.corpus.deduplicate.deduplicate import deduplicate

    return deduplicate(work.loaded.recipe.deduplicate, work.inputs[DOCUMENTS], work.output)


def _decontaminate_reads(loaded: LoadedRecipe) -> Any:
    from treino.corpus.decontaminate.decontaminate import file_digests

    return file_digests(loaded.recipe.decontaminate, loaded.base)


def _decontaminate(work: Work) -> dict[str, Any]:
    from treino.corpus.decontaminate.decontaminate import decontaminate

    return decontaminate(
        work.loaded.recipe.decontaminate,
        work.inputs[DOCUMENTS],
        work.output,
        truth=truth_of(work),
        labelled=work.inputs.get(LABELLED),
        base=work.loaded.base,
    )


def truth_of(work: Work) -> Path | None:
    """The folder of what is true in the embedded town, where the documents come from it."""
    truth = work.inputs[TRUTH] / "truth"
    return truth if truth.is_dir() else None


def _score_reads(loaded: LoadedRecipe) -> Any:
    from treino.pipeline.adopt import model_at, model_digests

    return model_digests(model_at(loaded, "order.model", loaded.recipe.order.model))


def _score(work: Work) -> dict[str, Any]:
    from treino.evaluation.scores import score
    from treino.pipeline.adopt import model_at

    model = model_at(work.loaded, "order.model", work.loaded.recipe.order.model)
    return score(model, work.inputs[DOCUMENTS], work.output)


def _order_settings(loaded: LoadedRecipe, language: str) -> Any:
    return {name: value for name, value in dump(loaded.recipe.order).items() if name in NAMING}


def _order(work: Work) -> dict[str, Any]:
    from treino.corpus.order.order import order

    return order(work.loaded.recipe.order, work.inputs[DOCUMENTS], work.output, work.inputs.get(SCORES))


def _split_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    uses_world = recipe.labels.source == "world"
    asked = sorted({parse_condition(text).label for text in recipe.gate.require} - {""})
    settings = {"labels": dump(recipe.labels), "clean": dump(recipe.clean), "gate": {"classes": asked}}
    return settings | ({"world": dump(recipe.world)} if uses_world else {})


def _split_reads(loaded: LoadedRecipe) -> Any:
    from treino.corpus.labelled.split import label_digests

    return label_digests(loaded.recipe.labels, loaded.base)


def _split(work: Work) -> dict[str, Any]:
    from treino.corpus.labelled.split import split
    from treino.pipeline.gate import check_labels

    recipe = work.loaded.recipe
    facts = split(recipe.labels, recipe.clean, recipe.world, work.loaded.base, recipe.seed, work.output)
    check_labels(recipe.gate.require, facts["labels"])
    return facts


SPLITTING: Pipeline = (Stage("split", 2, (), (LABELLED,), _split_settings, _split, reads=_split_reads),)
CORPUS: Pipeline = (
    Stage("collect", 6, (), (DOCUMENTS, TRUTH), _collect_settings, _collect, reads=_collect_reads, resumes=GATHERED),
    Stage("clean", 5, (DOCUMENTS,), (DOCUMENTS,), lambda loaded, _: dump(loaded.recipe.clean), _clean, resumes=SHARDS),
    Stage(
        "filter",
        1,
        (DOCUMENTS,),
        (DOCUMENTS,),
        lambda loaded, _: dump(loaded.recipe.filter),
        _filter,
        reads=_filter_reads,
        resumes=SHARDS,
    ),
    Stage(
        "deduplicate",
        4,
        (DOCUMENTS,),
        (DOCUMENTS,),
        lambda loaded, _: dump(loaded.recipe.deduplicate),
        _deduplicate,
        resumes=DECIDED,
    ),
    Stage(
        "decontaminate",
        1,
        (DOCUMENTS, TRUTH),
        (DOCUMENTS, CONTAMINATION),
        lambda loaded, _: dump(loaded.recipe.decontaminate),
        _decontaminate,
        reads=_decontaminate_reads,
        resumes=SHARDS,
    ),
    Stage("order", 1, (DOCUMENTS,), (ORDER,), _order_settings, _order),
)
SCORING: Pipeline = (Stage("score", 1, (DOCUMENTS,), (SCORES,), lambda loaded, _: None, _score, reads=_score_reads),)


def corpus_of(recipe: Recipe) -> Pipeline:
    """The stages that make a recipe's documents. Labelled texts are split first: what is cheap and may be wrong comes first."""
    more: dict[str, str] = {"decontaminate": LABELLED} if recipe.labels.given else {}
    if any(source.path == "labels" for source in recipe.corpus.sources):
        more["collect"] = LABELLED
    stages = CORPUS
    if recipe.order.difficulty == "loss":
        more["order"] = SCORES
        stages = (*CORPUS[:-1], *SCORING, CORPUS[-1])
    asked = (
        replace(stage, consumes=(*stage.consumes, more[stage.name])) if stage.name in more else stage
        for stage in stages
    )
    return (*(SPLITTING if recipe.labels.given else ()), *asked)

"""The pipeline: collect → clean → filter → deduplicate → tokenise → pretrain → evaluate (or adopt: a model brought along);
before it, where there are labelled texts, split, and after it compare → finetune → judge; at the end report.

Each stage here says what it reads, which settings count, and which room does the work; rooms are imported when they work.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from treino.pipeline.stage import Decisions, Pipeline, Stage, Work
from treino.recipe import Recipe, Settings, parse_condition
from treino.recipe.load import LoadedRecipe

DOCUMENTS, TRUTH, TOKENS, MODEL, EVALUATION, REPORT = "documents", "truth", "tokens", "model", "evaluation", "report"
LABELLED, BASELINES, CLASSIFIER, JUDGEMENT = "labelled", "baselines", "classifier", "judgement"
SHARDS = "records/shards/*.json"
"""What makes a partial output worth keeping: the accounts of finished shards (`treino.corpus.shards.RESUMES`)."""


def _dump(settings: Settings, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude=set(leave_out))


def _collect_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    uses_world = any(source.path == "world" for source in recipe.corpus.sources)
    return {"corpus": _dump(recipe.corpus)} | ({"world": _dump(recipe.world)} if uses_world else {})


def _collect_reads(loaded: LoadedRecipe) -> Any:
    from treino.corpus.collect import source_digests

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
    from treino.corpus.deduplicate import deduplicate

    return deduplicate(work.loaded.recipe.deduplicate, work.inputs[DOCUMENTS], work.output)


def _tokenise(work: Work) -> dict[str, Any]:
    from treino.tokens.tokenise import tokenise

    recipe = work.loaded.recipe
    return tokenise(recipe.tokens, work.inputs[DOCUMENTS], work.output, recipe.seed)


def _order(work: Work) -> Any:
    from treino.training.order import Order

    recipe, tokens = work.loaded.recipe, str(work.inputs[TOKENS].absolute())
    decisions, output = dict(work.decisions), str(work.output.absolute())
    return Order(_dump(recipe.pretrain), _dump(recipe.model), tokens, output, decisions, recipe.seed)


def _decide(work: Work) -> Decisions:
    from treino.training.ranks import Ranks

    one = Ranks(size=work.place.ranks, local_size=work.place.ranks, threads=work.place.threads)
    return _order(work).pretraining(one).decide()


def _pretrain(work: Work) -> dict[str, Any]:
    return work.place.carry_out(_order(work))


def _evaluate(work: Work) -> dict[str, Any]:
    from treino.evaluation.evaluate import evaluate

    truth = work.inputs[TRUTH] / "truth"
    return evaluate(
        work.loaded.recipe.evaluate,
        work.inputs[MODEL] / "model",
        work.inputs[TOKENS],
        work.inputs[DOCUMENTS],
        truth if truth.is_dir() else None,
        work.output,
        work.loaded.recipe.seed,
    )


def _adopt(work: Work) -> dict[str, Any]:
    from treino.pipeline.adopt import adopt

    return adopt(work)


def _adopt_reads(loaded: LoadedRecipe) -> Any:
    from treino.pipeline.adopt import base_digests

    return base_digests(loaded)


def _split_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    uses_world = recipe.labels.source == "world"
    asked = sorted({parse_condition(text).label for text in recipe.gate.require} - {""})
    settings = {"labels": _dump(recipe.labels), "clean": _dump(recipe.clean), "gate": {"classes": asked}}
    return settings | ({"world": _dump(recipe.world)} if uses_world else {})


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


def _compare_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    return {"bootstrap": recipe.evaluate.bootstrap, "class_weights": recipe.finetune.class_weights}


def _compare(work: Work) -> dict[str, Any]:
    from treino.pipeline.finetuning import compare

    return compare(work)


def _finetune_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    return {
        "finetune": _dump(recipe.finetune, leave_out=("base", "checkpoint_seconds")),
        "search": _dump(recipe.search),
        "gate": _dump(recipe.gate),
        "clean": _dump(recipe.clean),
        "bootstrap": recipe.evaluate.bootstrap,
    }


def _finetune(work: Work) -> dict[str, Any]:
    from treino.pipeline.finetuning import finetune

    return finetune(work)


def _judge_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    settings = {"gate": _dump(recipe.gate), "bootstrap": recipe.evaluate.bootstrap}
    return settings | {"long_texts": recipe.finetune.long_texts, "method": recipe.finetune.method}


def _judge(work: Work) -> dict[str, Any]:
    from treino.pipeline.judge import judge

    return judge(work)


def _report(work: Work) -> dict[str, Any]:
    from treino import files
    from treino.pipeline.facts import gather_facts
    from treino.report.card import model_card
    from treino.report.classifier_card import classifier_card
    from treino.report.write import write_report

    facts = gather_facts(work)
    files.write_text(work.output / "card.md", model_card(facts, work.language))
    files.write_text(work.output / "classifier.md", classifier_card(facts, work.language))
    return write_report(facts, work.output, work.language)


def _report_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    return _dump(recipe.report) | {"language": language, "name": recipe.name, "recipe": _dump(recipe)}


PRETRAINING: Pipeline = (
    Stage("collect", 4, (), (DOCUMENTS, TRUTH), _collect_settings, _collect, reads=_collect_reads),
    Stage("clean", 5, (DOCUMENTS,), (DOCUMENTS,), lambda loaded, _: _dump(loaded.recipe.clean), _clean, resumes=SHARDS),
    Stage(
        "filter",
        1,
        (DOCUMENTS,),
        (DOCUMENTS,),
        lambda loaded, _: _dump(loaded.recipe.filter),
        _filter,
        reads=_filter_reads,
        resumes=SHARDS,
    ),
    Stage(
        "deduplicate", 3, (DOCUMENTS,), (DOCUMENTS,), lambda loaded, _: _dump(loaded.recipe.deduplicate), _deduplicate
    ),
    Stage("tokenise", 2, (DOCUMENTS,), (TOKENS,), lambda loaded, _: _dump(loaded.recipe.tokens), _tokenise),
    Stage(
        "pretrain",
        2,
        (TOKENS,),
        (MODEL,),
        lambda loaded, _: {
            "model": _dump(loaded.recipe.model),
            "pretrain": _dump(loaded.recipe.pretrain, leave_out=("checkpoint_seconds", "shard")),
        },
        _pretrain,
        decide=_decide,
        decides=("pretrain.precision", "pretrain.compile", "pretrain.steps", "pretrain.tokens_per_second"),
        informs=("pretrain.tokens_per_second",),
        resumes="checkpoints/step-*",
    ),
    Stage(
        "evaluate",
        2,
        (MODEL, TOKENS, DOCUMENTS, TRUTH),
        (EVALUATION,),
        lambda loaded, _: _dump(loaded.recipe.evaluate),
        _evaluate,
    ),
)
ADOPTING: Pipeline = (Stage("adopt", 1, (), (MODEL,), lambda loaded, _: None, _adopt, reads=_adopt_reads),)


SPLITTING: Pipeline = (Stage("split", 2, (), (LABELLED,), _split_settings, _split, reads=_split_reads),)


def _finetuning(before: tuple[str, ...]) -> Pipeline:
    """The second half; `before`: the kinds that the judge finds besides its own (no tokens, no forgetting to measure)."""
    return (
        Stage("compare", 1, (LABELLED,), (BASELINES,), _compare_settings, _compare),
        Stage(
            "finetune",
            2,
            (MODEL, LABELLED, BASELINES),
            (CLASSIFIER,),
            _finetune_settings,
            _finetune,
            resumes="records/trials/*",
        ),
        Stage(
            "judge",
            1,
            (MODEL, *before, LABELLED, BASELINES, CLASSIFIER),
            (JUDGEMENT,),
            _judge_settings,
            _judge,
        ),
    )


def _reporting(*kinds: str) -> Pipeline:
    return (Stage("report", 3, kinds, (REPORT,), _report_settings, _report),)


STANDARD: Pipeline = PRETRAINING + _reporting(DOCUMENTS, TOKENS, MODEL, EVALUATION)
"""What a recipe without labelled texts asks for."""


def pipeline_of(recipe: Recipe) -> Pipeline:
    """The stages that a recipe asks for."""
    if not recipe.labels.given:
        return STANDARD
    second = (LABELLED, BASELINES, CLASSIFIER, JUDGEMENT)
    # What is cheap and may be wrong comes first: a mistake in the table is told before anything is trained.
    if recipe.finetune.base:
        return SPLITTING + ADOPTING + _finetuning(()) + _reporting(MODEL, *second)
    collecting, *others = PRETRAINING
    if any(source.path == "labels" for source in recipe.corpus.sources):
        collecting = replace(collecting, consumes=(LABELLED,))
    whole = (*SPLITTING, collecting, *others)
    return whole + _finetuning((TOKENS,)) + _reporting(DOCUMENTS, TOKENS, MODEL, EVALUATION, *second)

"""The pipeline: collect → clean → deduplicate → tokenise → pretrain → evaluate → report.

Each stage here says what it reads, which settings count, and which room does the work; rooms are imported when they work.
"""

from __future__ import annotations

from typing import Any

from treino.pipeline.stage import Decisions, Pipeline, Stage, Work
from treino.recipe import Settings
from treino.recipe.load import LoadedRecipe

DOCUMENTS, TRUTH, TOKENS, MODEL, EVALUATION, REPORT = "documents", "truth", "tokens", "model", "evaluation", "report"


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
    return collect(recipe.corpus, recipe.world, work.output, recipe.seed, work.loaded.base)


def _clean(work: Work) -> dict[str, Any]:
    from treino.corpus.clean import clean

    return clean(work.loaded.recipe.clean, work.inputs[DOCUMENTS], work.output)


def _deduplicate(work: Work) -> dict[str, Any]:
    from treino.corpus.deduplicate import deduplicate

    return deduplicate(work.loaded.recipe.deduplicate, work.inputs[DOCUMENTS], work.output)


def _tokenise(work: Work) -> dict[str, Any]:
    from treino.tokens.tokenise import tokenise

    recipe = work.loaded.recipe
    return tokenise(recipe.tokens, work.inputs[DOCUMENTS], work.output, recipe.seed)


def _pretraining(work: Work) -> Any:
    from treino.training.pretrain import Pretraining

    recipe = work.loaded.recipe
    return Pretraining(recipe.pretrain, recipe.model, work.inputs[TOKENS], recipe.seed)


def _decide(work: Work) -> Decisions:
    return _pretraining(work).decide()


def _pretrain(work: Work) -> dict[str, Any]:
    return _pretraining(work).run(dict(work.decisions), work.output)


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


def _report(work: Work) -> dict[str, Any]:
    from treino import files
    from treino.pipeline.facts import gather_facts
    from treino.report.card import model_card
    from treino.report.write import write_report

    facts = gather_facts(work)
    files.write_text(work.output / "card.md", model_card(facts, work.language))
    return write_report(facts, work.output, work.language)


def _report_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    return _dump(recipe.report) | {"language": language, "name": recipe.name, "recipe": _dump(recipe)}


STANDARD: Pipeline = (
    Stage("collect", 2, (), (DOCUMENTS, TRUTH), _collect_settings, _collect, reads=_collect_reads),
    Stage("clean", 3, (DOCUMENTS,), (DOCUMENTS,), lambda loaded, _: _dump(loaded.recipe.clean), _clean),
    Stage(
        "deduplicate", 2, (DOCUMENTS,), (DOCUMENTS,), lambda loaded, _: _dump(loaded.recipe.deduplicate), _deduplicate
    ),
    Stage("tokenise", 2, (DOCUMENTS,), (TOKENS,), lambda loaded, _: _dump(loaded.recipe.tokens), _tokenise),
    Stage(
        "pretrain",
        1,
        (TOKENS,),
        (MODEL,),
        lambda loaded, _: {
            "model": _dump(loaded.recipe.model),
            "pretrain": _dump(loaded.recipe.pretrain, leave_out=("checkpoint_seconds",)),
        },
        _pretrain,
        decide=_decide,
        decides=("pretrain.precision", "pretrain.steps", "pretrain.tokens_per_second"),
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
    Stage("report", 2, (DOCUMENTS, TOKENS, MODEL, EVALUATION), (REPORT,), _report_settings, _report),
)

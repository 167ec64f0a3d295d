"""The pipeline: the corpus (`corpus_stages`) → tokenise → pretrain → evaluate (or adopt: a model brought along); after it,
where there are labelled texts, compare → finetune → judge, or where there are conversations, gather → chat; at the end report.

Each stage here says what it reads, which settings count, and which room does the work; rooms are imported when they work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from treino.pipeline.continuing import BASE, continued
from treino.pipeline.corpus_stages import (
    CONTAMINATION,
    DOCUMENTS,
    LABELLED,
    ORDER,
    SPLITTING,
    TRUTH,
    corpus_of,
    dump,
    pacing,
    truth_of,
)
from treino.pipeline.finetuning import FINETUNING_DECISIONS
from treino.pipeline.stage import Decisions, Pipeline, Stage, Work
from treino.recipe import PROMPT, Recipe
from treino.recipe.load import LoadedRecipe

TOKENS, MODEL, EVALUATION, REPORT = "tokens", "model", "evaluation", "report"
BASELINES, CLASSIFIER, JUDGEMENT = "baselines", "classifier", "judgement"
CONVERSATIONS, ASSISTANT = "conversations", "assistant"


def _tokenise(work: Work) -> dict[str, Any]:
    from treino.tokens.tokenise import tokenise

    recipe = work.loaded.recipe
    base = _base_model(work)
    return tokenise(recipe.tokens, work.inputs[DOCUMENTS], work.output, recipe.seed, work.inputs[ORDER], base)


def _base_model(work: Work) -> Path | None:
    """The model that a pretraining goes on from, if it does."""
    return work.inputs[BASE] / "model" if BASE in work.inputs else None


def _training(work: Work) -> Any:
    from treino.training.order import Order

    recipe, tokens = work.loaded.recipe, str(work.inputs[TOKENS].absolute())
    decisions, output = dict(work.decisions), str(work.output.absolute())
    settings, shape = dump(recipe.pretrain), dump(recipe.model)
    base = _base_model(work)
    place = str(base.absolute()) if base else ""
    return Order(settings, shape, tokens, output, decisions, recipe.seed, curriculum=pacing(recipe), base=place)


def _decide(work: Work) -> Decisions:
    from treino.training.ranks import Ranks

    one = Ranks(size=work.place.ranks, local_size=work.place.ranks, threads=work.place.threads)
    return _training(work).pretraining(one).decide()


def _pretrain(work: Work) -> dict[str, Any]:
    return work.place.carry_out(_training(work))


def _evaluate(work: Work) -> dict[str, Any]:
    from treino.evaluation.evaluate import evaluate

    return evaluate(
        work.loaded.recipe.evaluate,
        work.inputs[MODEL] / "model",
        work.inputs[TOKENS],
        work.inputs[DOCUMENTS],
        truth_of(work),
        work.output,
        work.loaded.recipe.seed,
        work.inputs[CONTAMINATION],
    )


def _adopt(work: Work) -> dict[str, Any]:
    from treino.pipeline.adopt import adopt

    return adopt(work)


def _adopt_reads(loaded: LoadedRecipe) -> Any:
    from treino.pipeline.adopt import base_digests

    return base_digests(loaded)


def _compare_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    settings = {"bootstrap": recipe.evaluate.bootstrap, "class_weights": recipe.finetune.class_weights}
    # Where it is at its default it leaves the keys of earlier runs as they are.
    return settings | ({"thresholds": recipe.finetune.thresholds} if recipe.finetune.thresholds != "half" else {})


def _compare(work: Work) -> dict[str, Any]:
    from treino.pipeline.finetuning import compare

    return compare(work)


def _finetune_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    return {
        "finetune": dump(recipe.finetune, leave_out=("base", "checkpoint_seconds")),
        "search": dump(recipe.search),
        "gate": dump(recipe.gate),
        "clean": dump(recipe.clean),
        "bootstrap": recipe.evaluate.bootstrap,
    }


def _decide_finetuning(work: Work) -> Decisions:
    from treino.pipeline.finetuning import decide

    return decide(work)


def _finetune(work: Work) -> dict[str, Any]:
    from treino.pipeline.finetuning import finetune

    return finetune(work)


def _prompt_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    return {"finetune": {"method": recipe.finetune.method}, **_remote_settings(loaded)} | {
        "gate": dump(recipe.gate),
        "bootstrap": recipe.evaluate.bootstrap,
    }


def _remote_settings(loaded: LoadedRecipe) -> Any:
    """What of [remote] decides the answers; the rest is permission, money and patience."""
    return {"remote": dump(loaded.recipe.remote, leave_out=("allow", "limit", "price", "at_once", "timeout"))}


def _prompt(work: Work) -> dict[str, Any]:
    from treino.pipeline.prompting import prompt

    return prompt(work)


def _judge_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    settings = {"gate": dump(recipe.gate), "bootstrap": recipe.evaluate.bootstrap}
    settings |= {"long_texts": recipe.finetune.long_texts, "method": recipe.finetune.method}
    return settings | (_remote_settings(loaded) if recipe.finetune.method == PROMPT else {})


def _judge(work: Work) -> dict[str, Any]:
    from treino.pipeline.judge import judge

    return judge(work)


def _gather_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    return {"chat": dump(recipe.chat)} | ({"world": dump(recipe.world)} if recipe.chat.source == "world" else {})


def _gather_reads(loaded: LoadedRecipe) -> Any:
    from treino.corpus.conversations.gather import conversation_digests

    return conversation_digests(loaded.recipe.chat, loaded.base)


def _gather(work: Work) -> dict[str, Any]:
    from treino.pipeline.chatting import gather

    return gather(work)


def _chat_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    settings = dump(recipe.finetune, leave_out=("base", "checkpoint_seconds"))
    return {"finetune": settings, "examples": recipe.report.examples} | {
        "search": dump(recipe.search),
        "gate": dump(recipe.gate),
    }


def _decide_chat(work: Work) -> Decisions:
    from treino.pipeline.chatting import decide

    return decide(work)


def _chat(work: Work) -> dict[str, Any]:
    from treino.pipeline.chatting import chat

    return chat(work)


def _report(work: Work) -> dict[str, Any]:
    from treino import files
    from treino.pipeline.facts import gather_facts
    from treino.report.card import model_card
    from treino.report.chat_card import chat_card
    from treino.report.classifier_card import classifier_card
    from treino.report.data_card import data_card
    from treino.report.write import write_report

    facts = gather_facts(work)
    files.write_text(work.output / "card.md", model_card(facts, work.language))
    files.write_text(work.output / "classifier.md", classifier_card(facts, work.language))
    files.write_text(work.output / "chat.md", chat_card(facts, work.language))
    if facts["corpus"]:
        files.write_text(work.output / "data.md", data_card(facts["corpus"], work.language))
    return write_report(facts, work.output, work.language)


def _report_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    return dump(recipe.report) | {"language": language, "name": recipe.name, "recipe": dump(recipe)}


def _pretrain_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    # What says nothing leaves the keys of earlier runs as they are.
    unused = ("method", "lora_rank") if recipe.pretrain.method == "full" else ()
    settings = {
        "model": dump(recipe.model),
        "pretrain": dump(recipe.pretrain, leave_out=("base", "checkpoint_seconds", "shard", *unused)),
    }
    curriculum = pacing(recipe)
    return settings | ({"order": curriculum} if curriculum else {})


PRETRAINING: Pipeline = (
    Stage("tokenise", 2, (DOCUMENTS, ORDER), (TOKENS,), lambda loaded, _: dump(loaded.recipe.tokens), _tokenise),
    Stage(
        "pretrain",
        3,
        (TOKENS,),
        (MODEL,),
        _pretrain_settings,
        _pretrain,
        decide=_decide,
        decides=(
            "pretrain.device",
            "pretrain.precision",
            "pretrain.compile",
            "pretrain.rows_at_once",
            "pretrain.recompute",
            "pretrain.steps",
            "pretrain.tokens_per_second",
        ),
        informs=("pretrain.device", "pretrain.tokens_per_second"),
        resumes="checkpoints/step-*",
    ),
    Stage(
        "evaluate",
        3,
        (MODEL, TOKENS, DOCUMENTS, TRUTH, CONTAMINATION),
        (EVALUATION,),
        lambda loaded, _: dump(loaded.recipe.evaluate),
        _evaluate,
    ),
)

ADOPTING: Pipeline = (Stage("adopt", 1, (), (MODEL,), lambda loaded, _: None, _adopt, reads=_adopt_reads),)


GATHERING: Pipeline = (Stage("gather", 2, (), (CONVERSATIONS,), _gather_settings, _gather, reads=_gather_reads),)


def _chatting(before: tuple[str, ...]) -> Pipeline:
    """The tuning of conversations; `before` as in `_finetuning`."""
    kinds = (MODEL, *before, CONVERSATIONS)
    return (
        Stage(
            "chat",
            3,
            kinds,
            (ASSISTANT,),
            _chat_settings,
            _chat,
            decide=_decide_chat,
            decides=FINETUNING_DECISIONS,
            informs=("finetune.seconds_per_token",),
            resumes="records/trials/*",
        ),
    )


def _finetuning(before: tuple[str, ...]) -> Pipeline:
    """The second half; `before`: the kinds that it finds besides its own (no tokens: no old text, no forgetting to measure)."""
    return (
        Stage("compare", 1, (LABELLED,), (BASELINES,), _compare_settings, _compare),
        Stage(
            "finetune",
            3,
            (MODEL, *before, LABELLED, BASELINES),
            (CLASSIFIER,),
            _finetune_settings,
            _finetune,
            decide=_decide_finetuning,
            decides=FINETUNING_DECISIONS,
            informs=("finetune.seconds_per_token",),
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


PROMPTING: Pipeline = (
    Stage("compare", 1, (LABELLED,), (BASELINES,), _compare_settings, _compare),
    Stage("finetune", 1, (LABELLED, BASELINES), (CLASSIFIER,), _prompt_settings, _prompt),
    Stage("judge", 1, (LABELLED, BASELINES, CLASSIFIER), (JUDGEMENT,), _judge_settings, _judge),
)
"""Nothing is trained, so nothing is pretrained either: the model is elsewhere."""


def _reporting(*kinds: str) -> Pipeline:
    return (Stage("report", 6, kinds, (REPORT,), _report_settings, _report, records=True),)


def pipeline_of(recipe: Recipe) -> Pipeline:
    """The stages that a recipe asks for."""
    corpus = corpus_of(recipe)
    pretraining = continued(PRETRAINING) if recipe.pretrain.base else PRETRAINING
    if recipe.sequence.given:
        from treino.pipeline.sequence import sequence_of

        if recipe.finetune.base:
            return ADOPTING + sequence_of(recipe, tokens=False) + _reporting(MODEL)
        return (
            corpus + pretraining + sequence_of(recipe, tokens=True) + _reporting(DOCUMENTS, TOKENS, MODEL, EVALUATION)
        )
    if recipe.chat.given and recipe.finetune.base:
        return GATHERING + ADOPTING + _chatting(()) + _reporting(MODEL, CONVERSATIONS, ASSISTANT)
    if recipe.chat.given:  # conversations first, as labelled texts are: what is cheap and may be wrong
        kinds = (DOCUMENTS, TOKENS, MODEL, EVALUATION, CONVERSATIONS, ASSISTANT)
        return GATHERING + corpus + pretraining + _chatting((TOKENS,)) + _reporting(*kinds)
    if not recipe.labels.given:
        return corpus + pretraining + _reporting(DOCUMENTS, TOKENS, MODEL, EVALUATION)
    second = (LABELLED, BASELINES, CLASSIFIER, JUDGEMENT)
    if recipe.finetune.method == PROMPT:
        return SPLITTING + PROMPTING + _reporting(*second)
    if recipe.finetune.base:
        return SPLITTING + ADOPTING + _finetuning(()) + _reporting(MODEL, *second)
    return corpus + pretraining + _finetuning((TOKENS,)) + _reporting(DOCUMENTS, TOKENS, MODEL, EVALUATION, *second)

"""From the dials to every value: what a recipe leaves open follows from `[model] size` here."""

from __future__ import annotations

from typing import Any

from treino.errors import UsageError
from treino.messages import N_
from treino.recipe.base import DERIVED
from treino.recipe.finetuning import ADAPTED, CURES, CURES_BY_OLD_TEXT
from treino.recipe.judging import check_gate_and_search
from treino.recipe.recipe import Recipe
from treino.recipe.remote import PROMPT, check_remote

TRANSFORMER_SIZES = {
    # width, layers, heads, vocabulary, context, rows of a batch
    "tiny": (128, 4, 4, 2048, 256, 4),
    "small": (256, 6, 4, 4096, 256, 16),
    "base": (512, 8, 8, 8192, 512, 16),
    "medium": (768, 12, 12, 16384, 1024, 16),
    "large": (1024, 24, 16, 32768, 1024, 32),
}
LSTM_SIZES = {
    # hidden width, layers, embedding, vocabulary, context, rows of a batch
    "tiny": (128, 1, 64, 2048, 128, 32),
    "small": (384, 1, 192, 4096, 128, 32),
    "base": (768, 2, 384, 8192, 256, 32),
    "medium": (1024, 2, 512, 16384, 256, 64),
    "large": (1536, 3, 768, 32768, 256, 64),
}

NO_MATRICES = N_("{key} = muon is for the matrices of a Transformer's layers, and this model has none")
BY_ADAMW = N_('set pretrain.optimiser = "adamw"')

FINETUNING_ROWS = 16
CHAT_ROWS = 4
"""Rows into which conversations are packed: some dozens of these a step."""
FINETUNING_RATES = {"full": 1e-3, "frozen": 1e-2, "scratch": 2e-3, "lora": 3e-3, "qlora": 3e-3}
"""Learning rate of each method at the width 128; how it was found stands in `LOG.md`."""


def finetuning_rate(method: str, width: int) -> float:
    """Learning rate of a fine-tuning: that of the method · √(128 / width); a head alone (`frozen`) takes the same at any."""
    rate = FINETUNING_RATES[method]
    return rate if method == "frozen" else round(rate * (128 / width) ** 0.5, 6)


def pretraining_rate(width: int) -> float:
    """Learning rate of a fresh model, by either optimiser: 4e-3 · √(128 / width); what is known of it stands in `LOG.md`."""
    return round(4e-3 * (128 / width) ** 0.5, 6)


def feed_forward_width(width: int) -> int:
    """8/3 of the width, so that SwiGLU's three matrices weigh as much as the classic two of 4×, up to a multiple of 8."""
    return -(-8 * width // 24) * 8


def derive(recipe: Recipe) -> tuple[Recipe, set[str]]:
    """Fill every setting that was left open; returns the full recipe and the dotted paths that were derived."""
    _check_base(recipe)  # what is written counts, before anything is filled in
    model = recipe.model
    derived: dict[str, dict[str, Any]] = {"tokens": {}, "model": {}, "pretrain": {}, "finetune": {}}

    def fill(table: str, name: str, value: Any) -> None:
        if getattr(getattr(recipe, table), name) == DERIVED:
            derived[table][name] = value

    if model.architecture == "lstm":
        width, layers, embedding, vocabulary, context, rows = LSTM_SIZES[model.size]
        fill("model", "embedding", embedding)
        if "tied" not in model.model_fields_set:
            derived["model"]["tied"] = False
        fill("model", "heads", 1)
        fill("model", "kv_heads", 1)
        fill("model", "feed_forward", 1)
    else:
        width, layers, heads, vocabulary, context, rows = TRANSFORMER_SIZES[model.size]
        width = model.width or width
        fill("model", "heads", heads)
        fill("model", "kv_heads", model.heads or heads)
        fill("model", "feed_forward", feed_forward_width(width))
        fill("model", "embedding", width)
    fill("model", "width", width)
    fill("model", "layers", layers)
    fill("model", "context", recipe.pretrain.window or context)
    fill("tokens", "vocabulary", vocabulary)
    fill("pretrain", "batch", rows)
    if recipe.pretrain.optimiser == "auto":
        derived["pretrain"]["optimiser"] = "muon" if _is_fresh_transformer(recipe) else "adamw"
    if recipe.pretrain.schedule == "auto":
        derived["pretrain"]["schedule"] = "wsd" if _is_fresh_transformer(recipe) else "cosine"
    if not recipe.pretrain.base:  # else the width stands in its folder, as below
        fill("pretrain", "learning_rate", pretraining_rate(model.width or width))
    fill("finetune", "batch", CHAT_ROWS if recipe.chat.given else FINETUNING_ROWS)
    # Of a base model brought along the width decides, which stands in its folder.
    if not (recipe.finetune.base or recipe.pretrain.base) and recipe.finetune.method != PROMPT:
        fill("finetune", "learning_rate", finetuning_rate(recipe.finetune.method, model.width or width))
    full = recipe.model_copy(
        update={table: getattr(recipe, table).model_copy(update=values) for table, values in derived.items()}
    )
    _check(full)
    return full, {f"{table}.{name}" for table, values in derived.items() for name in values}


def _is_fresh_transformer(recipe: Recipe) -> bool:
    """Whether Muon, and warm-up–stable–decay with either optimiser, get the model to a loss sooner (`LOG.md`): measured for
    these alone. A model that goes on keeps the kind of steps and the schedule that its rate was found with.
    """
    return recipe.model.architecture == "transformer" and not recipe.pretrain.base


def _check(recipe: Recipe) -> None:
    """Refuse what does not fit together."""
    _check_shape(recipe)
    _check_continuing(recipe)
    _check_order(recipe)
    _check_finetuning(recipe)
    _check_method(recipe)
    _check_sequence(recipe)
    check_remote(recipe)


def _check_base(recipe: Recipe) -> None:
    """Refuse settings of a shape or a vocabulary beside a model that has its own, and two models to start from."""
    if not recipe.pretrain.base:
        return
    if recipe.finetune.base:
        raise UsageError(
            N_("{key} and finetune.base do not go together"),
            fix=N_("start from one model: leave one of them out"),
            key="pretrain.base",
        )
    given = [f"model.{name}" for name in recipe.model.model_fields_set]
    given += [f"tokens.{name}" for name in ("kind", "vocabulary") if name in recipe.tokens.model_fields_set]
    if given:
        raise UsageError(
            N_("{key} goes on with a model whose shape and tokenizer are its own: {setting} cannot change them"),
            fix=N_("leave out {setting}"),
            key="pretrain.base",
            setting=sorted(given)[0],
        )
    check_remote(recipe)


def _check_continuing(recipe: Recipe) -> None:
    """Refuse ways of pretraining that would train nothing, start anew, or find no model to put an adapter beside, and the
    optimiser muon where it finds no matrix.
    """
    settings = recipe.pretrain
    if settings.optimiser == "muon" and recipe.model.architecture == "lstm":
        raise UsageError(NO_MATRICES, fix=BY_ADAMW, key="pretrain.optimiser")
    if settings.method == "full":
        return
    about: dict[str, Any] = {"key": "pretrain.method", "method": settings.method}
    fix = N_('take pretrain.method = "full", "lora" or "qlora"')
    if settings.method == "frozen":
        raise UsageError(
            N_("{key} = {method} leaves the body as it is, and the body is what pretraining trains"), fix=fix, **about
        )
    if settings.method == "scratch":
        raise UsageError(
            N_("{key} = {method} forgets the model that it goes on from"), fix=N_("leave out pretrain.base"), **about
        )
    if not settings.base:
        raise UsageError(
            N_("{key} = {method} puts an adapter beside a model, and there is none to go on from"),
            fix=N_("name it: pretrain.base = the folder of a run or of a model"),
            **about,
        )
    if settings.optimiser == "muon":
        raise UsageError(
            N_("{key} = {method} trains adapters, which the optimiser muon is not for"),
            fix=BY_ADAMW,
            **about,
        )


def _check_order(recipe: Recipe) -> None:
    """Refuse a model's loss as the difficulty without the model, and the model without that difficulty."""
    if (recipe.order.difficulty == "loss") != bool(recipe.order.model):
        raise UsageError(
            N_('{key} and order.difficulty = "loss" go together'),
            fix=N_("set both, or neither: the difficulty is the loss of the model that it names"),
            key="order.model",
        )


def _check_finetuning(recipe: Recipe) -> None:
    """Refuse a gate, a search or a base model without what they need."""
    if recipe.chat.given and recipe.labels.given:
        raise UsageError(
            N_("{key} is set, and labels are given too: a recipe fine-tunes for one task"),
            fix=N_("write two recipes, the second with finetune.base = the run of the first"),
            key="chat.source",
        )
    if recipe.chat.given and recipe.finetune.class_weights:
        raise UsageError(
            N_("{key} weighs classes, and conversations have none"),
            fix=N_("leave it out"),
            key="finetune.class_weights",
        )
    if recipe.chat.given and recipe.finetune.method == PROMPT:
        raise UsageError(
            N_("{key} asks a remote model for classes, and conversations have none"),
            fix=N_('take finetune.method = "lora" or "full"'),
            key="finetune.method",
        )
    wants = {
        "finetune.base": bool(recipe.finetune.base) and not recipe.chat.given,
        "corpus.sources": any(source.path == "labels" for source in recipe.corpus.sources),
    }
    for key, wanted in wants.items():
        if wanted and not recipe.labels.given and not (key == "finetune.base" and recipe.sequence.given):
            raise UsageError(
                N_("{key} is set, but there are no labelled texts to fine-tune on"),
                fix=N_('name them: labels.source = "file.csv", or "world"'),
                key=key,
            )
    check_gate_and_search(recipe)
    if not isinstance(recipe.labels.test, str) and recipe.labels.validation + recipe.labels.test >= 1:
        raise UsageError(
            N_("{key} and labels.test together leave no row to learn from"),
            fix=N_("make them smaller: together less than 1"),
            key="labels.validation",
        )


def _check_sequence(recipe: Recipe) -> None:
    """Refuse a sequence beside labelled rows of one task, and by methods that no task could hand on to the next."""
    if not recipe.sequence.given:
        return
    if recipe.labels.given or recipe.chat.given:
        raise UsageError(
            N_("{key} and {other} do not go together"),
            fix=N_("write two recipes, the second with finetune.base = the run of the first"),
            key="sequence.tasks",
            other="labels.source" if recipe.labels.given else "chat.source",
        )
    if recipe.finetune.method == "scratch":
        raise UsageError(
            N_("a sequence hands one body on from task to task: {key} = {method} would throw it away before each"),
            fix=N_('take finetune.method = "full", "frozen", "lora" or "qlora"'),
            key="finetune.method",
            method=recipe.finetune.method,
        )
    if recipe.finetune.method == PROMPT:
        raise UsageError(
            N_("{key} = {method} trains nothing that a sequence could forget"),
            fix=N_('take finetune.method = "full", "frozen", "lora" or "qlora"'),
            key="finetune.method",
            method=recipe.finetune.method,
        )
    unused = sorted(recipe.finetune.model_fields_set & {"freeze", "patience", "class_weights", "thresholds"})
    if unused:
        raise UsageError(N_("a sequence has no use for {key}"), fix=N_("leave it out"), key=f"finetune.{unused[0]}")


def _tunes(recipe: Recipe) -> bool:
    """Whether anything follows the pretraining."""
    return recipe.labels.given or recipe.chat.given or recipe.sequence.given


def _check_method(recipe: Recipe) -> None:
    """Refuse adapters where there is no layer for them, and cures for forgetting that have nothing to do or to read."""
    settings = recipe.finetune
    if settings.method in ADAPTED and recipe.model.architecture == "lstm" and _tunes(recipe) and not settings.base:
        raise UsageError(
            N_("the method {method} is not there for a model of the kind {kind}"),
            fix=N_('take finetune.method = "full" or "frozen"'),
            key="finetune.method",
            method=settings.method,
            kind="lstm",
        )
    if settings.stream and settings.method != "qlora":
        raise UsageError(
            N_("{key} is for layers in 4 bits, and the method is {method}"),
            fix=N_('take finetune.method = "qlora", or leave it out'),
            key="finetune.stream",
            method=settings.method,
        )
    for cure, methods in CURES.items():
        if not getattr(settings, cure):
            continue
        if settings.method not in methods:
            raise UsageError(
                N_("{key} cures forgetting, and {method} leaves it nothing to do"),
                fix=N_("leave it out, or take another finetune.method"),
                key=f"finetune.{cure}",
                method=settings.method,
            )
        if settings.base and cure in CURES_BY_OLD_TEXT and not recipe.sequence.given:
            raise UsageError(
                N_("{key} needs the text that the base model was trained on"),
                fix=N_("pretrain in the same recipe (without finetune.base), or take l2_sp or distillation"),
                key=f"finetune.{cure}",
            )


def _check_shape(recipe: Recipe) -> None:
    """Refuse shapes that do not fit together."""
    model = recipe.model
    if model.architecture == "transformer" and model.width % (2 * model.heads):
        raise UsageError(
            N_("{key} = {width:raw} cannot be shared among {heads:raw} heads of an even size"),
            fix=N_("make width a multiple of {multiple:raw}, or change model.heads"),
            key="model.width",
            width=model.width,
            heads=model.heads,
            multiple=2 * model.heads,
        )
    if model.architecture == "transformer" and model.heads % model.kv_heads:
        raise UsageError(
            N_("{key} = {kv_heads:raw} does not divide model.heads = {heads:raw}"),
            fix=N_("choose a kv_heads that divides heads"),
            key="model.kv_heads",
            heads=model.heads,
            kv_heads=model.kv_heads,
        )
    if model.architecture == "lstm" and model.tied and model.embedding != model.width:
        raise UsageError(
            N_("{key} = true needs model.embedding equal to model.width"),
            fix=N_("set them equal, or set {key} to false"),
            key="model.tied",
        )

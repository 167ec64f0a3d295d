"""Gather and chat: conversations, and the tuning of a language model that answers as their assistant does."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treino import files
from treino.pipeline.finetuning import QUANTISED
from treino.pipeline.stage import Decisions, Work

if TYPE_CHECKING:
    from treino.training.chat import ChatTuning

CONVERSATIONS, MODEL, TOKENS = "conversations", "model", "tokens"
"""Kinds of artefact."""

ANSWERS_FILE = "records/answers.json"
ASKED = 5
"""Held-out conversations whose answers are kept, where the recipe allows examples."""


def gather(work: Work) -> dict[str, Any]:
    """Read the conversations and deal them."""
    from treino.corpus.conversations.gather import gather

    recipe = work.loaded.recipe
    return gather(recipe.chat, recipe.world, work.loaded.base, recipe.seed, work.output)


def decide(work: Work) -> Decisions:
    """How the steps fit into memory, and how fast they are."""
    with tempfile.TemporaryDirectory(dir=work.runs, ignore_cleanup_errors=True) as place:
        tuning = _tuning(replace(work, output=Path(place)))
        return tuning.decide(tuning.settled(work.loaded.recipe.finetune))


def _tuning(work: Work) -> ChatTuning:
    """The conversations, and the base model that learns to answer."""
    from treino.corpus.conversations.gather import read_part
    from treino.training.chat import ChatTuning

    recipe = work.loaded.recipe
    training, validation = (read_part(work.inputs[CONVERSATIONS], name) for name in ("training", "validation"))
    return ChatTuning(
        work.inputs[MODEL] / "model",
        training,
        validation,
        long_texts=recipe.finetune.long_texts,
        seed=recipe.finetune.seed or recipe.seed,
        old_text=work.inputs.get(TOKENS),
        shown=recipe.report.examples,
        stream=recipe.finetune.stream,
        quantised=work.output / QUANTISED,
    )


def chat(work: Work) -> dict[str, Any]:
    """Tune the model; what it answers, how surely it ends a turn, and what it forgot of the base task."""
    from treino.corpus.conversations.gather import read_part
    from treino.evaluation.forgetting import forgetting

    recipe, base, tuning = work.loaded.recipe, work.inputs[MODEL] / "model", _tuning(work)
    settings = tuning.settled(recipe.finetune)
    tuning.foresee(settings, work.decisions, work.output)
    model, facts = tuning.run(settings, work.output)
    if recipe.report.examples:
        validation = read_part(work.inputs[CONVERSATIONS], "validation")
        answers = [_answered(model, tuning, messages, recipe.seed) for messages in validation[:ASKED]]
        files.write_json(work.output / ANSWERS_FILE, answers)
    files.remove_folder(work.output / QUANTISED)
    facts |= {"method": settings.method, "settings": settings.model_dump(mode="json"), **tuning.facts()}
    if TOKENS in work.inputs and settings.method != "scratch":
        facts["forgetting"] = forgetting(base, work.output / "model", work.inputs[TOKENS])
    return facts


def _answered(model: Any, tuning: Any, messages: list[dict[str, str]], seed: int) -> dict[str, Any]:
    """The question of a held-out conversation, what the model says to it, and what the assistant said."""
    from treino.models.generation import answer

    asked = next(number for number, message in enumerate(messages) if message["role"] == "assistant")
    said = "".join(answer(model, tuning.chat, messages[:asked], tokens=80, greedy=True, seed=seed))
    return {"messages": messages[:asked], "answer": said.strip(), "reference": messages[asked]["content"]}

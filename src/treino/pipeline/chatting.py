"""Gather and chat: conversations, and the tuning of a language model that answers as their assistant does."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treino import files
from treino.errors import DataError
from treino.messages import N_
from treino.pipeline.finetuning import QUANTISED, chosen_of, ran_away, settle, trial_line
from treino.pipeline.gate import judge_gate, smallest_margin
from treino.pipeline.search import search
from treino.pipeline.stage import Decisions, Work

if TYPE_CHECKING:
    from treino.recipe import FinetuneSettings
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
    """Tune the model, with other settings until the gate is passed or the trials are spent: what it answers, how surely it ends
    a turn, and what it forgot of the base task. The gate and the trials are judged on the held-out conversations.
    """
    from treino.evaluation.forgetting import forgetting

    recipe, base, tuning = work.loaded.recipe, work.inputs[MODEL] / "model", _tuning(work)
    settings, wanted = tuning.settled(recipe.finetune), recipe.gate.require or recipe.search.trials > 1
    if wanted and not len(tuning.validation):
        raise DataError(
            N_("no conversation was held out, and the gate and the trials are judged by those"),
            fix=N_("give more of them, or raise chat.validation"),
        )
    tuning.foresee(settings, work.decisions, work.output)
    folder, search_for = work.output / "records" / "trials", recipe.search
    rows, chosen = search(settings, search_for.vary, search_for.trials, _Trial(work, tuning), folder, recipe.seed)
    best = chosen_of(rows, chosen, settings.learning_rate)
    settle(work.output, chosen)
    files.remove_folder(work.output / QUANTISED)
    facts: dict[str, Any] = {
        "method": settings.method,
        "settings": settings.model_dump(mode="json") | best["tried"],
        "trials": [trial_line(row, row["measures"]) for row in rows],
        "chosen": chosen,
        "gate": best["gate"],
        "passed": best["passed"] if recipe.gate.require else None,
        **best["facts"],
        **tuning.facts(),
    }
    if TOKENS in work.inputs and settings.method != "scratch":
        facts["forgetting"] = forgetting(base, work.output / "model", work.inputs[TOKENS])
    return facts


class _Trial:
    """One tuning, and its judgement on the held-out conversations: by the gate, or by the loss of their answers."""

    def __init__(self, work: Work, tuning: ChatTuning) -> None:
        from treino.corpus.conversations.gather import read_part

        self.recipe, self.tuning = work.loaded.recipe, tuning
        shown = self.recipe.report.examples
        self.asked = read_part(work.inputs[CONVERSATIONS], "validation")[:ASKED] if shown else []

    def __call__(self, settings: FinetuneSettings, folder: Path) -> dict[str, Any]:
        from treino.training.trouble import NotFinite

        try:
            model, facts = self.tuning.run(settings, folder)
        except NotFinite as error:
            return ran_away(folder, error)
        if self.recipe.report.examples:
            answers = (_answered(model, self.tuning, messages, self.recipe.seed) for messages in self.asked)
            files.write_json(folder / ANSWERS_FILE, [row for row in answers if row])
        held = facts["held_out"]
        if not held:
            return {"value": -facts["last_loss"], "passed": True, "measures": None, "gate": [], "facts": facts}
        gate = judge_gate(self.recipe.gate.require, held["after"], {"before": held["before"]})
        value = smallest_margin(gate) if gate else -held["after"]["loss"]
        passed = bool(gate) and all(row["passed"] for row in gate)
        return {"value": value, "passed": passed, "measures": held["after"], "gate": gate, "facts": facts}


def _answered(model: Any, tuning: Any, messages: list[dict[str, str]], seed: int) -> dict[str, Any] | None:
    """The first question of a held-out conversation, what the model says to it, and what the assistant said; None where it
    has none, or the template does not take it.
    """
    from treino.models.generation import answer
    from treino.tokens.chat import ConversationRefused

    roles = [message["role"] for message in messages]
    if "user" not in roles:
        return None
    asked = roles.index("assistant", roles.index("user"))
    try:
        said = "".join(answer(model, tuning.chat, messages[:asked], tokens=80, greedy=True, seed=seed))
    except ConversationRefused:
        return None
    return {"messages": messages[:asked], "answer": said.strip(), "reference": messages[asked]["content"]}

"""The card of a model tuned on conversations: the README.md of its folder. Shows no text of the user."""

from __future__ import annotations

from typing import Any, cast

from treino.language import Translator
from treino.messages import N_
from treino.report.facts import ChatFacts, Facts, present
from treino.report.labels import METHODS
from treino.report.markdown import document, front_matter, label, limits, number, use

USE_TREINO = """```bash
treino chat {folder} {text}
```"""

USE_TRANSFORMERS = """```python
from transformers import pipeline

print(pipeline("text-generation", model="{folder}")([{{"role": "user", "content": {text}}}]))
```"""

TEXT = "Bom dia!"
LIMITS = (
    N_("It answers in the manner of its conversations, whether it knows the answer or not."),
    N_("Its figures hold for conversations of the same kind as the held-out ones and say nothing about others."),
)


def chat_card(facts: dict[str, Any], language: str) -> str:
    """The card as Markdown with the front matter that the Hugging Face Hub reads; "" where no conversation was learnt."""
    known, translator = cast(Facts, present(facts)), Translator(language)
    tuned = known.get("chat")
    if not tuned:
        return ""
    return document(
        front_matter(known, "text-generation", "conversational"),
        known.get("name") or "Treino",
        _what_it_is(tuned, translator),
        _figures(tuned, translator),
        limits(LIMITS, translator),
        use(known.get("model"), translator, USE_TREINO, USE_TRANSFORMERS, TEXT),
    )


def _what_it_is(tuned: ChatFacts, translator: Translator) -> str:
    rows, counts = tuned.get("rows") or {}, tuned.get("parameters") or {}
    return translator.text(
        N_(
            "A language model that answers, made by {method}: {trainable} of {total} parameters were trained on "
            "{training} conversations."
        ),
        method=label(tuned.get("method", ""), translator, METHODS),
        trainable=number(counts.get("trainable"), translator),
        total=number(counts.get("total"), translator),
        training=number(rows.get("training"), translator),
    )


def _figures(tuned: ChatFacts, translator: Translator) -> str:
    found = tuned.get("held_out")
    if not found:
        return ""
    after = found["after"]
    said = translator.text(N_("On {tokens} held-out tokens of answers: a loss of {loss:3} nats per token."), **after)
    if after.get("end_of_turn") is not None:
        ends = N_("At the end of {turns} answers it gives the end of the turn a probability of {end_of_turn:percent}.")
        said += " " + translator.text(ends, **after)
    return f"## {translator.text(N_('Evaluation'))}\n\n{said}"

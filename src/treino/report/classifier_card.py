"""The card of a classifier: the README.md of its folder, from the same facts as the report. Shows no text of the user."""

from __future__ import annotations

from typing import Any, cast

from treino.language import Translator
from treino.messages import N_
from treino.report.classification import verdict_on_classifier
from treino.report.facts import Classification, Facts, Measures, present
from treino.report.labels import BASELINES, METHODS
from treino.report.markdown import (
    document,
    family_of,
    front_matter,
    interval,
    label,
    limits,
    markdown_table,
    number,
    plain,
    use,
)

USE_TREINO = """```bash
treino predict {folder} {text}
```"""

USE_TRANSFORMERS = """```python
from transformers import pipeline

print(pipeline("text-classification", model="{folder}")({text}))
```"""

TEXT = "O filme foi bom."
LIMITS = (
    N_("It names the likeliest of its classes for any text, also for one that belongs to none of them."),
    N_("Its figures hold for texts of the same kind as its test rows and say nothing about others."),
    N_("What is unfair or wrong in its labels it repeats. Do not let it decide about people."),
)


def classifier_card(facts: dict[str, Any], language: str) -> str:
    """The card as Markdown with the front matter that the Hugging Face Hub reads; "" where nothing was fine-tuned."""
    known, translator = cast(Facts, present(facts)), Translator(language)
    tuned = known.get("classification")
    if not tuned or tuned.get("method") == "prompt":  # there is no folder to put a card into
        return ""
    return document(
        front_matter(known, "text-classification", family_of(known.get("model"))),
        known.get("name") or "Treino",
        _what_it_is(tuned, translator),
        _evaluation(tuned, translator),
        limits(LIMITS, translator),
        use(known.get("model"), translator, USE_TREINO, USE_TRANSFORMERS, TEXT),
    )


def _what_it_is(tuned: Classification, translator: Translator) -> str:
    rows, counts = tuned.get("rows") or {}, tuned.get("parameters") or {}
    method = tuned.get("method", "")
    sentence = N_(
        "A classifier of {classes} classes ({names}), made by {method}: {trainable} of {total} parameters were trained on "
        "{training} labelled texts."
    )
    return translator.text(
        sentence,
        classes=len(tuned.get("labels") or []),
        names=", ".join(plain(name) for name in tuned.get("labels") or []),
        method=label(method, translator, METHODS),
        trainable=number(counts.get("trainable"), translator),
        total=number(counts.get("total"), translator),
        training=number(rows.get("training"), translator),
    )


def _evaluation(tuned: Classification, translator: Translator) -> str:
    title = f"## {translator.text(N_('Evaluation'))}"
    test = tuned.get("test")
    if not test:
        return f"{title}\n\n{translator.text(N_('No test rows were kept, so nothing judges the classifier.'))}"
    judged: list[tuple[str, Measures]] = [(translator.text(N_("this classifier")), test)]
    baselines = tuned.get("baselines") or {}
    judged += [(label(name, translator, BASELINES), measures) for name, measures in baselines.items()]
    head = [translator.text(name) for name in (N_("on the test rows"), N_("accuracy"), N_("macro-F1"))]
    rows = [
        [plain(name), interval(measures["accuracy"], translator), interval(measures["macro_f1"], translator)]
        for name, measures in judged
    ]
    verdict = plain(translator.message(verdict_on_classifier(test, baselines)))
    counted = translator.text(N_("{rows} rows"), rows=test["rows"])
    return "\n\n".join([title, f"{verdict} ({counted})", markdown_table(head, rows)])

"""The report's stage function: facts in, one HTML file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from treino import files
from treino.messages import N_
from treino.report import chat_card, classifier_card
from treino.report.chat import chat_section
from treino.report.classification import (
    classifier_section,
    finetuning_section,
    forgetting_section,
)
from treino.report.corpus import corpus_section
from treino.report.facts import Facts, present
from treino.report.gate import gate_section
from treino.report.judgement import held_out_section, truthfulness_section
from treino.report.page import Section, page
from treino.report.phases import phases_section
from treino.report.pipeline_picture import pipeline_picture
from treino.report.sections import (
    LIMITS,
    forecast_section,
    headline,
    limits_section,
    lineage_section,
    removed_section,
    samples_section,
    settings_section,
    training_section,
)
from treino.report.writer import Writer, escape

NOT_TRAINED = N_("Nothing was trained in this run, so there are no curves.")
NOT_EVALUATED = N_("The model was not evaluated.")


def render_report(facts: dict[str, Any], language: str) -> str:
    """The report as one HTML document, which asks for nothing from outside (see `treino.report.facts`)."""
    writer, known = Writer(language), cast(Facts, present(facts))
    return page(writer, escape(known.get("name", "Treino")), headline(known, writer), _sections(known, writer))


def _sections(facts: Facts, writer: Writer) -> list[Section]:
    stages, training, evaluation = facts.get("stages"), facts.get("training"), facts.get("evaluation")
    removed, settings = facts.get("removed"), facts.get("settings")
    tuned, chat = facts.get("classification"), facts.get("chat")
    learning = (
        training_section(training, writer) if training else "" if tuned or chat else _missing(NOT_TRAINED, writer)
    )
    quality = (
        held_out_section(evaluation, writer) if evaluation else "" if tuned or chat else _missing(NOT_EVALUATED, writer)
    )
    truth = truthfulness_section((evaluation or {}).get("truthfulness") or [], writer)
    gone = removed_section(removed, bool(facts.get("examples")), writer) if removed else ""
    expected = forecast_section(facts.get("forecasts") or {}, writer)
    origin = lineage_section(facts.get("lineage"), facts.get("machine"), writer)
    corpus = facts.get("corpus")
    parts = [
        ("pipeline", N_("The pipeline"), pipeline_picture(stages, writer) if stages else ""),
        ("corpus", N_("The corpus"), corpus_section(corpus, writer) if corpus else ""),
        ("learning", N_("How it learnt"), learning),
        ("samples", N_("What it wrote while it learnt"), samples_section(facts, writer)),
        ("evaluation", N_("How good it is"), quality),
        ("truthfulness", N_("Is what it says true?"), truth),
        ("finetuning", N_("How it was fine-tuned"), finetuning_section(tuned, writer) if tuned else ""),
        ("chat", N_("How it learnt to answer"), chat_section(chat, writer) if chat else ""),
        ("classifier", N_("How good the classifier is"), classifier_section(tuned, writer) if tuned else ""),
        ("gate", N_("Is it good enough?"), gate_section(tuned or chat or {}, writer)),
        ("forgetting", N_("What it forgot"), forgetting_section(tuned or chat or {}, writer)),
        ("phases", N_("The phases side by side"), phases_section(training, tuned, writer)),
        ("removed", N_("Documents removed and changed"), gone),
        ("forecast", N_("Forecast beside measured"), expected),
        ("limits", N_("What it cannot do"), limits_section(_limits(facts), writer)),
        ("settings", N_("Settings"), settings_section(settings, writer) if settings else ""),
        ("lineage", N_("Where it comes from"), origin),
    ]
    return [Section(anchor, writer.say(title), body) for anchor, title, body in parts]


def _limits(facts: Facts) -> tuple[str, ...]:
    """What the models of a run cannot do."""
    if facts.get("chat"):
        return chat_card.LIMITS
    if facts.get("classification"):
        return (LIMITS if facts.get("training") else ()) + classifier_card.LIMITS
    return LIMITS


def _missing(sentence: str, writer: Writer) -> str:
    return f'<p class="missing">{writer.say(sentence)}</p>'


def write_report(facts: dict[str, Any], output: Path, language: str) -> dict[str, Any]:
    """Write `output/report.html` (atomically); returns the facts of the stage.

    Args:
        facts: as described by `treino.report.facts.Facts`; every part may be missing.
        output: an existing folder.
        language: "en" or "pt_BR".
    """
    text = render_report(facts, language)
    files.write_text(output / "report.html", text)
    return {"report": "report.html", "bytes_out": len(text.encode())}

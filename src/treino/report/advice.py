"""Advice as lines of text in the reader's language, ending in the course's form: the choice and three reasons."""

from __future__ import annotations

from collections.abc import Iterator

from treino.language import Translator
from treino.messages import N_
from treino.planning.advise import Advice
from treino.planning.options import NAMES, Option
from treino.planning.scenario import ATTRIBUTES
from treino.report.planning import interval_text

KINDS = {"reference": N_("reference, a prompted gpt-4"), "api-small": N_("API, a small model")}
"""Kinds of evidence that are no method's."""

HEADINGS = {
    "cost": N_("cost"),
    "days": N_("days"),
    "quality": N_("quality"),
    "control": N_("control"),
    "risk": N_("risk"),
}


def advice_lines(advice: Advice, translator: Translator) -> Iterator[str]:
    """The whole advice for one card."""
    say, scenario = translator.text, advice.scenario
    yield say(
        N_("{name} on {gpu}: {budget:money}, {days} days, {rows} rows, {answers} answers a month"),
        name=scenario.name,
        gpu=advice.gpu,
        budget=scenario.budget,
        days=scenario.days,
        rows=scenario.data.rows,
        answers=scenario.traffic.answers_per_month,
    )
    for option in advice.options:
        yield from _option(option, advice, translator)
    yield from _guesses(advice, translator)
    for note in advice.notes:
        yield "! " + translator.message(note)
    yield say(N_("What quality is known from (ranges of 80 %, in points over the reference):"))
    for kind, sources in advice.evidence:
        yield f"  {say((KINDS | NAMES)[kind])}: {sources.get(translator.language, sources['en'])}"
    if advice.choice is None:
        yield say(N_("No option is left: give more budget, more time or other hardware."))
        return
    for name, key in advice.changes:
        other = translator.message(advice.option(key).label) if key else say(N_("nothing"))
        yield say(N_("the answer would change with {change}: {other}"), change=say(name), other=other)
    if advice.experiment:
        what, cost, worth = advice.experiment
        yield say(
            N_("the cheapest useful experiment ({cost:money}, worth about {worth:money}): {what}"),
            cost=cost,
            worth=worth,
            what=what,
        )
    yield ""
    yield say(N_("Choice: {label}"), label=advice.option(advice.choice).label)
    for number, reason in enumerate(advice.reasons, 1):
        yield say(N_("Reason {number}: {reason}"), number=number, reason=reason)


def _option(option: Option, advice: Advice, translator: Translator) -> Iterator[str]:
    """Its attributes, and where it stands."""
    forms = {"cost": "money"}
    figures = ", ".join(
        f"{translator.text(HEADINGS[name])} {interval_text(option.attributes[name], translator, forms.get(name, ''))}"
        for name in ATTRIBUTES
    )
    yield f"{translator.message(option.label)}: {figures}"
    if option.how:
        yield "    " + translator.text(N_("with {how}"), how=translator.text(option.how))
    if option.plain:
        text = N_("in mixed precision with AdamW its weights, gradients and moments alone take {states:bytes}")
        yield "    " + translator.text(text, states=option.plain)
    for name, points in option.measured:
        text = N_("measured in {name}: {points} points over full fine-tuning")
        yield "    " + translator.text(text, name=name, points=interval_text(points, translator, "1"))
    for limit in option.limits:
        yield "  ✗ " + translator.message(limit)
    if option.key in advice.dominated:
        better = advice.option(advice.dominated[option.key]).label
        yield "  − " + translator.text(N_("{label} is at least as good in everything"), label=better)
    if option.key in advice.chance:
        yield "  ✓ " + translator.text(
            N_("the best in {chance:percent} of the draws; expected regret {regret:money}"),
            chance=advice.chance[option.key],
            regret=advice.regret[option.key],
        )


def _guesses(advice: Advice, translator: Translator) -> Iterator[str]:
    """What somebody else guesses, to be compared."""
    if advice.scenario.guesses:
        yield translator.text(N_("For comparison, the course's own guesses:"))
    for guess in advice.scenario.guesses:
        yield "  " + translator.text(
            N_("{option}: {usd:money}, days {days}, quality {quality}, control {control}, risk {risk}"),
            **{name: guess.get(name, "?") for name in ("option", "usd", "days", "quality", "control", "risk")},
        )

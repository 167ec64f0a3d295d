"""A plan, and claims that were checked, as lines of text in the reader's language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from treino.language import Translator
from treino.messages import N_
from treino.planning.claims import Graded
from treino.planning.course import Bar
from treino.planning.plan import Plan
from treino.planning.throughput import Interval
from treino.report.labels import LABELS

RANGE = N_("{middle} ({low} to {high})")

FORMULAS = (
    (N_("parameters"), N_("by part from the shape, exactly; {trained} of them are trained")),
    (
        N_("FLOPs"),
        N_(
            "of a token: 2 · matrices + 2 · width · vocabulary + 4 · layers · row · queries forward; three times that in full "
            "training, twice where the matrices are frozen, once for a frozen body; recomputation adds the body once"
        ),
    ),
    (
        N_("memory"),
        N_(
            "weights + copies + gradients + optimiser + activations + logits + buffers + driver, less what gradients and "
            "activations share; each part by its own formula (treino.planning.memory)"
        ),
    ),
    (
        N_("time"),
        N_(
            "6 · N · D · (FLOPs of the method / FLOPs of full training) / (chips · peak · MFU), N the {active} parameters that "
            "a token meets; MFU {mfu} learnt from published runs, its 80 % interval from how far each lies off the others"
        ),
    ),
    (N_("energy"), N_("chip-hours · board power · .9 (.7 to 1) · 1.1 for cooling")),
    (N_("cost"), N_("chip-hours · price of a chip-hour, its interval from the lowest to the highest price seen")),
    (N_("carbon"), N_("energy · grams of CO2 for a kilowatt-hour of the grid")),
    (
        N_("loss"),
        N_(
            "E + A / N^α + B / D^β with the constants of Hoffmann et al. 2022 and of Besiroglu et al. 2024, whose standard "
            "errors give the interval; repeated data count as U + U · 15 · (1 − e^(−R / 15))"
        ),
    ),
)
"""How each figure is made."""


def plan_lines(plan: Plan, translator: Translator) -> Iterator[str]:
    """The plan, a line for each figure."""
    say = translator.text
    chips = say(N_("{count} × {chip}"), count=plan.chips, chip=plan.chip)
    yield say(N_("{model}, {method}, on {chips}"), model=plan.model, method=plan.method, chips=chips)
    yield from _parts(say(N_("parameters")), plan.parameters, translator)
    yield from _parts(say(N_("memory of each chip")), plan.memory, translator, "bytes")
    yield "  " + say(N_("{states:bytes} of it are weights, gradients and the optimiser's state"), states=plan.states)
    text = N_("it fits: {room:bytes} may be used") if plan.fits else N_("IT DOES NOT FIT: {room:bytes} may be used")
    yield "  " + say(text, room=plan.room)
    if not plan.fits:
        text = N_("it would fit with: {changes}") if plan.remedies else N_("no option of this command makes it fit")
        yield "  " + say(text, changes=say(N_(" or ")).join(plan.remedies))
    if plan.host:
        yield from _parts(say(N_("memory of the host, for each chip")), plan.host, translator, "bytes")
    yield from _parts(say(N_("memory to answer one row")), plan.serving, translator, "bytes")
    yield from _row(say(N_("efficiency (MFU)")), plan.mfu, translator, "percent")
    yield from _row(say(N_("tokens per second")), plan.tokens_per_second, translator, "0")
    if plan.tokens and plan.flops:
        yield _line(say(N_("tokens")), translator.number(plan.tokens, 0))
        yield _line("FLOPs", f"{plan.flops:.3g}")
    yield from _row(say(N_("time")), plan.seconds, translator, "seconds")
    yield from _row(say(N_("energy, kWh")), plan.kilowatt_hours, translator)
    yield from _row(say(N_("cost")), plan.dollars, translator, "money")
    yield from _row(say(N_("carbon, kg of CO2")), plan.carbon, translator)
    yield from _row(say(N_("chips for the days asked")), plan.chips_for_days, translator)
    yield from _data(plan, translator)
    yield _line(
        say(N_("would fit at most")),
        say(
            N_("{batch} rows, or rows of {context} tokens, or a model of {parameters} parameters"),
            **{name: translator.number(value, 0) for name, value in plan.largest.items()},
        ),
    )
    for note in plan.notes:
        yield "! " + translator.message(note)


def _data(plan: Plan, translator: Translator) -> Iterator[str]:
    """What the tokens are worth."""
    for name, loss in plan.loss.items():
        yield from _row(translator.text(N_("loss, nats per token ({name})"), name=name), loss, translator, "2")
    for name, tokens in plan.optimal_tokens.items():
        label = translator.text(N_("best number of tokens ({name})"), name=name)
        yield _line(label, f"{tokens:.3g}")


def _line(label: str, text: str) -> str:
    return f"{label + ':':<44} {text}"


def _parts(label: str, parts: dict[str, int], translator: Translator, form: str = "") -> Iterator[str]:
    """A total, and under it the parts that are not nothing."""
    show = translator.bytes if form == "bytes" else translator.number
    yield _line(label, show(parts["total"]))
    for part, amount in parts.items():
        if part != "total" and amount:
            sign = "−" if amount < 0 else ""
            yield _line("  " + translator.text(LABELS.get(part, part)), sign + show(abs(amount)))


def _row(label: str, interval: Interval | None, translator: Translator, form: str = "") -> Iterator[str]:
    if interval is not None:
        yield _line(label, interval_text(interval, translator, form))


def interval_text(interval: Interval, translator: Translator, form: str = "") -> str:
    """`middle (low to high)`, or the figure alone where it is known."""

    def show(value: float) -> str:
        if form in ("seconds", "money", "percent", "bytes"):
            return getattr(translator, form)(value)
        return translator.number(float(f"{value:.3g}"), int(form) if form else 0 if value >= 100 else 1)

    if interval.low == interval.high:
        return show(interval.middle)
    return translator.text(RANGE, low=show(interval.low), middle=show(interval.middle), high=show(interval.high))


def formula_lines(plan: Plan, translator: Translator) -> Iterator[str]:
    """How each figure of the plan was made."""
    values = {
        "trained": plan.trained,
        "active": plan.active,
        "mfu": interval_text(plan.mfu, translator, "percent"),
    }
    for name, formula in FORMULAS:
        yield f"{translator.text(name)}: {translator.text(formula, **values)}"


def claim_lines(claims: Sequence[Graded], translator: Translator) -> Iterator[str]:
    """A line for each claim: its efficiency, what that says, and the price of a chip-hour that it implies."""
    for claim in claims:
        said = translator.text(N_("does not say enough to be graded"))
        if claim.mfu and claim.grades:
            low, high = (translator.percent(value, 0) for value in claim.mfu)
            grades = [translator.text(name) for name in dict.fromkeys(claim.grades)]
            shown = low if low == high else f"{low}–{high}"
            verdict = translator.text(N_("{first} to {last}"), first=grades[0], last=grades[-1])
            said = f"MFU {shown}: {verdict if len(grades) > 1 else grades[0]}"
        price = ""
        if claim.dollars_per_hour:
            low, high = map(translator.money, claim.dollars_per_hour)
            shown = low if low == high else f"{low}–{high}"
            price = "; " + translator.text(N_("{price} for an hour of {chip}"), price=shown, chip=claim.chip)
        yield f"{claim.name}: {said}{price}"


def course_lines(bars: Sequence[Bar], translator: Translator) -> Iterator[str]:
    """What the course says, model by model, graded; and what happened, where it is known."""
    for bar, line in zip(bars, claim_lines([bar.graded for bar in bars], translator), strict=True):
        yield line
        if bar.happened:
            text = N_("  what happened: {chips} × {chip}, {days} days ({source})")
            yield translator.text(text, **{key: bar.happened[key] for key in ("chips", "chip", "days", "source")})

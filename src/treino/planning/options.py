"""The strategies of a scenario, each with its attributes as intervals and the hard limits that it breaks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from treino.errors import UsageError
from treino.messages import N_, Message
from treino.planning.facts import Chip, Facts
from treino.planning.measured import Measured, beside_cited, differences_for
from treino.planning.memory import memory, serving_memory
from treino.planning.model import Model, find_model, of_size
from treino.planning.plan import DAY, HOUR, RESERVE, Plan, calculate
from treino.planning.scaling import worth
from treino.planning.scenario import Scenario
from treino.planning.throughput import Interval, efficiency, exactly
from treino.planning.wanted import TOKENS_PER_PARAMETER, Wanted, find_chips
from treino.planning.work import CONTEXT_BYTES, Work

MONTH = 730.0
"""Hours of a month, in which a card that answers must be there."""

BASE_SIZE = 7e9
"""Parameters of the base models that the evidence's ranges are counted from."""

NAMES = {
    "scratch": N_("from scratch"),
    "full": N_("full fine-tuning"),
    "frozen": N_("features of a frozen body"),
    "lora": N_("LoRA"),
    "qlora": N_("QLoRA"),
    "api": N_("API"),
}

AT_ONCE = 32
"""Rows that a card answers at a time at most, as far as their keys and values fit: a token reads the weights once for all."""


@dataclass(frozen=True)
class Option:
    """A strategy: attributes by name as intervals (cost in US dollars with `months` of answering, days, points of 100), and
    what stands against it.

    Attributes:
        training, answering: the parts of the cost; answering is that of a month.
        difference: points of the task over the reference, a prompted gpt-4, whose own range all options share.
        memory: bytes that its training takes on a card, None for an API.
        limits: the hard limits that it breaks.
        how: settings with which it fits, or comes nearest to it.
        measured: comparisons that its quality comes from beside cited evidence, with its points over full fine-tuning in each.
        plain: bytes of the states (weights, gradients, optimiser) of full training in mixed precision with AdamW; 0 for others.
    """

    method: str
    base: str
    attributes: dict[str, Interval]
    training: Interval
    answering: Interval
    difference: Interval
    memory: float | None
    limits: tuple[Message, ...]
    how: str = ""
    plain: float = 0.0
    measured: tuple[tuple[str, Interval], ...] = ()

    @property
    def label(self) -> Message:
        return Message(N_("{method} {base}"), {"method": Message(NAMES[self.method]), "base": self.base})

    @property
    def key(self) -> str:
        return f"{self.method} {self.base}"


def evidence_of(method: str, base: str) -> str:
    """Name of the row of evidence that an option is judged by."""
    return "api-small" if method == "api" and "mini" in base else method


def options_of(scenario: Scenario, cards: Cards, facts: Facts, comparisons: Sequence[Measured] = ()) -> list[Option]:
    """Every strategy on these cards; `comparisons`: what was measured of how well methods do."""
    return list(_Maker(scenario, facts, cards, comparisons).all())


@dataclass(frozen=True)
class Cards:
    """What is there to train and to answer on: chips of a kind, the share of their peak that they reach, and what an hour of
    one costs.
    """

    chip: Chip
    count: int
    mfu: Interval
    price: Interval


def cards_of(gpu: str, scenario: Scenario, facts: Facts) -> Cards:
    """The cards that a name such as `A100-80` or `H100:8` means.

    Raises:
        UsageError: for cards of which nobody knows what an hour costs.
    """
    chip, count = find_chips(gpu, facts)
    seen = facts.price(chip.name)
    if scenario.owned or scenario.price:
        price = exactly(0.0 if scenario.owned else scenario.price)
    elif seen:
        price = Interval(seen.low, seen.typical, seen.high)
    else:
        raise UsageError(
            N_("no price of an hour of {chip} was seen"),
            fix=N_("set price, or owned = true, in the scenario"),
            chip=chip.name,
        )
    return Cards(chip, count, efficiency(chip, facts.runs), price)


class _Maker:
    """Builds the options of a scenario on a number of cards."""

    def __init__(self, scenario: Scenario, facts: Facts, cards: Cards, comparisons: Sequence[Measured]) -> None:
        self.scenario, self.facts, self.comparisons = scenario, facts, comparisons
        self.chip, self.chips, self.mfu = cards.chip, cards.count, cards.mfu
        self.price = cards.price
        self.row = max(64, math.ceil(scenario.data.tokens_per_row / 64) * 64)

    def all(self) -> Iterator[Option]:
        yield self.scratch()
        for name in self.scenario.models:
            model = find_model(name, self.facts)
            for method in ("full", "frozen", "lora", "qlora"):
                yield self.tuned(model, method)
        for name in self.scenario.apis:
            yield self.api(name)

    def scratch(self) -> Option:
        """The model that is the best use of the deadline, if it had the data that it wants."""
        flops = self.scenario.days * DAY * self.chips * self.chip.tflops * 1e12 * self.mfu.middle / 2
        parameters = math.sqrt(flops / (6 * TOKENS_PER_PARAMETER))
        model = of_size(parameters)
        wanted = TOKENS_PER_PARAMETER * parameters
        there = self.scenario.data.tokens
        plan, how = self.plan(model, "scratch", wanted)
        limits = []
        if worth(there, 100 * there) < wanted:
            limits.append(
                Message(
                    N_(
                        "it is short of data, not of compute: a model of {size} parameters wants {wanted} tokens, "
                        "there are {there}"
                    ),
                    {"size": f"{parameters:.2g}", "wanted": f"{wanted:.2g}", "there": f"{there:.2g}"},
                )
            )
        return self.option("scratch", model, plan, how, limits, attempts=1)

    def tuned(self, model: Model, method: str) -> Option:
        """A pretrained model, fine-tuned on the rows."""
        plan, how = self.plan(model, method, self.scenario.data.tokens * self.scenario.epochs)
        limits = [] if self.scenario.data.labelled else [Message(N_("the rows have no answers to learn from"))]
        if method == "frozen" and not self.scenario.classes:
            limits.append(Message(N_("a frozen body answers in classes, and texts are wanted")))
        return self.option(method, model, plan, how, limits, attempts=self.scenario.attempts)

    def plan(self, model: Model, method: str, tokens: float) -> tuple[Plan, str]:
        """With the gentlest settings that fit: from float32 states to 16-bit ones and recomputation."""
        work = Work(
            *(1, self.row),
            method=method,
            precision="pure" if method in ("lora", "qlora") else "bfloat16",
            classes=self.scenario.classes,
            packed=False,
            base=CONTEXT_BYTES,
            accelerator=True,
            ranks=self.chips,
            shard="weights" if self.chips > 1 else "none",
        )
        ways = [("", work), (N_("recomputation"), replace(work, recompute=True))]
        if method in ("full", "scratch"):
            lean = replace(work, precision="pure", optimiser="adamw8bit", recompute=True)
            ways.append((N_("16-bit weights, 8-bit Adam, recomputation"), lean))
        room = (1 - RESERVE) * self.chip.memory
        fitting = (way for way in ways if memory(model.architecture, way[1])["total"] <= room)
        how, chosen = next(fitting, ways[-1])
        wanted = Wanted(model, self.chip, self.chips, chosen, tokens, None, self.price, 0.0, 1.0, self.mfu)
        return calculate(wanted, search=False), how

    def option(self, method: str, model: Model, plan: Plan, how: str, limits: list[Message], attempts: float) -> Option:
        seconds = plan.seconds or exactly(0.0)
        training = (plan.dollars or exactly(0.0)) * attempts
        answering, cards = self.answering(model)
        evidence = self.facts.find("evidence", method)
        setup = _interval(evidence["setup"])
        working = seconds * (attempts / DAY)
        days = Interval(setup.low + working.low, setup.middle + working.middle, setup.high + working.high)
        difference = self.difference(method, model)
        if not plan.fits:
            limits.append(
                Message(
                    N_("it takes {need:bytes}, and {room:bytes} of a card may be used"),
                    {"need": plan.memory["total"], "room": plan.room},
                )
            )
        if cards is None:
            limits.append(Message(N_("the model does not fit into the card to answer")))
        attributes = {
            "cost": _sum(training, answering * self.scenario.months),
            "days": days,
            "quality": self.quality(difference),
            "control": _interval(evidence["control"]),
            "risk": _interval(evidence["risk"]),
        }
        limits += self.limits(attributes)
        needs = plan.memory["total"]
        plain = (
            16.0 * model.parameters if method == "full" else 0.0
        )  # 4 for weight and gradient each, 8 for two moments
        seen = tuple(self.seen(method, model))
        return Option(
            *(method, model.name, attributes, training, answering, difference, needs, tuple(limits), how, plain, seen)
        )

    def api(self, name: str) -> Option:
        """Prompting a model behind an API, which costs by the token and nothing to train."""
        price, traffic = self.facts.api(name), self.scenario.traffic
        month = traffic.answers_per_month * (traffic.tokens_in * price.input + traffic.tokens_out * price.output) / 1e6
        evidence = self.facts.find("evidence", evidence_of("api", name))
        difference = _interval(evidence[self.scenario.task])
        answering = Interval(0.8 * month, month, 1.25 * month)  # how long prompts and answers turn out
        attributes = {
            "cost": answering * self.scenario.months,
            "days": _interval(evidence["setup"]),
            "quality": self.quality(difference),
            "control": _interval(evidence["control"]),
            "risk": self.vendor_risk(evidence["risk"]),
        }
        limits = []
        if not self.scenario.data.may_leave:
            limits.append(Message(N_("the texts may not leave, and it reads them")))
        limits += self.limits(attributes)
        return Option("api", name, attributes, exactly(0.0), answering, difference, None, tuple(limits))

    def vendor_risk(self, risk: list[float]) -> Interval:
        """Of an API, with what texts of people add to it."""
        if not self.scenario.data.personal:
            return _interval(risk)
        return _clipped(_sum(_interval(risk), _interval(self.facts.find("evidence", "personal")["risk"])))

    def answering(self, model: Model) -> tuple[Interval, int | None]:
        """US dollars of a month, and cards that answer: memory speed · rows at once / bytes of the weights, at half of that."""
        traffic = self.scenario.traffic
        row = max(1, round(traffic.tokens_in + traffic.tokens_out))
        for bits in (16.0, 4.5):  # 4-bit weights with their scales, where 16 bits leave no room
            needs = serving_memory(model.architecture, row, bits=bits)
            left = (1 - RESERVE) * self.chip.memory - needs["weights"] - needs["base"]
            rows = min(AT_ONCE, int(left // needs["kv_cache"]))
            if rows > 0:
                speed = 0.5 * rows * self.chip.bandwidth / (model.active * bits / 8)
                busy = 3 * traffic.answers_per_month * traffic.tokens_out  # three times the mean, for the busy hours
                cards = max(1, math.ceil(busy / (speed * MONTH * HOUR)))
                return self.price * (MONTH * cards), cards
        return exactly(0.0), None

    @property
    def reference(self) -> Interval:
        return _interval(self.facts.find("evidence", "reference")[self.scenario.task])

    def difference(self, method: str, model: Model) -> Interval:
        """Points over the reference: the method's range, and the base's size."""
        task = self.scenario.task
        cited = _interval(self.facts.find("evidence", method)[task])
        seen = [difference for _, difference in self.seen(method, model)]
        if seen:
            cited = beside_cited(cited, _interval(self.facts.find("evidence", "full")[task]), seen)
        parts = [cited]
        if method != "scratch":
            doublings = math.log2(model.parameters / BASE_SIZE)
            step = _interval(self.facts.find("evidence", "doubling")[task])
            ends = sorted((step.low * doublings, step.high * doublings))
            parts.append(Interval(ends[0], step.middle * doublings, ends[1]))
        return _sum(*parts)

    def seen(self, method: str, model: Model) -> list[tuple[str, Interval]]:
        """What was measured of a method; comparisons are of narrow tasks."""
        if self.scenario.task != "narrow":
            return []
        return differences_for(method, model.parameters, self.comparisons)

    def quality(self, difference: Interval) -> Interval:
        """Points of 100: the reference and the difference as independent ranges."""
        return _clipped(_sum(self.reference, difference))

    def limits(self, attributes: dict[str, Interval]) -> list[Message]:
        """Deadline, budget and quality: broken where even the good end of the interval lies beyond them."""
        scenario, found = self.scenario, []
        if attributes["days"].low > scenario.days:
            found.append(Message(N_("it is not ready in {days} days"), {"days": scenario.days}))
        if attributes["cost"].low > scenario.budget:
            text = N_("with {months} months of answers it costs {cost:money} or more")
            found.append(Message(text, {"months": scenario.months, "cost": attributes["cost"].low}))
        if attributes["quality"].high < scenario.minimum_quality:
            text = N_("it reaches {quality:0} points at best, {least:0} are needed")
            found.append(Message(text, {"quality": attributes["quality"].high, "least": scenario.minimum_quality}))
        return found


def _interval(ends: list[float]) -> Interval:
    return Interval(ends[0], (ends[0] + ends[1]) / 2, ends[1])


def _sum(*parts: Interval) -> Interval:
    """The sum of independent figures: their half widths add up as squares."""
    middle = sum(part.middle for part in parts)
    low = math.hypot(*(part.middle - part.low for part in parts))
    return Interval(middle - low, middle, middle + math.hypot(*(part.high - part.middle for part in parts)))


def _clipped(points: Interval) -> Interval:
    return Interval(*(min(100.0, max(0.0, value)) for value in (points.low, points.middle, points.high)))

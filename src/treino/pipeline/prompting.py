"""Fine-tuning that trains nothing: what is sent to a remote model is chosen on validation, and what it costs said before."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from treino import environment, events, files
from treino.corpus.labelled.read import classes_of
from treino.corpus.labelled.split import LabelledRow, read_split
from treino.errors import DoesNotFit, UsageError
from treino.messages import N_
from treino.models.answers import FOLDER, Answers
from treino.models.prompted import Count, Prompt, Prompted, masked
from treino.models.remote import Remote
from treino.models.several import HALF
from treino.pipeline.finetuning import (
    BASELINES,
    BASELINES_FILE,
    CLASSIFIER,
    LABELLED,
    TRIALS_FILE,
    Splits,
    main_figures,
    measured_on,
)
from treino.pipeline.gate import judge_gate, smallest_margin
from treino.pipeline.stage import Work
from treino.pipeline.store import Store
from treino.planning.asking import dollars, forecast
from treino.planning.facts import ApiPrice, Facts
from treino.recipe import Recipe, RemoteSettings, is_local

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT_FILE = "prompt.json"
NONE = ""
"""In place of a class: a text that has none of several."""

PREVIEWED = 2
"""Requests that are shown before the first is sent, where the recipe allows examples."""


def prompt(work: Work) -> dict[str, Any]:
    """Choose how many examples are shown, by asking about the validation rows; writes `prompt.json`."""
    recipe, splits = work.loaded.recipe, Splits(work.inputs[LABELLED])
    training = read_split(work.inputs[LABELLED], "training")
    kinds: Counter[str] = Counter()
    validation, test = (splits.examples(name) for name in ("validation", "test"))
    asked, judged = masked(validation.texts, kinds), masked(test.texts, kinds)
    tried = list(dict.fromkeys(recipe.remote.shots))
    prompts = [_prompt(recipe, splits, training, shots, kinds) for shots in tried]
    price = price_of(recipe.remote)
    with _asking(work) as made:
        candidates = [made(candidate) for candidate in prompts]
        questions = [(one, asked) for one in candidates] + [(max(candidates, key=_size), judged)]
        expected = _announce(work, questions, kinds, price)
        rows = [
            _trial(work, splits, one, shots, asked, validation.targets)
            for shots, one in zip(tried, candidates, strict=True)
        ]
    chosen = max(range(len(rows)), key=lambda number: (rows[number]["value"], -number))
    counts = _total([one.count for one in candidates])
    files.write_json(work.output / PROMPT_FILE, asdict(prompts[chosen]))
    files.make_private(work.output / "records")
    files.write_json(work.output / TRIALS_FILE, {"rows": rows, "chosen": chosen})
    return {
        "method": recipe.finetune.method,
        "settings": recipe.remote.model_dump(mode="json"),
        "trials": rows,
        "chosen": chosen,
        "passed_on_validation": rows[chosen]["passed"] if recipe.gate.require else None,
        "validation": rows[chosen]["figures"],
        "parameters": {"trainable": 0, "total": None},
        "train_seconds": None,
        "local": is_local(recipe.remote.address),
        "shots": tried[chosen],
        "masked": dict(kinds),
        "without": candidates[chosen].without,
        "forecast": expected,
        "asked": _facts_of(counts, price),
    }


def judged_by_prompt(work: Work, texts: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
    """Probabilities for the test rows, and what asking took: {row_seconds, asked, graded}."""
    price, kinds = price_of(work.loaded.recipe.remote), Counter()
    values = files.read_json(work.inputs[CLASSIFIER] / PROMPT_FILE)
    examples = tuple((text, label) for text, label in values.pop("examples"))
    labels = tuple(values.pop("labels"))
    with _asking(work) as made:
        prompted = made(Prompt(**values, labels=labels, examples=examples))
        asked = masked(texts, kinds)
        _announce(work, [(prompted, asked)], kinds, price)
        chances = prompted.predict(asked)
    facts = {"asked": _facts_of(prompted.count, price), "graded": prompted.graded}
    return chances, facts | {"row_seconds": prompted.count.seconds / max(1, prompted.count.requests)}


def price_of(settings: RemoteSettings) -> ApiPrice:
    """US dollars for a million tokens: the recipe's, else those of the table; nothing for a model on this machine.

    Raises:
        UsageError: where nobody knows.
    """
    today = datetime.date.today()
    if settings.price:
        return ApiPrice(settings.model, settings.price[0], settings.price[1], today, "recipe")
    if is_local(settings.address):
        return ApiPrice(settings.model, 0.0, 0.0, today, "local")
    try:
        price = Facts(environment.configuration_folder()).api(settings.model)
    except UsageError:
        raise UsageError(
            N_("what {model} costs at {address} is in no table of prices"),
            fix=N_("say it: [remote] price = [0.15, 0.60], US dollars for a million tokens read and written"),
            model=settings.model,
            address=settings.address,
        ) from None
    if price.stale(today):
        events.emit("warning.old_price", model=price.name, date=price.date.isoformat())
    return price


@contextlib.contextmanager
def _asking(work: Work) -> Iterator[Callable[[Prompt], Prompted]]:
    """Makes prompts askable: by one remote, with the answers of this runs folder, and an eye on the money."""
    settings = work.loaded.recipe.remote
    answers = Answers(Store(work.runs).folder / FOLDER, settings.address, settings.model)
    remote = Remote(settings.address, timeout=settings.timeout)
    price, counts, before = price_of(settings), [], _spent_before(work)

    def watch(_: Count) -> None:
        spent = before + sum(dollars(price, count.sent_in, count.sent_out) for count in counts)
        if spent > settings.limit:
            raise _too_dear(spent, settings.limit)

    def made(prompt: Prompt) -> Prompted:
        prompted = Prompted(prompt, remote, answers, at_once=settings.at_once, watch=watch)
        counts.append(prompted.count)
        return prompted

    try:
        yield made
    finally:
        remote.close()


def _spent_before(work: Work) -> float:
    """US dollars that this run has spent on answers in an earlier stage."""
    asked = (record["facts"].get("asked") for record in work.records if record["state"] == "ran")
    return sum(facts["spent"] for facts in asked if facts)


def _prompt(recipe: Recipe, splits: Splits, training: list[LabelledRow], shots: int, kinds: Counter[str]) -> Prompt:
    shown = examples(training, splits.labels, shots, recipe.seed, several=splits.several)
    texts = masked([row.text for row in shown], kinds)
    settings = recipe.remote
    return Prompt(
        settings.address,
        settings.model,
        tuple(splits.labels),
        tuple((text, row.label) for text, row in zip(texts, shown, strict=True)),
        settings.instruction,
        settings.answer_tokens,
        splits.several,
    )


def examples(
    rows: Sequence[LabelledRow], labels: Sequence[str], shots: int, seed: int, *, several: bool = False
) -> list[LabelledRow]:
    """So many rows of each class (all, where a class has fewer), drawn by a hash of seed and row, and shuffled by it. Where a
    text may have several classes, a row counts for each of them, and as many rows without any are shown, too.
    """

    def order(row: LabelledRow) -> str:
        return hashlib.sha256(f"{seed}\0shown\0{row.id}".encode()).hexdigest()

    drawn = sorted(rows, key=order)
    kinds = {row.id: set(classes_of(row.label)) or {NONE} if several else {row.label} for row in drawn}
    shown: dict[str, LabelledRow] = {}
    for kind in [*labels, *([NONE] if several else [])]:
        there = sum(kind in kinds[name] for name in shown)
        more = [row for row in drawn if kind in kinds[row.id] and row.id not in shown]
        shown |= {row.id: row for row in more[: max(0, shots - there)]}
    return sorted(shown.values(), key=order)


def _size(prompted: Prompted) -> int:
    return len(prompted.prompt.examples)


def _announce(
    work: Work, questions: Sequence[tuple[Prompted, Sequence[str]]], kinds: Mapping[str, int], price: ApiPrice
) -> dict[str, Any]:
    """Say what will leave and what it will cost, before anything does.

    Raises:
        DoesNotFit: where that is more than the recipe's limit.
    """
    recipe, remote = work.loaded.recipe, work.loaded.recipe.remote
    new = [(one.prompt, text) for one, texts in questions for text in one.unanswered(texts)]
    talks = [[message["content"] for message in prompt.messages(text)] for prompt, text in new]
    expected = forecast(talks, remote.answer_tokens, price)
    known = sum(len(texts) for _, texts in questions) - len(new)
    texts = {text for _, text in new} | {shown for prompt, _ in new for shown, _ in prompt.examples}
    said = {"address": remote.address, "model": remote.model, **asdict(expected), "known": known, "limit": remote.limit}
    if new:
        events.emit("remote.forecast", **said)
    if expected.cost > remote.limit:
        raise _too_dear(expected.cost, remote.limit)
    if new:
        leaving = {
            "texts": len(texts),
            "bytes": sum(len(text.encode()) for text in texts),
            "masked": sum(kinds.values()),
        }
        if is_local(remote.address):
            events.emit("remote.local", address=remote.address, **leaving)
        else:
            events.emit("remote.leaving", address=remote.address, **leaving)
    for talk in talks[:PREVIEWED] if recipe.report.examples else []:
        events.emit("remote.preview", said="\n".join(talk))
    return said | {"masked": dict(kinds)}


def _too_dear(cost: float, limit: float) -> DoesNotFit:
    return DoesNotFit(
        N_("asking would cost about US$ {cost:4}, and remote.limit allows US$ {limit:4}"),
        fix=N_("raise remote.limit, ask about fewer rows (labels.test, labels.validation), or show fewer examples"),
        cost=cost,
        limit=limit,
    )


def _trial(
    work: Work, splits: Splits, prompted: Prompted, shots: int, texts: Sequence[str], targets: Sequence[Any]
) -> dict[str, Any]:
    """One number of examples, judged on validation; without validation rows nothing is asked."""
    recipe = work.loaded.recipe
    row: dict[str, Any] = {"tried": {"shots": shots}, "value": 0.0, "passed": True, "gate": [], "figures": None}
    if not texts:
        return row | {"seconds": None}
    events.emit("remote.trial", shots=shots)
    measures = measured_by_answers(recipe, splits, targets, prompted.predict(texts), prompted.graded)
    gate = judge_gate(
        recipe.gate.require, measures, files.read_json(work.inputs[BASELINES] / BASELINES_FILE)["validation"]
    )
    return row | {
        "value": smallest_margin(gate) if gate else measures["macro_f1"]["mean"],
        "passed": bool(gate) and all(item["passed"] for item in gate),
        "gate": gate,
        "figures": main_figures(measures),
        "seconds": prompted.count.seconds,
    }


def measured_by_answers(
    recipe: Recipe, splits: Splits, targets: Sequence[Any], chances: np.ndarray, graded: bool
) -> dict[str, Any]:
    """All measures; what needs probabilities is left out where the server gives none."""
    halves = [HALF] * len(splits.labels) if splits.several else None
    measures = measured_on(recipe, targets, chances, splits.labels, halves)
    without = {"log_loss": None, "calibration_error": None, "reliability": [], "thresholds": None}
    return measures if graded else measures | {name: value for name, value in without.items() if name in measures}


def _total(counts: Sequence[Count]) -> Count:
    whole = Count()
    for count in counts:
        for name, value in vars(count).items():
            setattr(whole, name, getattr(whole, name) + value)
    return whole


def _facts_of(count: Count, price: ApiPrice) -> dict[str, Any]:
    """What asking took, by the server's own count of tokens: `cost` of all answers, `spent` on those that were sent for now."""
    return {
        "requests": count.requests,
        "sent": count.sent,
        "tokens_in": count.tokens_in,
        "tokens_out": count.tokens_out,
        "estimated": count.estimated,
        "unanswered": count.unanswered,
        "troubles": dict(count.troubles),
        "seconds": count.seconds,
        "cost": dollars(price, count.tokens_in, count.tokens_out),
        "spent": dollars(price, count.sent_in, count.sent_out),
        "price": {"input": price.input, "output": price.output, "date": price.date.isoformat(), "source": price.source},
    }

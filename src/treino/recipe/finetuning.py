"""Settings of what follows pretraining: labelled rows, fine-tuning, the search for its settings, and the gate."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from treino.messages import N_
from treino.recipe.base import DERIVED, Settings, setting

MEASURES = ("accuracy", "macro_f1", "micro_f1", "calibration_error", "log_loss")
"""Measures of a classifier that a gate may ask for; and, of one class, those of `CLASS_MEASURES`."""

CLASS_MEASURES = ("precision", "recall", "f1")
BASELINES = ("majority", "tfidf")

CHAT_MEASURES = ("loss", "end_of_turn")
"""Measures of a model that answers, on held-out conversations: nats per token of the answers, P(end of turn) at their ends."""

CHAT_BASELINES = ("before",)
"""The base model as it was."""

ADAPTED = ("lora", "qlora")
"""Methods that train adapters."""

CURES = {
    "l2_sp": ("full",),
    "ewc": ("full",),
    "rehearsal": ("full", *ADAPTED),
    "distillation": ("full", *ADAPTED),
}
"""Cures for forgetting, and the methods that leave them something to do."""

CURES_BY_OLD_TEXT = ("ewc", "rehearsal")

_CONDITION = re.compile(
    r"^\s*(?P<measure>[^<>=]+?)\s*(?P<sign>>=|<=)\s*"
    r"(?:(?P<baseline>[a-z]+)\s*(?:(?P<step>[+-])\s*(?P<margin>\d*\.?\d+))?|(?P<number>\d*\.?\d+))\s*$"
)


@dataclass(frozen=True)
class Condition:
    """A threshold of the gate: `measure` (of a class, where it is "f1.positivo") at least or at most `number`, counted
    from a baseline's figure where one is named.
    """

    text: str
    measure: str
    label: str
    at_least: bool
    baseline: str
    number: float


def parse_condition(text: str) -> Condition:
    """`"macro_f1 >= tfidf + 0.02"` → its parts; `ValueError` with what is unknown in it."""
    match = _CONDITION.match(text)
    if not match:
        raise ValueError(text)
    measure, _, label = match["measure"].partition(".")
    if measure not in (CLASS_MEASURES if label else MEASURES + CHAT_MEASURES):
        raise ValueError(match["measure"])
    if match["baseline"] and match["baseline"] not in BASELINES + CHAT_BASELINES:
        raise ValueError(match["baseline"])
    number = float(match["number"] or match["margin"] or 0)
    return Condition(
        text.strip(),
        measure,
        label,
        match["sign"] == ">=",
        match["baseline"] or "",
        -number if match["step"] == "-" else number,
    )


def _check_condition(value: str) -> str:
    try:
        parse_condition(value)
    except ValueError as error:
        known = ", ".join((*MEASURES, *(f"{name}.CLASS" for name in CLASS_MEASURES), *CHAT_MEASURES))
        beside = ", ".join(BASELINES + CHAT_BASELINES)
        values = {"unknown": str(error), "known": known, "baselines": beside}
        raise PydanticCustomError("condition", "not a condition", values) from None
    return value


class LabelSettings(Settings):
    """[labels]: texts with the class that each belongs to."""

    source: str = setting(
        "", N_('a file of texts with labels, or "world" (moods of the town); none: no fine-tuning'), beginner=True
    )
    rows: tuple[tuple[str, str], ...] = setting((), N_("pairs of text and label written here, instead of a file"))
    text: str = setting("", N_("column or key of the text (empty: found by its name)"), beginner=True)
    label: str = setting("", N_("column or key of the label (empty: found by its name)"), beginner=True)
    columns: tuple[str, ...] = setting(
        (), N_("columns of numbers, one a class: a text has every class whose number is large enough, or none")
    )
    at_least: float = setting(
        1.0, N_("number in such a column from which on the text has its class"), allow_inf_nan=False
    )
    separator: str = setting(
        "", N_('what stands between several classes of one text in the column of the label, such as ";"')
    )
    group: str = setting("", N_("column or key of what must not be spread over the splits, such as an author"))
    limit: int = setting(0, N_("learn from at most so many labelled rows (0: all)"), ge=0)
    validation: float = setting(
        0.15, N_("share of the rows that tuning and early stopping look at"), beginner=True, ge=0, lt=0.5
    )
    test: Annotated[float, Field(ge=0, lt=1)] | str = setting(
        0.2, N_("share of the rows, or a file of its own, that judges the final model once"), beginner=True
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> LabelSettings:
        if self.source and self.rows:
            raise PydanticCustomError("labels", "a source or rows")
        if self.columns and (self.label or self.separator or self.rows):
            raise PydanticCustomError("label_columns", "columns of classes or a column of labels")
        return self

    @property
    def given(self) -> bool:
        """Whether there is anything to fine-tune on."""
        return bool(self.source or self.rows)


class FinetuneSettings(Settings):
    """[finetune]: how a pretrained model learns its task, of labelled texts or of conversations."""

    base: str = setting("", N_("run or model folder to start from (empty: the model that this recipe pretrains)"))
    method: Literal["full", "frozen", "scratch", "lora", "qlora", "prompt"] = setting(
        "full",
        N_(
            '"full" trains body and head, "frozen" the head alone, "lora" the head and small adapters, "qlora" the same '
            'beside weights in 4 bits, "scratch" forgets the pretraining, "prompt" trains nothing and asks a [remote] model'
        ),
        beginner=True,
    )
    lora_rank: int = setting(16, N_("rank of the adapters' matrices"), ge=1, le=4096)
    lora_alpha: float = setting(32.0, N_("an adapter is scaled by this over its rank"), gt=0, le=1e6)
    lora_targets: tuple[str, ...] = setting(
        ("all",), N_('linear layers that get adapters: "all", or names such as "q" and "v"'), min_length=1
    )
    lora_dropout: float = setting(
        0.0, N_("share of an adapter's inputs switched off at random while training"), ge=0, lt=1
    )
    stream: bool = setting(
        False,
        N_('"qlora": the layers stay on disk and pass through memory two at a time, for a model that does not fit'),
    )
    rslora: bool = setting(False, N_("scale by alpha over the root of the rank, for large ranks"))
    lora_plus: float = setting(
        1.0, N_("learning rate of an adapter's second matrix over that of its first"), gt=0, le=1000
    )
    freeze: Literal["nothing", "embeddings"] | Annotated[int, Field(ge=0)] = setting(
        "nothing", N_('what stays as pretrained with "full": "embeddings", or the first layers, so many')
    )
    l2_sp: float = setting(0.0, N_("cure for forgetting: pull towards the base model's weights"), ge=0, le=1e9)
    ewc: float = setting(
        0.0, N_("cure for forgetting: the same, each weight by what the old task needs of it"), ge=0, le=1e9
    )
    ewc_rows: int = setting(64, N_("rows of old text from which that is measured"), ge=1, le=1_000_000)
    ewc_labels: Literal["sampled", "empirical"] = setting(
        "sampled",
        N_('the tokens that it is measured with: "sampled" from the model, or those of the text ("empirical")'),
    )
    rehearsal: float = setting(0.0, N_("cure for forgetting: share of old text among the rows of a step"), ge=0, lt=1)
    distillation: float = setting(
        0.0, N_("cure for forgetting: weight of the base model's answers to the new texts"), ge=0, le=1e6
    )
    epochs: int = setting(20, N_("most passes over the training rows"), beginner=True, ge=1, le=10_000)
    batch: int = setting(DERIVED, N_("rows that are learnt from together"), ge=0, le=65536)
    learning_rate: float = setting(0.0, N_("length of a step (0: from the method and the width)"), ge=0, le=10)
    warmup: float = setting(0.1, N_("share of the steps in which the learning rate rises"), ge=0, lt=1)
    weight_decay: float = setting(0.01, N_("pull of the matrices towards zero"), ge=0, le=10)
    dropout: float = setting(0.1, N_("share of the signals switched off at random while training"), ge=0, lt=1)
    patience: int = setting(6, N_("epochs without a better validation loss before it stops (0: never)"), ge=0)
    thresholds: Literal["half", "validation"] = setting(
        "half",
        N_(
            'of texts with several classes: from which probability on a class counts, "half", or the best for its F1 on '
            '"validation"'
        ),
    )
    class_weights: bool = setting(False, N_("rare classes count as much as frequent ones"))
    long_texts: Literal["", "cut", "split", "drop"] = setting(
        "",
        N_('texts longer than the context: "cut", "split" (the parts vote; conversations between exchanges) or "drop"'),
        beginner=True,
    )
    optimiser: Literal["adamw", "adamw8bit"] = setting(
        "adamw", N_('"adamw", or with its two moments in 8 bits instead of 32 ("adamw8bit"), to save memory')
    )
    precision: Literal["float32", "bfloat16"] = setting("float32", N_("number format of the matrix products"))
    seed: int = setting(0, N_("start of the fine-tuning's random choices (0: the recipe's seed)"), ge=0, le=2**31 - 1)
    checkpoint_seconds: float = setting(30.0, N_("seconds between two saved states (0: every step)"), ge=0)


class SearchSettings(Settings):
    """[search]: other fine-tuning settings, tried until the gate is passed on validation."""

    trials: int = setting(
        1, N_("most settings to try; the first are those of the recipe"), beginner=True, ge=1, le=1000
    )
    vary: tuple[Literal["learning_rate", "epochs", "dropout", "weight_decay", "lora_rank"], ...] = setting(
        ("learning_rate", "epochs", "dropout"), N_("what the trials change"), min_length=1
    )


class GateSettings(Settings):
    """[gate]: what the fine-tuned model must reach."""

    require: tuple[Annotated[str, AfterValidator(_check_condition)], ...] = setting(
        (),
        N_(
            'thresholds such as "accuracy >= 0.8" or "macro_f1 >= tfidf + 0.02"; of answers to held-out conversations '
            '"loss <= before - 0.1" or "end_of_turn >= 0.5"'
        ),
        beginner=True,
    )

"""Settings of the pretraining stage, of the evaluation and of the report."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from treino.messages import N_
from treino.recipe.base import DERIVED, Settings, setting

_UNITS = {
    "token": "tokens",
    "tokens": "tokens",
    "min": "minutes",
    "minute": "minutes",
    "minutes": "minutes",
    "minuto": "minutes",
}
_UNITS |= {"minutos": "minutes", "epoch": "epochs", "epochs": "epochs", "step": "steps", "steps": "steps"}
_BUDGET = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kMB]?)\s*([A-Za-z]+)\s*$")


def parse_budget(budget: str) -> tuple[float, str]:
    """`"2M tokens"` → (2e6, "tokens"); units: tokens, minutes, epochs, steps. `ValueError` for anything else."""
    match = _BUDGET.match(budget)
    unit = _UNITS.get(match[3]) if match else None
    if not match or not unit or float(match[1]) <= 0:
        raise ValueError(budget)
    return float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "B": 1e9}[match[2]], unit


def _check_budget(value: str) -> str:
    try:
        parse_budget(value)
    except ValueError:
        raise PydanticCustomError("budget", "not a budget") from None
    return value


class PretrainSettings(Settings):
    """[pretrain]: learning to predict the next token."""

    base: str = setting(
        "",
        N_("run or model folder to go on from: its weights, shape and tokenizer (empty: a fresh model)"),
    )
    method: Literal["full", "lora", "qlora", "frozen", "scratch"] = setting(
        "full",
        N_(
            'how a base model goes on: "full" trains it as a whole, "lora" an adapter beside its layers, "qlora" the same '
            "beside layers in 4 bits"
        ),
    )
    lora_rank: int = setting(64, N_("rank of that adapter: a text asks for more than a task does"), ge=1, le=4096)
    budget: Annotated[str, AfterValidator(_check_budget)] = setting(
        "2M tokens", N_('how long to train: "2M tokens", "10 min", "100 epochs" or "500 steps"'), beginner=True
    )
    batch: int = setting(DERIVED, N_("rows that are learnt from together, in one pass"), ge=0, le=65536)
    accumulation: int = setting(1, N_("passes whose gradients are added up for one step"), ge=1, le=65536)
    window: int = setting(
        0, N_("learn only the word after windows of so many words (0: every next token)"), ge=0, le=1024
    )
    isolate_documents: bool = setting(True, N_("documents packed into one row do not see each other"))
    learning_rate: float = setting(0.0, N_("length of a step (0: from the width)"), beginner=True, ge=0, le=10)
    schedule: Literal["auto", "cosine", "wsd", "constant"] = setting(
        "auto",
        N_(
            "how the learning rate falls after the warm-up (wsd: over the last 40 % of the steps); auto: wsd for a fresh "
            "Transformer, else cosine"
        ),
    )
    optimiser: Literal["auto", "adamw", "muon"] = setting(
        "auto",
        N_(
            '"adamw", or "muon" for the matrices of the layers and AdamW for the rest; auto: muon for a fresh Transformer'
        ),
    )
    warmup: float = setting(0.05, N_("share of the steps in which the learning rate rises"), ge=0, lt=1)
    final_learning_rate: float = setting(0.05, N_("share of the learning rate left at the end"), ge=0, le=1)
    weight_decay: float = setting(0.1, N_("pull of the matrices towards zero"), ge=0, le=10)
    beta2: float = setting(0.95, N_("memory of AdamW for the size of gradients"), gt=0, lt=1)
    clip: float = setting(1.0, N_("longest gradient that is followed as it is (0: no limit)"), ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto", N_("number format; auto: the one that this machine is quick in (treino doctor says which, and why)")
    )
    compile: Literal["auto", "yes", "no"] = setting(
        "auto", N_("compile the training step; auto does so where the run is long enough for it to pay")
    )
    recompute: Literal["auto", "yes", "no"] = setting(
        "auto", N_("compute layers again in the backward pass, to save memory; auto: where it would not fit otherwise")
    )
    shard: Literal["auto", "ddp", "fsdp"] = setting(
        "auto",
        N_('several processes: each with the whole model ("ddp") or a part of it ("fsdp"); auto: ddp where it fits'),
    )
    log_every: int = setting(DERIVED, N_("steps between two lines of progress"), ge=0)
    validate_every: int = setting(DERIVED, N_("steps between two looks at the validation text and the sample"), ge=0)
    checkpoint_seconds: float = setting(30.0, N_("seconds between two saved states (0: every step)"), ge=0)
    sample_prompt: str = setting("O gato", N_("beginning that the model goes on with while it learns"), beginner=True)


class EvaluateSettings(Settings):
    """[evaluate]: what the finished model is held against."""

    ngrams: bool = setting(True, N_("compare with Kneser-Ney 3-grams and 5-grams over the same tokens"))
    compressor: bool = setting(True, N_("compare with the compressor xz"))
    sample_megabytes: float = setting(16.0, N_("most text that the comparisons read"), gt=0)
    bootstrap: int = setting(1000, N_("resamples behind each interval"), ge=100, le=100_000)


class ReportSettings(Settings):
    """[report]: what the report may show."""

    examples: bool = setting(False, N_("show pieces of the text, which is private otherwise"), beginner=True)

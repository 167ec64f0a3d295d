"""The lab of LoRA's rank: what an adapter has to train, counted on real layers, beside what it learns, measured."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from treino import environment, events
from treino.course.forgetting import base_model
from treino.course.seeds import check, one_thread, repeat
from treino.course.tables import cut, dealt, town
from treino.evaluation.bootstrap import student_interval
from treino.recipe import FinetuneSettings

RANKS = (1, 2, 4, 8, 16, 32, 64)
LAYERS = ((4096, 4096, False), (512, 256, True))
"""Inputs, outputs and whether there is a bias: the layers of the course."""

BYTES = 2
"""Of a number in 16 bits."""

PARTS = {"training": 480, "validation": 0, "test": 400}
QUICK_PARTS = {"training": 160, "validation": 0, "test": 160}
EPOCHS, SEEDS = 3, 4
TRIED_ROWS = 96


@dataclass(frozen=True)
class Job:
    """What a process needs to know to measure all ranks with one seed."""

    base: str
    file: str
    seed: int
    parts: dict[str, int]
    ranks: tuple[int, ...]
    epochs: int = EPOCHS


def counted(inputs: int, outputs: int, bias: bool, rank: int) -> dict[str, Any]:
    """{parameters, trainable, reduction, bytes} of a linear layer with an adapter: counted on modules without memory.

    reduction = 1 − trainable / parameters of the layer; bytes: of the adapter in 16 bits.
    """
    import torch
    from torch import nn

    from treino.models.lora import Lora, LoraShape

    layer = nn.Linear(inputs, outputs, bias=bias, device=torch.device("meta"))
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    adapted = Lora(layer)
    adapted.add("default", LoraShape(rank=rank))
    trainable = sum(value.numel() for name, value in adapted.named_parameters() if "lora_" in name)
    return {
        "inputs": inputs,
        "outputs": outputs,
        "rank": rank,
        "parameters": parameters,
        "trainable": trainable,
        "reduction": 1 - trainable / parameters,
        "bytes": BYTES * trainable,
    }


def ranks_lab(
    file: str | Path | None = None,
    *,
    base: str | Path | None = None,
    seeds: int = SEEDS,
    ranks: Sequence[int] = RANKS,
    quick: bool = False,
    runs: str | Path | None = None,
    listener: events.Listener | None = None,
) -> dict[str, Any]:
    """Run the lab on a table of labelled texts, or on the town's moods.

    Returns {layers (rows of `counted` by layer), measured, seeds, seconds}; a row of `measured`: {method, rank, trainable,
    accuracy ({mean, low, high})}, LoRA by rank between the head alone (`frozen`) and all weights (`full`).

    Raises:
        UsageError: for no seed.
    """
    environment.prepare()
    check(seeds)
    asked = tuple(sorted(set(ranks)))
    asked = asked[::3] if quick else asked
    with events.listening(listener) if listener else contextlib.nullcontext():
        folder = base_model(base, runs)
        parts = QUICK_PARTS if quick else PARTS
        jobs = [Job(str(folder), str(file or ""), seed, parts, asked, 1 if quick else EPOCHS) for seed in range(seeds)]
        started = time.monotonic()
        found = repeat(one_seed, jobs, _expected(jobs[0]))
    measured = [
        {name: row[0][name] for name in ("method", "rank", "trainable")}
        | {"accuracy": asdict(student_interval([one["accuracy"] for one in row]))}
        for row in zip(*found, strict=True)
    ]
    layers = [[counted(*layer, rank) for rank in RANKS] for layer in LAYERS]
    return {"layers": layers, "measured": measured, "seeds": seeds, "seconds": time.monotonic() - started}


def _ways(job: Job) -> list[FinetuneSettings]:
    usual: dict[str, Any] = {"epochs": job.epochs, "batch": 16, "patience": 0, "dropout": 0.0}
    adapted = [FinetuneSettings(method="lora", lora_rank=rank, lora_alpha=2.0 * rank, **usual) for rank in job.ranks]
    return [FinetuneSettings(method="frozen", **usual), *adapted, FinetuneSettings(method="full", **usual)]


def _expected(job: Job) -> float:
    """Seconds of a job, by a few rows with one rank."""
    tried = Job(job.base, job.file, job.seed, {"training": TRIED_ROWS, "validation": 0, "test": 16}, job.ranks[:1], 1)
    started = time.monotonic()
    with one_thread():
        one_seed(tried)
    per_row = (time.monotonic() - started) / (2 * TRIED_ROWS)
    return per_row * (len(job.ranks) + 1) * (job.epochs * job.parts["training"] + job.parts["test"] / 3)


def one_seed(job: Job) -> list[dict[str, Any]]:
    """Accuracy on the test rows of every rank, of the head alone and of all weights."""
    from treino.evaluation.sequence import accuracy
    from treino.training.finetune import Examples, Finetuning

    rows = dealt(Path(job.file), job.parts, job.seed) if job.file else cut(town(job.parts, job.seed)["mood"], job.parts)
    labels = sorted({label for _, label in rows["training"]})

    def examples(part: str) -> Examples:
        return Examples([text for text, _ in rows[part]], [labels.index(label) for _, label in rows[part]])

    tuning = Finetuning(Path(job.base), labels, examples("training"), Examples([], []), long_texts="cut", seed=job.seed)
    test = examples("test").encode(tuning.tokenizer, tuning.body.longest_row, "cut")
    found = []
    for settings in _ways(job):
        with tempfile.TemporaryDirectory(prefix="treino-lab-") as folder:
            classifier, facts = tuning.run(tuning.settled(settings), Path(folder))
        row = {"method": settings.method, "rank": settings.lora_rank if settings.method == "lora" else None}
        found.append(row | {"trainable": facts["parameters"]["trainable"], "accuracy": accuracy(classifier, test)})
    return found

"""The lab of forgetting: one body learns A, then B, then C; A is judged after each, with and without each cure.

All cures set out from the same body that has learnt A, once a seed, and take as many FLOPs for B and C as plain fine-tuning.
Old is what was learnt as a lesson; that the language of the base model suffers as well is a matter of `[[sequence.tasks]]`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from treino import environment, events
from treino.course.seeds import check, one_thread, repeat
from treino.course.tables import Rows, cut, dealt, town
from treino.errors import UsageError
from treino.evaluation.bootstrap import student_interval
from treino.files import remove_folder
from treino.messages import N_
from treino.recipe import FinetuneSettings

STRENGTHS: dict[str, tuple[float, ...]] = {
    "l2_sp": (0.1, 1.0),
    "ewc": (1000.0, 10000.0),
    "rehearsal": (0.1, 0.25),
    "distillation": (0.1, 1.0),
}
"""The strengths at which each cure is drawn; strength 0 is training without one."""

PLAIN = "plain"
SHOWN = ((0, 0), (1, 1), (1, 0), (2, 2), (2, 0))
"""The bars: (phase, task judged after it): A, then B, A again, C, A again."""

PARTS = {"training": 320, "validation": 80, "test": 240}
QUICK_PARTS = {"training": 160, "validation": 40, "test": 80}
EPOCHS, SEEDS = 3, 4
TRIED_STEPS = 6
"""Steps whose time the forecast is taken from."""

BASE_RECIPE: dict[str, Any] = {
    "name": "lab-forgetting",
    "world": {"documents": 4000},
    "pretrain": {"budget": "800k tokens"},
    "evaluate": {"ngrams": False, "compressor": False},
}


@dataclass(frozen=True)
class Job:
    """What a process needs to know to run the lab with one seed."""

    base: str
    files: tuple[str, ...]
    seed: int
    parts: Mapping[str, int]
    strengths: Mapping[str, Sequence[float]]
    epochs: int = EPOCHS


def forgetting_lab(
    files: Sequence[str | Path] = (),
    *,
    base: str | Path | None = None,
    seeds: int = SEEDS,
    quick: bool = False,
    runs: str | Path | None = None,
    listener: events.Listener | None = None,
) -> dict[str, Any]:
    """Run the lab; three tables of labelled texts, or none for the town's.

    Args:
        base: a run or model folder to start from; by default a small model of the town is trained (once).
        quick: fewer texts and one strength a cure: a look at the lab, no measurement.

    Returns {tasks, seeds, seconds, rows, chosen}. A row: {cure, strength, shown, lost, gained, average, flops}, lists by seed:
    the accuracies of the bars (`SHOWN`); of A after A, less that after C; the mean of B and C, each after its phase; the mean
    of all on validation, at the end; FLOPs of B and C. `chosen`: the strength of each cure with the highest mean `average`.

    Raises:
        UsageError: for another number of tables, or of seeds.
    """
    environment.prepare()
    if len(files) not in (0, 3):
        raise UsageError(
            N_("the lab takes three tables of labelled texts, A, B and C, or none"), fix=N_("give three files")
        )
    check(seeds)
    with events.listening(listener) if listener else contextlib.nullcontext():
        folder = base_model(base, runs)
        strengths = {cure: values[1:2] if quick else values for cure, values in STRENGTHS.items()}
        jobs = [
            Job(str(folder), tuple(map(str, files)), seed, QUICK_PARTS if quick else PARTS, strengths)
            for seed in range(seeds)
        ]
        started = time.monotonic()
        found = repeat(one_seed, jobs, _seconds_per_step(jobs[0]) * _steps(jobs[0]))
    rows = [_gather(row) for row in zip(*(one["rows"] for one in found), strict=True)]
    best = {cure: max((row for row in rows if row["cure"] == cure), key=_average)["strength"] for cure in strengths}
    return {
        "tasks": found[0]["tasks"],
        "seeds": seeds,
        "seconds": time.monotonic() - started,
        "rows": rows,
        "chosen": best,
    }


def _average(row: Mapping[str, Any]) -> float:
    return statistics.mean(row["average"])


def base_model(base: str | Path | None, runs: str | Path | None) -> Path:
    """The folder of the model that a lab starts from: a run's, one brought along, or a small one of the town, made once."""
    from treino.pipeline.api import open_run, run
    from treino.pipeline.run_folder import brought_model
    from treino.pipeline.stages import pipeline_of
    from treino.recipe.load import load_recipe

    if base is not None:
        return brought_model(base) or open_run(base, runs=runs).model_folder
    loaded = load_recipe(BASE_RECIPE)
    stages = pipeline_of(loaded.recipe)
    last = [stage.name for stage in stages].index("pretrain")
    return run(loaded, runs=runs, pipeline=stages[: last + 1]).model_folder


def _steps(job: Job) -> int:
    """Steps of plain length in a job: A once, then B and C without a cure and for each strength of each."""
    per_phase = job.epochs * math.ceil(job.parts["training"] / 16)
    return per_phase * (1 + 2 * (1 + sum(map(len, job.strengths.values()))))


def _seconds_per_step(job: Job) -> float:
    """What a step of plain fine-tuning takes here now, judging and the rest counted as a third more."""
    sequence, lessons = _ready(job)
    rows = TRIED_STEPS * 16
    tried = [_first_rows(lesson, rows) for lesson in lessons]
    sequence.lessons = tried
    sequence.settings = sequence.settings.model_copy(update={"epochs": 1})
    with tempfile.TemporaryDirectory() as folder, one_thread():
        _, facts = sequence.learn(sequence.start(), 0, Path(folder))
    return 4 / 3 * facts["train_seconds"] / facts["steps"]


def _first_rows(lesson: Any, count: int) -> Any:
    from dataclasses import replace

    from treino.tokens.labelled import Pieces

    whole: Pieces = lesson.pieces["training"]
    part = Pieces(whole.ids[:count], whole.texts[:count], whole.targets[:count], whole.text_targets, whole.count)
    return replace(lesson, pieces={"training": part})


def _ready(job: Job, **cures: float) -> tuple[Any, list[Any]]:
    """The sequence of a job with its lessons."""
    from treino.models.folder import load_model
    from treino.tokens.labelled import encode
    from treino.training.sequence import Lesson, TaskSequence

    model, tokenizer = load_model(Path(job.base))
    lessons = []
    for name, parts in _tables(job).items():
        labels = tuple(sorted({label for _, label in parts["training"]}))
        pieces = {
            part: encode(
                [text for text, _ in rows],
                [labels.index(label) for _, label in rows],
                tokenizer,
                context=model.longest_row,
                long_texts="cut",
            )
            for part, rows in parts.items()
        }
        lessons.append(Lesson(name, labels, pieces))
    settings = FinetuneSettings(epochs=job.epochs, batch=16, dropout=0.0, **cures)  # type: ignore[arg-type]
    return TaskSequence(model, lessons, settings, seed=job.seed), lessons


def _tables(job: Job) -> dict[str, dict[str, Rows]]:
    """Rows of each task by part."""
    if job.files:
        return {name: dealt(path, job.parts, job.seed) for name, path in _named(job.files).items()}
    return {name: cut(rows, job.parts) for name, rows in town(job.parts, job.seed).items()}


def _named(files: Sequence[str]) -> dict[str, Path]:
    """Files by their names without ending; of those of one name the later ones have a number."""
    found: dict[str, Path] = {}
    for path in map(Path, files):
        names = itertools.chain([path.stem], (f"{path.stem} {number}" for number in itertools.count(2)))
        found[next(name for name in names if name not in found)] = path
    return found


def one_seed(job: Job) -> dict[str, Any]:
    """A once, then B and C without a cure and with each, all judged."""
    from treino.evaluation.sequence import judged

    sequence, lessons = _ready(job)
    with tempfile.TemporaryDirectory(prefix="treino-lab-") as folder:
        first, _ = sequence.learn(sequence.start(), 0, Path(folder))
        ways = [{}] + [{cure: value} for cure, values in job.strengths.items() for value in values]
        begun = judged(first, lessons, 0)
        rows = [_go_on(job, first, begun, way, Path(folder)) for way in ways]
    return {"tasks": [lesson.name for lesson in lessons], "rows": rows}


def _go_on(job: Job, first: Any, begun: float, cure: dict[str, float], folder: Path) -> dict[str, Any]:
    """B and C after what was learnt `first`, of which `begun` is the accuracy."""
    from treino.evaluation.sequence import judged, row_of

    sequence, lessons = _ready(job, **cure)
    state, flops, shown = sequence.remember(first, 0) if "ewc" in cure else first, 0.0, [begun]
    for number in (1, 2):
        remove_folder(folder / "checkpoints")  # those of what was learnt before
        state, facts = sequence.learn(state, number, folder, phase=number)
        flops += facts["flops"]
        shown += [judged(state, lessons, task) for phase, task in SHOWN if phase == number]
    return {
        "cure": next(iter(cure), PLAIN),
        "strength": next(iter(cure.values()), 0.0),
        "shown": shown,
        "lost": shown[0] - shown[4],
        "gained": (shown[1] + shown[3]) / 2,
        "average": statistics.mean(row_of(state, lessons, "validation")),
        "flops": flops,
    }


def _gather(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One way with one strength over all seeds."""
    by_seed = {name: [row[name] for row in rows] for name in ("shown", "lost", "gained", "average", "flops")}
    return {"cure": rows[0]["cure"], "strength": rows[0]["strength"], **by_seed}


def bars_of(found: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The bars' {mean, low, high} of plain fine-tuning and of each cure at its chosen strength."""
    chosen = {PLAIN: 0.0, **found["chosen"]}
    return {
        row["cure"]: [asdict(student_interval(values)) for values in zip(*row["shown"], strict=True)]
        for row in found["rows"]
        if chosen[row["cure"]] == row["strength"]
    }

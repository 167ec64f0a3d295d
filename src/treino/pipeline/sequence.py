"""Sequences of tasks as stages: the tasks' rows, a stage for each phase, and what came of them all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from treino import files
from treino.errors import DataError
from treino.messages import N_
from treino.pipeline.corpus_stages import dump
from treino.pipeline.finetuning import FINETUNING_DECISIONS, QUANTISED
from treino.pipeline.stage import Decisions, Pipeline, Stage, Work
from treino.planning.tuning import ROWS_LOOKED_AT
from treino.recipe import LabelSettings, Recipe
from treino.recipe.load import LoadedRecipe

if TYPE_CHECKING:
    from treino.training.sequence import Learnt, Lesson, TaskSequence

MODEL, TOKENS, TASKS, LEARNT, SEQUENCE = "model", "tokens", "tasks", "learnt", "sequence"
RESULT, PAGE = "sequence.json", "sequence.html"


def _tasks_settings(loaded: LoadedRecipe, language: str) -> Any:
    recipe = loaded.recipe
    world = any(task.source == "world" for task in recipe.sequence.tasks)
    names = [task.name for task in recipe.sequence.tasks]
    settings = {"names": names, "tasks": [dump(labels) for labels in _labels_of(recipe)], "clean": dump(recipe.clean)}
    return settings | ({"world": dump(recipe.world)} if world else {})


def _labels_of(recipe: Recipe) -> list[LabelSettings]:
    """The tasks as tables of labelled rows; shares of validation and test are those of [labels]."""
    return [
        recipe.labels.model_copy(
            update={"source": task.source, "text": task.text, "label": task.label, "limit": task.limit}
        )
        for task in recipe.sequence.tasks
    ]


def _tasks_reads(loaded: LoadedRecipe) -> Any:
    from treino.corpus.labelled.split import label_digests

    found: dict[str, str] = {}
    for labels in _labels_of(loaded.recipe):
        found |= label_digests(labels, loaded.base)
    return found


def _tasks(work: Work) -> dict[str, Any]:
    """Split every task's rows; its folder has its number."""
    from treino.corpus.labelled.split import split

    recipe, facts = work.loaded.recipe, {}
    for number, (task, labels) in enumerate(zip(recipe.sequence.tasks, _labels_of(recipe), strict=True)):
        folder = files.make_private(work.output / str(number))
        found = split(labels, recipe.clean, recipe.world, work.loaded.base, recipe.seed, folder)
        if found.get("several"):
            raise DataError(
                N_("the texts of the task {name} have several classes; a sequence takes tasks of one"), name=task.name
            )
        facts[task.name] = {"labels": found["labels"], "rows": found["rows"]}
        if not found["rows"]["test"]:
            raise DataError(N_("the task {name} has no test rows to be judged by"), name=task.name)
    return facts


def _learn_settings(loaded: LoadedRecipe, phase: int) -> Any:
    recipe = loaded.recipe
    return {
        "phase": recipe.sequence.phases[phase],
        "equal": recipe.sequence.equal,
        "finetune": dump(recipe.finetune, leave_out=("base", "checkpoint_seconds")),
    }


def _named(phase: int) -> dict[str, str]:
    """The decisions of a fine-tuning, as they are called in a phase of a sequence."""
    return {name: name.replace("finetune", f"learn-{phase + 1}", 1) for name in FINETUNING_DECISIONS}


def _decide(work: Work, phase: int) -> Decisions:
    """How the steps of a phase fit into memory, and how fast they are."""
    with tempfile.TemporaryDirectory(dir=work.runs, ignore_cleanup_errors=True) as place:
        sequence, _, _ = _ready(replace(work, output=Path(place)))
        number = work.loaded.recipe.sequence.phases[phase]
        found = sequence.decide(_before(work, sequence, phase), number, phase)
        return {_named(phase)[name]: value for name, value in found.items()}


def _learn(work: Work, phase: int) -> dict[str, Any]:
    """Learn a phase's task on top of what was learnt before, and judge every task and the language after it."""
    import sklearn.linear_model  # noqa: F401  (what probes load is in memory before the forecast counts what is)

    from treino.evaluation.sequence import language_loss, probe, row_of

    recipe = work.loaded.recipe
    number = recipe.sequence.phases[phase]
    sequence, tokenizer, held_out = _ready(work)
    before = _before(work, sequence, phase)
    decisions = {name: work.decisions[locked] for name, locked in _named(phase).items()}
    sequence.foresee(before, number, phase, decisions, work.output, f"learn-{phase + 1}")
    facts: dict[str, Any] = {"task": recipe.sequence.tasks[number].name}
    if not phase:
        facts["before"] = [probe(sequence.base, lesson) for lesson in sequence.lessons]
        facts["language_before"] = _language(sequence.base, sequence, tokenizer, held_out)
    learnt, told = sequence.learn(before, number, work.output, phase)
    facts |= told | _save(sequence, learnt, tokenizer, work.output)
    row = row_of(learnt, sequence.lessons)
    offered = [
        probe(learnt.body, lesson) if number not in learnt.heads else None
        for number, lesson in enumerate(sequence.lessons)
    ]
    loss = language_loss(learnt.body, sequence.base, held_out, tokenizer) if held_out else None
    files.remove_folder(work.output / QUANTISED)
    return facts | {"row": [_or_none(value) for value in row], "offered": offered, "language": loss}


def _language(body: Any, sequence: TaskSequence, tokenizer: Any, held_out: Sequence[np.ndarray]) -> float | None:
    from treino.evaluation.sequence import language_loss

    return language_loss(body, sequence.base, held_out, tokenizer) if held_out else None


def _or_none(value: float) -> float | None:
    return None if value != value else value


def _ready(work: Work) -> tuple[TaskSequence, Any, list[np.ndarray]]:
    """The sequence, the tokenizer, and the held-out documents of the pretraining."""
    from treino.evaluation.forgetting import held_out_documents
    from treino.training.methods import Origin
    from treino.training.sequence import TaskSequence

    recipe, tokens = work.loaded.recipe, work.inputs.get(TOKENS)
    settings, seed = recipe.finetune, recipe.finetune.seed or recipe.seed
    quantised = work.output / QUANTISED
    origin = Origin(work.inputs[MODEL] / "model", seed, tokens, stream=settings.stream, quantised=quantised)
    lessons = [
        _lesson(recipe, work.inputs[TASKS], number, origin.tokenizer, origin.body.longest_row)
        for number in range(len(recipe.sequence.tasks))
    ]
    old_rows = origin.old_rows if tokens else None
    sequence = TaskSequence(origin.body, lessons, settings, seed=seed, old_rows=old_rows, equal=recipe.sequence.equal)
    return sequence, origin.tokenizer, held_out_documents(tokens) if tokens else []


def _lesson(recipe: Recipe, tasks: Path, number: int, tokenizer: Any, context: int) -> Lesson:
    from treino.corpus.labelled.split import LABELS, SPLITS, read_split
    from treino.tokens.labelled import encode
    from treino.training.sequence import Lesson

    folder = tasks / str(number)
    labels: list[str] = files.read_json(folder / LABELS)["labels"]
    pieces = {}
    for part in SPLITS:
        rows = read_split(folder, part)
        targets = [labels.index(row.label) for row in rows]
        pieces[part] = encode(
            [row.text for row in rows], targets, tokenizer, context=context, long_texts=recipe.finetune.long_texts
        )
    return Lesson(recipe.sequence.tasks[number].name, tuple(labels), pieces)


def _save(sequence: TaskSequence, learnt: Learnt, tokenizer: Any, output: Path) -> dict[str, Any]:
    """The body as a model; beside it heads by the task's number, the importance of its weights, and the adapter, which is then
    merged into the body.
    """
    from treino.models.adapter_folder import save_adapter
    from treino.models.folder import save_model
    from treino.models.weights import save_weights
    from treino.training.methods import merge_checked

    heads = {
        f"{number}.{name}": value for number, head in learnt.heads.items() for name, value in head.state_dict().items()
    }
    save_weights(heads, output / "heads.safetensors")
    if learnt.importance is not None:
        save_weights(dict(learnt.importance), output / "importance.safetensors")
    facts = {}
    if sequence.adapted:
        save_adapter(learnt.body, output / "adapter")
        number = next(iter(learnt.heads))
        some = next(iter(sequence.lessons[number].pieces["training"].batches(ROWS_LOOKED_AT)))
        classifier = learnt.classifier(number, sequence.lessons[number])
        facts["merge_difference"] = merge_checked(learnt.body, lambda: classifier(*some.inputs))
    save_model(learnt.body, tokenizer, output / "model")
    return facts


def _before(work: Work, sequence: TaskSequence, phase: int) -> Learnt:
    """What was learnt before a phase."""
    from safetensors.torch import load_file

    from treino.models.classifier import Classifier

    if not phase:
        return sequence.start()
    folder = work.inputs[LEARNT]
    tensors = load_file(folder / "heads.safetensors")
    heads = {}
    for number in sorted({int(name.partition(".")[0]) for name in tensors}):
        head = Classifier(sequence.base, sequence.lessons[number].labels).head
        prefix = f"{number}."
        head.load_state_dict({n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)})
        heads[number] = head
    path = folder / "importance.safetensors"
    return sequence.restored(heads, load_file(path) if path.is_file() else None, folder)


def _conclude(work: Work) -> dict[str, Any]:
    """The matrix of all phases and its measures; as JSON, and as a page."""
    from treino.evaluation.transfer import average_accuracy, backward_transfer, forgetting, forward_transfer
    from treino.report.sequence import sequence_page

    recipe = work.loaded.recipe
    rows = [record["facts"] for record in work.records if record["stage"].startswith("learn-")]
    phases, names = recipe.sequence.phases, [task.name for task in recipe.sequence.tasks]
    matrix = np.array([[float("nan") if value is None else value for value in row["row"]] for row in rows])
    offered = np.array([[float("nan") if value is None else value for value in row["offered"]] for row in rows])
    before = rows[0]["before"]
    losses = [rows[0]["language_before"], *(row["language"] for row in rows)]
    result = {
        "tasks": names,
        "learnt": [names[number] for number in phases],
        "accuracies": [row["row"] for row in rows],
        "offered": [row["offered"] for row in rows],
        "before": before,
        "average_accuracy": average_accuracy(matrix, phases),
        "backward_transfer": backward_transfer(matrix, phases),
        "forgetting": forgetting(matrix, phases),
        "forward_transfer": forward_transfer(offered, phases, before),
        "language_losses": losses,
        "language_forgotten": None if losses[0] is None else losses[-1] - losses[0],
        "flops": [row["flops"] for row in rows],
        "steps": [row["steps"] for row in rows],
    }
    files.write_json(work.output / RESULT, result)
    files.write_text(work.output / PAGE, sequence_page(result, recipe.name, work.language))
    return result


def sequence_of(recipe: Recipe, tokens: bool) -> Pipeline:
    """The stages of a recipe's sequence; `tokens`: whether the base model's text is there."""
    reads = (MODEL, TOKENS, TASKS) if tokens else (MODEL, TASKS)
    stages = [Stage("tasks", 1, (), (TASKS,), _tasks_settings, _tasks, reads=_tasks_reads)]
    for phase in range(len(recipe.sequence.phases)):
        stages.append(
            Stage(
                f"learn-{phase + 1}",
                2,
                (*reads, LEARNT) if phase else reads,
                (LEARNT,),
                lambda loaded, _, phase=phase: _learn_settings(loaded, phase),
                lambda work, phase=phase: _learn(work, phase),
                decide=lambda work, phase=phase: _decide(work, phase),
                decides=tuple(_named(phase).values()),
                informs=(_named(phase)["finetune.seconds_per_token"],),
                resumes="checkpoints/step-*",
            )
        )
    concluding = lambda loaded, language: {  # noqa: E731
        "language": language, "name": loaded.recipe.name, "phases": loaded.recipe.sequence.phases,
        "rows": json.dumps([dump(task) for task in loaded.recipe.sequence.tasks]),
    }  # fmt: skip
    return (*stages, Stage("sequence", 1, (LEARNT,), (SEQUENCE,), concluding, _conclude, records=True))

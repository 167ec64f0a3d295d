"""The facts that the report and the model card are drawn from: plain JSON values, every part optional.

A part that is missing or None is left out, or a sentence says that it is missing. Nothing here is computed by the
report. Times in seconds, sizes in bytes, losses in natural logarithms per token, shares between 0 and 1.
"""

from __future__ import annotations

from typing import Any, Required, TypedDict


class Stage(TypedDict, total=False):
    """One stage of the pipeline, in the order of the run. `state`: "ran" or "cached"."""

    name: str
    state: str
    seconds: float | None
    documents_in: int | None
    documents_out: int | None
    bytes_out: int | None
    peak_memory: int | None


class Setting(TypedDict, total=False):
    """One setting: `where` is its dotted path, `origin` one of default, file, flag, derived, measured."""

    where: str
    value: Any
    origin: str


class Point(TypedDict, total=False):
    """One record of the training or the validation curve; only `step` and `loss` are drawn."""

    step: Required[int]
    loss: Required[float]


class Sample(TypedDict, total=False):
    """What the model went on with after `prompt`, at a step of its training."""

    step: int
    prompt: str
    text: str


class Training(TypedDict, total=False):
    """Facts of the pretraining stage with its records."""

    parameters: int
    steps: int
    tokens_seen: int
    epochs: float
    precision: str
    train_seconds: float
    tokens_per_second: float
    first_loss: float
    last_loss: float
    improvement_percent: float
    curve: list[Point]
    validation: list[Point]
    samples: list[Sample]


class Interval(TypedDict, total=False):
    """A mean with the ends of its 95 % interval; the ends may be missing."""

    mean: Required[float]
    low: float | None
    high: float | None


class Baseline(TypedDict, total=False):
    """A thing that the model is held against, in bits per UTF-8 byte of the held-out text; without them by its `loss`.

    `held_out_bytes`, `training_bytes`: what a compressor read.
    """

    name: Required[str]
    bits_per_byte: float
    loss: float
    held_out_bytes: int
    training_bytes: int


class Truthfulness(TypedDict, total=False):
    """Probability mass on the true answers of one group of prompts, beside that of three baselines.

    `group`: "stated", "derived" or "control"; another name is shown as it is.
    """

    group: Required[str]
    prompts: int
    model: Required[Interval]
    chance: float | None
    frequency: float | None
    ngram: float | None


class Evaluation(TypedDict, total=False):
    """Facts of the evaluation stage. `interval_over`: "documents" or "blocks".

    `generator_bits_per_byte`: of the world's own grammar, on the documents where it is known;
    `model_bits_per_byte_there`: the model's on the same.
    """

    documents: int
    tokens: int
    bytes: int
    loss: float
    perplexity: float
    bits_per_byte: Interval | None
    interval_over: str
    baselines: list[Baseline]
    truthfulness: list[Truthfulness]
    without_contaminated: dict[str, Any]
    generator_bits_per_byte: float | None
    model_bits_per_byte_there: float | None


class Measures(TypedDict, total=False):
    """A classifier's measures on one split (`treino.evaluation.measures.measure`)."""

    rows: Required[int]
    accuracy: Required[Interval]
    macro_f1: Required[Interval]
    log_loss: float
    calibration_error: float
    unanswered: int
    reliability: Required[list[dict[str, Any]]]
    by_class: Required[list[dict[str, Any]]]
    confusion: list[list[int]]
    several: bool
    micro_f1: Interval
    thresholds: list[float]


class GateRow(TypedDict, total=False):
    """One threshold: what was reached, what was needed, and the margin (negative: missed)."""

    condition: Required[str]
    value: float | None
    threshold: float | None
    margin: float
    passed: Required[bool]


class Trial(TypedDict, total=False):
    """Settings that were tried, and what they reached on validation."""

    tried: Required[dict[str, float]]
    figures: dict[str, float] | None
    passed: bool
    seconds: float | None


class Forgetting(TypedDict):
    """Loss of the base task before and after fine-tuning, nats per token."""

    before: float
    after: float
    tokens: int


class Classification(TypedDict, total=False):
    """Facts of the fine-tuning and of its judgement. `validation_curve`: looks with `loss` and `accuracy`.

    Of a prompt (`treino.pipeline.prompting.prompt`): `shots`, `local`, `masked` (counts by kind), `without` (fields that the
    server refuses), and what asking about the validation and the test rows took, `asked` and `asked_test`.

    `test_uses`: models that the test rows have judged so far, in all runs of the runs folder.
    """

    method: str
    labels: list[str]
    rows: dict[str, int]
    parameters: dict[str, int]
    epochs: float
    best_epoch: float
    patience: int
    steps_per_epoch: float
    train_seconds: float
    training_accuracy: float
    validation_accuracy: float
    long_texts: dict[str, int]
    long_texts_rule: str
    curve: list[Point]
    validation_curve: list[Any]
    trials: list[Trial]
    chosen: int
    test: Measures
    baselines: dict[str, Measures]
    gate: list[GateRow]
    passed: bool | None
    test_uses: int
    forgetting: Forgetting | None
    row_seconds: float
    settings: dict[str, Any]
    shots: int
    local: bool
    masked: dict[str, int]
    without: list[str]
    forecast: dict[str, Any]
    asked: dict[str, Any]
    asked_test: dict[str, Any]
    validation: dict[str, Any] | None


class ChatFacts(TypedDict, total=False):
    """Facts of a chat tuning. `held_out`: `before` and `after`, each {loss, end_of_turn, tokens, turns}; `conversations`:
    counts of {training, validation} by what became of them; `answers`: {messages, answer, reference}, where text may be shown.
    """

    method: str
    rows: dict[str, int]
    conversations: dict[str, dict[str, int]]
    parameters: dict[str, int]
    tokens: int
    learnt_tokens: int
    epochs: float
    train_seconds: float
    curve: list[Point]
    validation_curve: list[Point]
    held_out: dict[str, dict[str, Any]] | None
    answers: list[dict[str, Any]]
    trials: list[Trial]
    chosen: int
    gate: list[GateRow]
    passed: bool | None
    forgetting: Forgetting | None


class Removal(TypedDict, total=False):
    """One document that was changed or removed, shown only where the recipe allows it. `after`: empty when removed.

    `detail`: for the rule "changed" the names of the rules, comma-separated; else what the rule has to say.
    """

    rule: str
    detail: str
    before: str
    after: str


class Removed(TypedDict, total=False):
    """Documents by the rule that removed them, and by the rule that changed them."""

    by_rule: dict[str, int]
    changed_by_rule: dict[str, int]
    examples: list[Removal]


class Foretold(TypedDict, total=False):
    """A training's forecast (`treino.planning.forecast.Forecast` as JSON), and its figures beside those measured, by quantity
    (`treino.planning.forecast.compare`).
    """

    forecast: dict[str, Any]
    beside: dict[str, dict[str, float | None]]


class Model(TypedDict, total=False):
    """The model's shape, as in the recipe, with its vocabulary; of one brought along also its family."""

    architecture: str
    family: str
    width: int
    layers: int
    context: int
    vocabulary: int


class Source(TypedDict, total=False):
    """One source of documents, as in the recipe; of its path only the last part is shown."""

    path: str
    language: str
    licence: str


class CorpusSource(TypedDict, total=False):
    """One source of a corpus: the last part of its path, what was said of it, its files with their digest, its documents."""

    name: str
    language: str
    licence: str
    weight: float
    files: int
    digest: str | None
    documents: int | None


class Step(TypedDict, total=False):
    """What one step of a stage did: documents and bytes of text before and after it, seconds, documents by rule."""

    stage: str
    step: str
    documents_in: int | None
    documents_out: int | None
    bytes_in: int | None
    bytes_out: int | None
    seconds: float | None
    removed_by_rule: dict[str, int] | None
    changed_by_rule: dict[str, int] | None


class Corpus(TypedDict, total=False):
    """Facts of the stages that made the documents. `parts`, `languages`, `licences`: {name: {documents, bytes}}.

    `order`: of the stage order, with `difficulty_by`; `digests`: of the stages' outputs; `examples`: rows of what was removed
    or changed, where the recipe allows them.
    """

    name: str
    treino_version: str
    seed: int
    sources: list[CorpusSource]
    held_out_method: str
    steps: list[Step]
    parts: dict[str, dict[str, int]]
    languages: dict[str, dict[str, int]]
    licences: dict[str, dict[str, int]]
    order: dict[str, Any]
    digests: dict[str, str]
    examples: list[dict[str, Any]]


class Artefact(TypedDict, total=False):
    """One artefact of the run: its folder in the store, its digest, and what it was made from.

    `inputs`: {kind: {folder, digest}}; `reads`: what came from outside the store, {name: digest}.
    """

    stage: str
    folder: str
    digest: str
    inputs: dict[str, dict[str, str]]
    reads: Any


class Facts(TypedDict, total=False):
    """Everything a report may show. `created`: seconds since the epoch. `examples`: whether text may be shown.

    `licence`: of the model, as an identifier of the Hugging Face Hub. `lineage`: in the order of the run.
    `forecasts`: by stage.
    """

    name: str
    created: float
    treino_version: str
    examples: bool
    licence: str | None
    stages: list[Stage] | None
    settings: list[Setting] | None
    model: Model | None
    sources: list[Source] | None
    training: Training | None
    evaluation: Evaluation | None
    classification: Classification | None
    chat: ChatFacts | None
    corpus: Corpus | None
    removed: Removed | None
    forecasts: dict[str, Foretold] | None
    machine: dict[str, Any] | None
    lineage: list[Artefact] | None


def present(facts: Any) -> Any:
    """The same facts without the values that are None, at any depth: drawing then only asks whether a key is there."""
    if isinstance(facts, dict):
        return {key: present(value) for key, value in facts.items() if value is not None}
    return [present(item) for item in facts] if isinstance(facts, list | tuple) else facts

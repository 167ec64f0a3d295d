"""The model card: the README.md of a model's folder, from the same facts as the report."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, cast

from treino.language import Translator
from treino.messages import N_, Message
from treino.report.facts import Evaluation, Facts, Training, present
from treino.report.judgement import bits_of, comparable, verdict_on_baselines
from treino.report.labels import BASELINES, GROUPS
from treino.report.markdown import (
    architecture_of,
    document,
    family_of,
    front_matter,
    interval,
    label,
    limits,
    markdown_table,
    number,
    plain,
    use,
)
from treino.report.sections import LIMITS, improvement_message
from treino.report.writer import UNKNOWN

USE_TREINO = """```bash
treino generate {folder} {text}
```"""

USE_TRANSFORMERS = """```python
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

model = AutoModelForCausalLM.from_pretrained("{folder}")
tokenizer = PreTrainedTokenizerFast(tokenizer_file="{folder}/tokenizer.json")
inputs = tokenizer({text}, return_tensors="pt", return_token_type_ids=False)
tokens = model.generate(**inputs, do_sample=True, max_new_tokens=60)[0]
print(tokenizer.decode(tokens, skip_special_tokens=True))
```"""

PROMPT = "Era uma vez"


def model_card(facts: dict[str, Any], language: str) -> str:
    """The card as Markdown with the front matter that the Hugging Face Hub reads. Shows no text of the user."""
    known, translator = cast(Facts, present(facts)), Translator(language)
    languages = set(filter(None, (source.get("language") for source in known.get("sources") or [])))
    tags = ("text-generation", *(() if _continued(known) else ("trained-from-scratch",)), family_of(known.get("model")))
    return document(
        front_matter(known, "text-generation", *tags, languages=languages),
        known.get("name") or "Treino",
        _what_it_is(known, translator),
        _data(known, translator),
        _training(known.get("training"), translator),
        _evaluation(known.get("evaluation"), translator),
        limits(LIMITS, translator),
        use(known.get("model"), translator, USE_TREINO, USE_TRANSFORMERS, PROMPT),
    )


def _what_it_is(facts: Facts, translator: Translator) -> str:
    model = facts.get("model")
    if not model:
        return ""
    if architecture_of(model) == "lstm":
        sentence = N_(
            "An LSTM language model with {parameters} parameters ({layers:raw} layers, width {width:raw}), {origin} "
            "{version}. It predicts the next token; its vocabulary has {vocabulary} tokens."
        )
    else:
        sentence = N_(
            "A Transformer language model of the family {family} with {parameters} parameters ({layers:raw} layers, "
            "width {width:raw}, context {context} tokens), {origin} {version}. It predicts the next token; its vocabulary "
            "has {vocabulary} tokens."
        )
    origin = (
        N_("brought along and trained on with Treino") if _continued(facts) else N_("trained from scratch with Treino")
    )
    values: dict[str, Any] = {name: model.get(name, UNKNOWN) for name in ("layers", "width", "context", "vocabulary")}
    values["parameters"] = (facts.get("training") or {}).get("parameters", UNKNOWN)
    values |= {"family": family_of(model), "origin": Message(origin), "version": facts.get("treino_version") or ""}
    return translator.text(sentence, **values)


def _continued(facts: Facts) -> bool:
    """Whether the training went on from a model that was brought along."""
    return any(stage.get("name") == "adopt" for stage in facts.get("stages") or [])


def _data(facts: Facts, translator: Translator) -> str:
    """The sources with their licences, and how many documents each stage left."""
    parts = []
    sources = facts.get("sources")
    if sources:
        head = [translator.text(name) for name in (N_("source"), N_("language"), N_("licence"))]
        unknown = translator.text(N_("not stated"))
        rows = [
            (
                plain(PurePath(source.get("path", UNKNOWN)).name),
                plain(source.get("language") or unknown),
                plain(source.get("licence") or unknown),
            )
            for source in sources
        ]
        parts.append(markdown_table(head, rows))
    counts = [
        (plain(label(stage.get("name", ""), translator)), translator.number(count))
        for stage in facts.get("stages") or []
        if (count := stage.get("documents_out")) is not None
    ]
    if counts:
        parts.append(markdown_table([translator.text(N_("after the stage")), translator.text(N_("documents"))], counts))
    return "\n\n".join([f"## {translator.text(N_('Data'))}", *parts]) if parts else ""


def _training(training: Training | None, translator: Translator) -> str:
    sentences = []
    if training and {"tokens_seen", "steps", "epochs", "train_seconds"} <= training.keys():
        work = N_("{tokens_seen} tokens in {steps} steps ({epochs:2} times through the text), {train_seconds:seconds}.")
        sentences.append(translator.text(work, **training))
    improvement = improvement_message(training or {})
    if improvement:
        sentences.append(translator.message(improvement))
    return f"## {translator.text(N_('Training'))}\n\n{' '.join(sentences)}" if sentences else ""


def _evaluation(evaluation: Evaluation | None, translator: Translator) -> str:
    title = f"## {translator.text(N_('Evaluation'))}"
    if not evaluation or evaluation.get("loss") is None:
        return f"{title}\n\n{translator.text(N_('The model was not evaluated.'))}"
    rows = [
        [translator.text(N_("loss (nats per token)")), number(evaluation.get("loss"), translator, 3)],
        [translator.text(N_("perplexity")), number(evaluation.get("perplexity"), translator, 1)],
    ]
    bits = evaluation.get("bits_per_byte")
    if bits:
        rows.append([translator.text(N_("bits per byte")), interval(bits, translator)])
    for other in comparable(evaluation.get("baselines") or []):
        name = translator.text(N_("bits per byte of {name}"), name=plain(label(other["name"], translator, BASELINES)))
        rows.append([name, number(bits_of(other), translator, 3)])
    head = [translator.text(N_("on held-out text")), translator.text(N_("value"))]
    lines = [title, markdown_table(head, rows)]
    verdict = verdict_on_baselines(evaluation)
    if verdict:
        lines.append(plain(translator.message(verdict)))
    return "\n\n".join([*lines, *_truthfulness(evaluation, translator)])


def _truthfulness(evaluation: Evaluation, translator: Translator) -> list[str]:
    groups = evaluation.get("truthfulness") or []
    if not groups:
        return []
    columns = (
        N_("probability on the true answer"),
        N_("this model"),
        N_("chance"),
        N_("frequency of the answer"),
        N_("5-gram"),
    )
    rows = []
    for group in groups:
        others = [group.get("chance"), group.get("frequency"), group.get("ngram")]
        means = (group["model"]["mean"], *others)
        shares = [UNKNOWN if share is None else translator.percent(share) for share in means]
        rows.append([plain(label(group["group"], translator, GROUPS)), *shares])
    return [markdown_table([translator.text(column) for column in columns], rows)]

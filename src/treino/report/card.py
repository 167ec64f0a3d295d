"""The model card: the README.md of a model's folder, from the same facts as the report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, cast

from treino.language import Translator
from treino.messages import N_
from treino.report.facts import Evaluation, Facts, Interval, Model, Training, present
from treino.report.judgement import bits_of, comparable, verdict_on_baselines
from treino.report.labels import BASELINES, GROUPS, LABELS
from treino.report.sections import LIMITS, improvement_message
from treino.report.writer import UNKNOWN

USE_TREINO = """```bash
treino generate {folder} {prompt}
```"""

USE_TRANSFORMERS = """```python
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

model = AutoModelForCausalLM.from_pretrained("{folder}")
tokenizer = PreTrainedTokenizerFast(tokenizer_file="{folder}/tokenizer.json")
inputs = tokenizer({prompt}, return_tensors="pt", return_token_type_ids=False)
tokens = model.generate(**inputs, do_sample=True, max_new_tokens=60)[0]
print(tokenizer.decode(tokens, skip_special_tokens=True))
```"""

PROMPT = "Era uma vez"
FOLDER = N_("path/to/this/folder")


def model_card(facts: dict[str, Any], language: str) -> str:
    """The card as Markdown with the front matter that the Hugging Face Hub reads. Shows no text of the user."""
    known, translator = cast(Facts, present(facts)), Translator(language)
    parts = [
        _front_matter(known),
        f"# {plain(known.get('name') or 'Treino')}",
        _what_it_is(known, translator),
        _data(known, translator),
        _training(known.get("training"), translator),
        _evaluation(known.get("evaluation"), translator),
        _limits(translator),
        _use(known.get("model"), translator),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(facts: Facts) -> str:
    """YAML; every string quoted as JSON, which YAML contains, so that none can break out of its line."""
    transformer = architecture_of(facts.get("model")) == "transformer"
    sources = facts.get("sources") or []
    languages = sorted({language for source in sources if (language := source.get("language"))})
    tags = ["treino", "text-generation", "trained-from-scratch", "llama" if transformer else "lstm"]
    lines = ["---"]
    lines += ["language:", *(f"- {json.dumps(code)}" for code in languages)] if languages else []
    lines += [f"license: {json.dumps(facts.get('licence') or 'unknown')}"]
    lines += [f"library_name: {'transformers' if transformer else 'treino'}", "pipeline_tag: text-generation"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def architecture_of(model: Model | None) -> str:
    """The model's kind; a Transformer where nothing says otherwise."""
    return (model or {}).get("architecture", "transformer")


def plain(text: object) -> str:
    """A string of the user's on one line, with nothing in it that Markdown or HTML would read as a command."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~])", r"\\\1", " ".join(str(text).split()))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are safe already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _what_it_is(facts: Facts, translator: Translator) -> str:
    model = facts.get("model")
    if not model:
        return ""
    if architecture_of(model) == "lstm":
        sentence = N_(
            "An LSTM language model with {parameters} parameters ({layers:raw} layers, width {width:raw}), trained "
            "from scratch with Treino {version}. It predicts the next token; its vocabulary has {vocabulary} tokens."
        )
    else:
        sentence = N_(
            "A Transformer language model of the Llama architecture with {parameters} parameters ({layers:raw} layers, "
            "width {width:raw}, context {context} tokens), trained from scratch with Treino {version}. It predicts the "
            "next token; its vocabulary has {vocabulary} tokens."
        )
    values: dict[str, Any] = {name: model.get(name, UNKNOWN) for name in ("layers", "width", "context", "vocabulary")}
    values["parameters"] = (facts.get("training") or {}).get("parameters", UNKNOWN)
    return translator.text(sentence, version=facts.get("treino_version") or "", **values)


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


def number(value: float | None, translator: Translator, digits: int | None = None) -> str:
    """A number in the reader's form, or a dash."""
    return UNKNOWN if value is None else translator.number(value, digits)


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


def label(name: str, translator: Translator, labels: Mapping[str, str] = LABELS) -> str:
    """What a person reads for an identifier."""
    return translator.text(labels[name]) if name in labels else name


def interval(value: Interval, translator: Translator) -> str:
    """A mean with the ends of its interval, three digits."""
    mean, low, high = value["mean"], value.get("low"), value.get("high")
    text = translator.number(mean, 3)
    return text if low is None or high is None else f"{text} ({translator.number(low, 3)}–{translator.number(high, 3)})"


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


def _limits(translator: Translator) -> str:
    sentences = "\n".join(f"- {translator.text(sentence)}" for sentence in LIMITS)
    return f"## {translator.text(N_('What it cannot do'))}\n\n{sentences}"


def _use(model: Model | None, translator: Translator) -> str:
    prompt, folder = json.dumps(PROMPT), translator.text(FOLDER)
    parts = [f"## {translator.text(N_('How to use it'))}", USE_TREINO.format(folder=folder, prompt=prompt)]
    if architecture_of(model) == "transformer":
        parts.append(USE_TRANSFORMERS.format(folder=folder, prompt=prompt))
    return "\n\n".join(parts)

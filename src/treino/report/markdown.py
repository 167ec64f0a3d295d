"""What the cards of models and data share: safe Markdown, and the parts that stand in several."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from treino.language import Translator
from treino.messages import N_
from treino.report.facts import Facts, Interval, Model
from treino.report.labels import LABELS
from treino.report.writer import UNKNOWN

FOLDER = N_("path/to/this/folder")


def document(front: str, name: str, *parts: str) -> str:
    """A card: its front matter, its title, and the parts that are not empty."""
    return "\n\n".join([front, f"# {plain(name)}", *filter(None, parts)]) + "\n"


def front_matter(facts: Facts, task: str, *tags: str, languages: Iterable[str] = ()) -> str:
    """What the hub reads of a model's card, as YAML; every string of the user's is quoted as JSON, which YAML contains, so that
    none can break out of its line.
    """
    transformer = architecture_of(facts.get("model")) == "transformer"
    lines = ["---", *language_lines(languages), f"license: {json.dumps(facts.get('licence') or 'unknown')}"]
    lines += [f"library_name: {'transformers' if transformer else 'treino'}", f"pipeline_tag: {task}"]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in ("treino", *tags)), "---"])


def language_lines(languages: Iterable[str]) -> list[str]:
    """The languages of a card's front matter; nothing where none is known."""
    known = [f"- {json.dumps(code)}" for code in sorted(languages)]
    return ["language:", *known] if known else []


def limits(sentences: Iterable[str], translator: Translator) -> str:
    """What a model cannot do, from message ids."""
    lines = "\n".join(f"- {translator.text(sentence)}" for sentence in sentences)
    return f"## {translator.text(N_('What it cannot do'))}\n\n{lines}"


def use(model: Model | None, translator: Translator, treino: str, transformers: str, text: str) -> str:
    """How a model is used by Treino and, if it is a Transformer, by transformers: code with the fields `folder` and `text`."""
    codes = [treino, transformers] if architecture_of(model) == "transformer" else [treino]
    fields = {"folder": translator.text(FOLDER), "text": json.dumps(text)}
    return "\n\n".join([f"## {translator.text(N_('How to use it'))}", *(code.format(**fields) for code in codes)])


def architecture_of(model: Model | None) -> str:
    """The model's kind; a Transformer where nothing says otherwise."""
    return (model or {}).get("architecture", "transformer")


def family_of(model: Model | None) -> str:
    """The tag of the model's family on the hub: Llama's, unless it was brought along and is of another."""
    return "lstm" if architecture_of(model) == "lstm" else (model or {}).get("family", "llama")


def plain(text: object) -> str:
    """A string of the user's on one line, with nothing in it that Markdown or HTML would read as a command."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~])", r"\\\1", " ".join(str(text).split()))


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are safe already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def label(name: str, translator: Translator, labels: Mapping[str, str] = LABELS) -> str:
    """What a person reads for an identifier."""
    return translator.text(labels[name]) if name in labels else name


def number(value: float | None, translator: Translator, digits: int | None = None) -> str:
    """A number in the reader's form, or a dash."""
    return UNKNOWN if value is None else translator.number(value, digits)


def interval(value: Interval, translator: Translator) -> str:
    """A mean with the ends of its interval, three digits."""
    mean, low, high = value["mean"], value.get("low"), value.get("high")
    text = translator.number(mean, 3)
    return text if low is None or high is None else f"{text} ({translator.number(low, 3)}–{translator.number(high, 3)})"

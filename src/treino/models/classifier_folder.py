"""Classifiers on disk: the folder of `LlamaForSequenceClassification`, or of the same class of a family that was brought
along, for the Transformer; a small one of our own for the LSTM.

The LSTM's folder is that of `treino.models.folder` with `"model_type": "treino-lstm-classifier"`, `labels`, and weights named
`body.…` and `head.…`. Both say in `config.json`, under `treino`, how texts are made ready.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer as InnerTokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor

from treino import files
from treino.errors import DataError, reason_of
from treino.messages import N_
from treino.models.adapter_folder import load_adapter
from treino.models.build import build_model
from treino.models.classifier import Classifier
from treino.models.folder import (
    CONFIG,
    LSTM_CLASSIFIER,
    LSTM_TYPE,
    check_vocabulary,
    in_family,
    is_classifier_config,
    load_body,
    model_config,
    read_settings,
    save_beside_base,
    save_tokenizer,
)
from treino.models.nf4_folder import ADAPTER
from treino.models.several import HALF
from treino.models.weights import WEIGHTS, fill, open_weights, save_weights, without_weights
from treino.tokens.tokenizer import END_OF_TEXT, FILE, Tokenizer

SINGLE, SEVERAL = "single_label_classification", "multi_label_classification"
"""Hugging Face's kinds of problem: a class for each text, or several or none."""


def save_classifier(classifier: Classifier, tokenizer: Tokenizer, folder: Path, about: dict[str, Any]) -> None:
    """Write weights (float32, without the language model's own head; of a body whose layers are on disk, these and its
    adapter), configuration and tokenizer. `about`: how texts were
    made ready, {long_texts, clean}, so that they are made ready alike when the classifier is asked.

    A tokenizer made here begins each text with `end_of_text` then, as the classifier learnt it; one that was brought along
    frames texts by itself and stays as it was.
    """
    files.make_private(folder)
    is_lstm = classifier.body.settings.architecture == "lstm"
    kind = SINGLE if classifier.thresholds is None else SEVERAL
    if classifier.thresholds is not None:
        about = about | {"thresholds": classifier.thresholds}
    labels = list(classifier.labels)
    config = model_config(classifier.body, tokenizer) | {"treino": about}
    if classifier.body.stream is None:
        save_weights(_named(classifier, is_lstm), folder / WEIGHTS)
    else:
        config |= save_beside_base(classifier.body, folder, head=classifier.head)
    if is_lstm:
        config |= {"model_type": LSTM_CLASSIFIER, "labels": labels}
        config |= {"problem_type": SEVERAL} if kind == SEVERAL else {}
    else:
        config.pop("num_labels", None)
        if config.get("pad_token_id") is None:
            config["pad_token_id"] = (
                tokenizer.pad
            )  # transformers classifies several texts at once only where there is one
        config |= {
            "architectures": [classifier.body.family.classifier],
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
            "problem_type": kind,
        }
    files.write_json(folder / CONFIG, config)
    save_tokenizer(tokenizer, folder, classifier.body.context, with_settings=not is_lstm)
    if tokenizer.files:
        return
    begun = InnerTokenizer.from_str((folder / FILE).read_text(encoding="utf-8"))
    begun.post_processor = TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, tokenizer.end_of_text)]
    )
    files.write_text(folder / FILE, begun.to_str(pretty=True))


def is_classifier(folder: Path) -> bool:
    """Whether a model folder holds a classifier."""
    return is_classifier_config(files.read_json(folder / CONFIG))


def load_classifier(folder: Path) -> tuple[Classifier, Tokenizer, dict[str, Any]]:
    """A classifier, its tokenizer, and how texts are made ready: {long_texts, clean}.

    Raises:
        DataError: for a missing or damaged file, or a model without a classification head.
    """
    config = files.read_json(folder / CONFIG)
    if not is_classifier_config(config):
        raise DataError(
            N_("{path} holds a language model, not a classifier"),
            fix=N_("fine-tune it first: treino finetune"),
            path=str(folder),
        )
    is_lstm = config["model_type"] == LSTM_CLASSIFIER
    if (folder / ADAPTER).is_dir():
        return _beside_base(config, folder)
    settings, vocabulary, family = read_settings(config | ({"model_type": LSTM_TYPE} if is_lstm else {}), folder)
    labels = config["labels"] if is_lstm else _labels(config, folder)
    thresholds, tokenizer = _thresholds(config, labels), Tokenizer.load(folder)
    check_vocabulary(tokenizer, vocabulary, folder)
    with open_weights(folder) as weights:
        build = lambda: Classifier(build_model(settings, vocabulary, family), labels, thresholds=thresholds)  # noqa: E731
        classifier = cast(Classifier, without_weights(build))
        fill(_named(classifier, is_lstm), weights if is_lstm else in_family(weights, family))
    return classifier.eval(), tokenizer, config.get("treino") or {}


def _labels(config: dict[str, Any], folder: Path) -> list[str]:
    """In the order of their numbers. Without names there are two, or as many as are said, named as transformers does.

    Raises:
        DataError: where a number has no name.
    """
    try:
        named = config.get("id2label") or {str(n): f"LABEL_{n}" for n in range(config.get("num_labels") or 2)}
        return [named[str(n)] for n in range(len(named))]
    except (KeyError, TypeError):
        reason = reason_of(KeyError("id2label"))
        raise DataError(N_("{path} is damaged: {reason}"), path=str(folder / CONFIG), reason=reason) from None


def _thresholds(config: dict[str, Any], labels: list[str]) -> list[float] | None:
    """Of a classifier of several classes: from where on each is given."""
    if config.get("problem_type") != SEVERAL:
        return None
    return (config.get("treino") or {}).get("thresholds") or [HALF] * len(labels)


def _beside_base(config: dict[str, Any], folder: Path) -> tuple[Classifier, Tokenizer, dict[str, Any]]:
    """A classifier as the base model and its adapter, with the head in the adapter's folder."""
    tokenizer = Tokenizer.load(folder)
    labels = _labels(config, folder)
    classifier = Classifier(load_body(config, folder, tokenizer), labels, thresholds=_thresholds(config, labels))
    load_adapter(classifier.body, folder / ADAPTER, head=classifier.head)
    return classifier.eval(), tokenizer, config.get("treino") or {}


def _named(classifier: Classifier, is_lstm: bool) -> dict[str, Tensor]:
    """Parameters by their name on disk; the body's own head is left out."""
    used = {id(value) for part in classifier.body.parts() for value in part}
    body = {name: value for name, value in classifier.body.named_parameters() if id(value) in used}
    head = dict(classifier.head.named_parameters())
    places = ("body.", "head.") if is_lstm else ("", "")
    named: dict[str, Tensor] = {f"{places[0]}{name}": value for name, value in body.items()}
    return named | {f"{places[1]}{name}": value for name, value in head.items()}

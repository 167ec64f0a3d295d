"""Models on disk: a Hugging Face folder for the Transformer, a small one of our own for the LSTM. No pickle is read.

The LSTM's folder: `config.json` with `"model_type": "treino-lstm"`, `vocabulary` and the settings of `[model]`;
`model.safetensors` with the names of torch (`embedding.weight`, `lstm.weight_ih_l0` …, `head.weight`, `head.bias`);
`tokenizer.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from treino import files
from treino.errors import DataError, reason_of
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.models.build import build_model
from treino.models.transformer import INITIAL_DEVIATION
from treino.recipe import ModelSettings
from treino.tokens.tokenizer import END_OF_TEXT, FILE, PAD, UNKNOWN, Tokenizer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
LSTM_TYPE = "treino-lstm"
CLASSIFIER, LSTM_CLASSIFIER = "LlamaForSequenceClassification", f"{LSTM_TYPE}-classifier"


def save_model(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (float32; a tied table once), configuration, tokenizer and generation settings."""
    files.make_private(folder)
    tensors = {name: value.detach().float().contiguous().cpu() for name, value in model.named_parameters()}
    files.write_bytes(folder / WEIGHTS, save(tensors, {"format": "pt"}))
    is_lstm = model.settings.architecture == "lstm"
    files.write_json(folder / CONFIG, model_config(model, tokenizer))
    save_tokenizer(tokenizer, folder, model.context, with_settings=not is_lstm)
    if is_lstm:
        return
    ends = {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text, "pad_token_id": tokenizer.pad}
    files.write_json(folder / "generation_config.json", {**ends, "do_sample": True, "temperature": 0.8})


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int, *, with_settings: bool) -> None:
    """Write `tokenizer.json`, and the settings that transformers reads beside it."""
    tokenizer.save(folder / FILE)
    if not with_settings:
        return
    files.write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": END_OF_TEXT,
            "pad_token": PAD,
            "unk_token": UNKNOWN if tokenizer.unknown is not None else None,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
        },
    )


def load_model(folder: Path) -> tuple[LanguageModel, Tokenizer]:
    """A model and its tokenizer from a folder of ours or one of a Llama-architecture model.

    Raises:
        DataError: for a missing or damaged file, a pickle, or an architecture that is not supported.
    """
    config = files.read_json(folder / CONFIG)
    if is_classifier_config(config):
        raise DataError(
            N_("{path} holds a classifier, which names classes and does not write"),
            fix=N_("ask it with: treino predict"),
            path=str(folder),
        )
    settings, vocabulary = read_settings(config, folder)
    tensors = read_weights(folder)
    model = build_model(settings, vocabulary)
    _fill(model, tensors, folder)
    return model.eval(), Tokenizer.load(folder)


def is_classifier_config(config: dict[str, Any]) -> bool:
    """Whether a `config.json` is a classifier's."""
    return config.get("model_type") == LSTM_CLASSIFIER or CLASSIFIER in (config.get("architectures") or [])


def read_settings(config: dict[str, Any], folder: Path) -> tuple[ModelSettings, int]:
    """Shape and vocabulary from a `config.json`; `DataError` for one that is incomplete or not supported."""
    try:
        return _settings(config, folder)
    except (KeyError, ValidationError) as error:
        reason = reason_of(error) if isinstance(error, KeyError) else str(error.errors()[0]["msg"])
        raise DataError(N_("{path} is damaged: {reason}"), path=str(folder / CONFIG), reason=reason) from None


def _settings(config: dict[str, Any], folder: Path) -> tuple[ModelSettings, int]:
    if config.get("model_type") == LSTM_TYPE:
        return ModelSettings.model_validate(config["settings"]), config["vocabulary"]
    if config.get("model_type") == "llama":
        return _llama_settings(config), config["vocab_size"]
    raise DataError(
        N_("{path} holds a model of the type {kind}, which is not supported"),
        fix=N_("supported are llama and the LSTM of treino"),
        path=str(folder),
        kind=str(config.get("model_type")),
    )


def model_config(model: LanguageModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """What `config.json` says of a language model."""
    return _lstm_config(model) if model.settings.architecture == "lstm" else _llama_config(model, tokenizer)


def _llama_config(model: LanguageModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """The fields of transformers' LlamaConfig; θ in the older place and in the newer one."""
    settings = model.settings
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": model.vocabulary,
        "hidden_size": settings.width,
        "intermediate_size": settings.feed_forward,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "head_dim": settings.width // settings.heads,
        "max_position_embeddings": settings.context,
        "rms_norm_eps": settings.norm_epsilon,
        "rope_theta": settings.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": settings.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": settings.tied,
        "initializer_range": INITIAL_DEVIATION,
        "bos_token_id": tokenizer.end_of_text,
        "eos_token_id": tokenizer.end_of_text,
        "pad_token_id": tokenizer.pad,
        "dtype": "float32",
        "use_cache": True,
    }


def _lstm_config(model: LanguageModel) -> dict[str, Any]:
    return {"model_type": LSTM_TYPE, "vocabulary": model.vocabulary, "settings": model.settings.model_dump(mode="json")}


def _llama_settings(config: dict[str, Any]) -> ModelSettings:
    """Settings from a LlamaConfig; what this Transformer does not compute is refused by name."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        raise DataError(N_("this model scales its rotary positions ({kind}), which is not supported"), kind=str(rope))
    heads = config["num_attention_heads"]
    supported = {
        "attention_bias": (None, False),
        "mlp_bias": (None, False),
        "hidden_act": (None, "silu"),
        "head_dim": (None, config["hidden_size"] // heads),
        "partial_rotary_factor": (None, 1.0),
    }
    for name, values in supported.items():
        value = config.get(name, rope.get(name))
        if value not in values:
            raise DataError(N_("this model sets {name} to {value:raw}, which is not supported"), name=name, value=value)
    return ModelSettings(
        architecture="transformer",
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        feed_forward=config["intermediate_size"],
        embedding=config["hidden_size"],
        context=config["max_position_embeddings"],
        tied=config.get("tie_word_embeddings", False),
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        norm_epsilon=config["rms_norm_eps"],
    )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a model folder by name; `DataError` where there are none, or damaged ones, or a pickle alone."""
    if (folder / INDEX).is_file():
        names = sorted(set(files.read_json(folder / INDEX)["weight_map"].values()))
    elif (folder / WEIGHTS).is_file():
        names = [WEIGHTS]
    else:
        pickled = sorted(path.name for path in folder.glob("*.bin"))
        fix = N_("{names} is a pickle, which may run code when it is read: ask for safetensors") if pickled else None
        raise DataError(N_("{path} holds no weights"), fix=fix, path=str(folder), names=", ".join(pickled))
    tensors: dict[str, Tensor] = {}
    for name in names:
        path = folder / Path(name).name
        try:
            tensors |= load(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise DataError(N_("{path} is damaged: {reason}"), path=str(path), reason=str(error)) from None
    return tensors


def _fill(model: LanguageModel, tensors: dict[str, Tensor], folder: Path) -> None:
    """Put tensors into the model; every parameter must be there, in its shape, and a tied head must equal the table."""
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    # A tied head may be written a second time under its own name.
    heads = {name: value for name, value in model.named_parameters(remove_duplicate=False) if name not in parameters}
    table = next(
        (tensors.get(name) for name, value in parameters.items() if any(value is h for h in heads.values())), None
    )
    wrong = [name for name in heads.keys() & tensors.keys() if table is None or not torch.equal(tensors[name], table)]
    fill(parameters, {name: value for name, value in tensors.items() if name not in heads}, folder, wrong)


def fill(parameters: dict[str, Tensor], tensors: dict[str, Tensor], folder: Path, wrong: Sequence[str] = ()) -> None:
    """Put tensors into the parameters of the same names; `DataError` where names or shapes differ, or some are `wrong`."""
    wrong = [*wrong, *sorted(parameters.keys() ^ tensors.keys())]
    wrong += [name for name in parameters.keys() & tensors.keys() if parameters[name].shape != tensors[name].shape]
    if wrong:
        raise DataError(
            N_("the weights in {path} do not fit its config.json: {names}"),
            path=str(folder),
            names=", ".join(wrong[:5]),
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])

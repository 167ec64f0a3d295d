"""Models on disk: a Hugging Face folder for a Transformer, a small one of our own for the LSTM. No pickle is read.

A model that was brought along is saved as itself: its family's names, the fields of its configuration, its tokenizer's files.

The LSTM's folder: `config.json` with `"model_type": "treino-lstm"`, `vocabulary` and the settings of `[model]`;
`model.safetensors` with the names of torch (`embedding.weight`, `lstm.weight_ih_l0` …, `head.weight`, `head.bias`);
`tokenizer.json`.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from torch import nn

from treino import files
from treino.errors import DataError, reason_of
from treino.measure import available_memory
from treino.messages import N_
from treino.models.adapter_folder import load_adapter, save_adapter
from treino.models.base import LanguageModel
from treino.models.build import build_model
from treino.models.families import CLASSIFIER, OWN, Family, read_family
from treino.models.nf4 import in_four_bits
from treino.models.nf4_folder import (
    ABOUT,
    ADAPTER,
    QUANTISATION,
    fill_packed,
    no_nf4,
    packed_names,
    packed_state,
    quantised_parts,
    shell,
    unquantised,
    without_packed,
    write_parts,
)
from treino.models.streaming import open_stream
from treino.models.transformer import INITIAL_DEVIATION
from treino.models.weights import (
    INDEX,
    WEIGHTS,
    Weights,
    check_fit,
    fill_model,
    on_paper,
    open_weights,
    save_weights,
    weight_files,
    without_weights,
)
from treino.recipe import ModelSettings
from treino.tokens.tokenizer import END_OF_TEXT, FILE, PAD, UNKNOWN, Tokenizer

CONFIG, GENERATION = "config.json", "generation_config.json"
LSTM_TYPE = "treino-lstm"
LSTM_CLASSIFIER = f"{LSTM_TYPE}-classifier"


def save_model(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (float32; a tied table once), configuration, tokenizer and generation settings; of a model whose layers are
    on disk, these and its adapter.
    """
    files.make_private(folder)
    is_lstm = model.settings.architecture == "lstm"
    config = model_config(model, tokenizer)
    if model.stream is None:
        save_weights(dict(model.named_parameters()), folder / WEIGHTS)
    else:
        config |= save_beside_base(model, folder)
    files.write_json(folder / CONFIG, config)
    save_tokenizer(tokenizer, folder, model.context, with_settings=not is_lstm)
    if is_lstm or tokenizer.files:
        return
    ends = {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text, "pad_token_id": tokenizer.pad}
    files.write_json(folder / GENERATION, {**ends, "do_sample": True, "temperature": 0.8})


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context: int, *, with_settings: bool) -> None:
    """Write `tokenizer.json`, and the settings that transformers reads beside it."""
    tokenizer.save(folder / FILE)
    if tokenizer.files or not with_settings:
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


def load_model(folder: Path, *, stream: bool | None = None) -> tuple[LanguageModel, Tokenizer]:
    """A model and its tokenizer from a folder of ours, or one of a family that is supported; with its adapter, where one
    stands in the folder.

    Args:
        stream: whether the layers of a model in NF4 stay on disk (`treino.models.streaming`); None: where they would not
            fit into memory.

    Raises:
        DataError: for a missing or damaged file, a pickle, or a configuration that is not supported.
    """
    config = files.read_json(folder / CONFIG)
    refuse_classifier(config, folder)
    tokenizer = Tokenizer.load(folder)
    model = load_body(config, folder, tokenizer, stream=stream)
    if (folder / ADAPTER).is_dir():
        load_adapter(model, folder / ADAPTER)
    return model.eval(), tokenizer


def load_body(
    config: dict[str, Any], folder: Path, tokenizer: Tokenizer | None, *, stream: bool | None = None
) -> LanguageModel:
    """The language model of a folder with this configuration, without an adapter."""
    config, narrow = unquantised(config, folder)
    settings, vocabulary, family = read_settings(config, folder)
    if tokenizer:
        check_vocabulary(tokenizer, vocabulary, folder)
    with open_weights(folder) as stored:
        weights = stored if settings.architecture == "lstm" else in_family(stored, family)
        build = lambda: build_model(settings, vocabulary, family)  # noqa: E731
        model = cast(LanguageModel, without_weights(lambda: shell(build(), weights) if narrow else build()))
        fill_model(model, without_packed(weights))
        if narrow and (stream or (stream is None and not _fits(weights))):
            open_stream(folder, model, weights).attach(model)
        elif narrow:
            fill_packed(model, weights)
    return model


def save_beside_base(model: LanguageModel, folder: Path, *, head: nn.Module | None = None) -> dict[str, Any]:
    """Give the files of a model whose layers are on disk a second name in this folder, and put its adapter beside them; returns
    what the configuration must say of them.
    """
    assert model.stream is not None
    source = model.stream.folder
    for path in [*weight_files(source), source / INDEX]:
        if path.is_file():
            (folder / path.name).unlink(missing_ok=True)
            files.link(path, folder / path.name)
    save_adapter(model, folder / ADAPTER, head=head)
    config = files.read_json(source / CONFIG)
    kept = {name: config[name] for name in (QUANTISATION, "dtype", "torch_dtype") if name in config}
    return {"tie_word_embeddings": model.settings.tied, **kept}


def is_quantised(folder: Path) -> bool:
    """Whether a model's layers are in NF4."""
    return unquantised(files.read_json(folder / CONFIG), folder)[1]


def look_through(folder: Path) -> dict[str, Any]:
    """Read a language model's folder once, a tensor at a time, to see that it is whole; returns its size and shape.

    Raises:
        DataError: as `load_model` does.
    """
    config = files.read_json(folder / CONFIG)
    refuse_classifier(config, folder)
    config, narrow = unquantised(config, folder)
    settings, vocabulary, family = read_settings(config, folder)
    check_vocabulary(Tokenizer.load(folder), vocabulary, folder)
    with open_weights(folder) as stored:
        weights = stored if settings.architecture == "lstm" else in_family(stored, family)
        model = on_paper(lambda: build_model(settings, vocabulary, family))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        if narrow:
            on_paper(lambda: shell(cast(LanguageModel, model), weights))
        for path, layer in in_four_bits(model).items():
            packed_state(weights, f"{path}.weight", layer.shape)
        every = dict(model.named_parameters(remove_duplicate=False))
        check_fit(every, without_packed(weights), optional=every.keys() - dict(model.named_parameters()).keys())
        for name in weights.places:
            weights.read(name)
    shape = settings.model_dump(mode="json") | {"family": family.name}
    return {"parameters": parameters, "model": shape, "vocabulary": vocabulary}


def refuse_classifier(config: dict[str, Any], folder: Path) -> None:
    """Raises `DataError` for a configuration of a classifier."""
    if is_classifier_config(config):
        raise DataError(
            N_("{path} holds a classifier, which names classes and does not write"),
            fix=N_("ask it with: treino predict"),
            path=str(folder),
        )


def quantise_folder(source: Path, target: Path) -> None:
    """Write a folder's model once more with its layers in NF4: one layer at a time is in memory.

    Raises:
        DataError: for a missing or damaged file, or a configuration that is not supported.
        UsageError: for a model whose layers are not brought into NF4 here.
    """
    config = files.read_json(source / CONFIG)
    settings, vocabulary, family = read_settings(config, source)
    tokenizer = Tokenizer.load(source)
    check_vocabulary(tokenizer, vocabulary, source)
    files.make_private(target)
    if settings.architecture == "lstm" or family.name == "gpt2":
        raise no_nf4("lstm" if settings.architecture == "lstm" else family.name)
    with open_weights(source) as stored:
        weights = in_family(stored, family)
        model = on_paper(lambda: build_model(settings, vocabulary, family))
        tied = ["lm_head.weight"] if settings.tied else []
        check_fit(dict(model.named_parameters(remove_duplicate=False)), weights, optional=tied)
        write_parts(target, quantised_parts(weights, settings.layers))
    files.write_json(target / CONFIG, config | {QUANTISATION: ABOUT})
    save_tokenizer(tokenizer, target, settings.context, with_settings=True)
    if (source / GENERATION).is_file():
        shutil.copyfile(source / GENERATION, target / GENERATION)


def _fits(weights: Weights) -> bool:
    """Whether the matrices in NF4 would take no more than half of the memory that is left."""
    room = available_memory()
    return room is None or sum(math.prod(weights.shape(name)) for name in packed_names(weights)) < room / 2


def is_classifier_config(config: dict[str, Any]) -> bool:
    """Whether a `config.json` is a classifier's."""
    classes = config.get("architectures") or []
    return config.get("model_type") == LSTM_CLASSIFIER or any(str(name).endswith(CLASSIFIER) for name in classes)


def read_settings(config: dict[str, Any], folder: Path) -> tuple[ModelSettings, int, Family]:
    """Shape, vocabulary and family from a `config.json`; `DataError` for one that is incomplete or not supported."""
    try:
        if config.get("model_type") == LSTM_TYPE:
            return ModelSettings.model_validate(config["settings"]), config["vocabulary"], OWN
        return read_family(config, folder / CONFIG)
    except (KeyError, ValidationError) as error:
        reason = reason_of(error) if isinstance(error, KeyError) else str(error.errors()[0]["msg"])
        raise DataError(N_("{path} is damaged: {reason}"), path=str(folder / CONFIG), reason=reason) from None


def in_family(weights: Weights, family: Family) -> Weights:
    """The tensors under the names of the family's classes with a head: the body alone is often saved without its prefix."""
    prefix = f"{family.body}."
    bare = not any(name.startswith(prefix) for name in weights.places)

    def rename(name: str) -> str | None:
        if family.left_out(name):
            return None
        return f"{prefix}{name}" if bare and not name.startswith(("lm_head.", "score.")) else name

    return weights.renamed(rename)


def check_vocabulary(tokenizer: Tokenizer, vocabulary: int, folder: Path) -> None:
    """A table may have more rows than there are tokens (it is often padded), and never fewer.

    Raises:
        DataError: where a text could spell a token that has no row.
    """
    if tokenizer.largest_spelt >= vocabulary:
        raise DataError(
            N_("the tokenizer in {path} spells the token {number:raw}, and vocab_size is {size:raw}"),
            path=str(folder),
            number=tokenizer.largest_spelt,
            size=vocabulary,
        )


def model_config(model: LanguageModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """What `config.json` says of a language model."""
    if model.settings.architecture == "lstm":
        return _lstm_config(model)
    return _brought_config(model) if model.family.config else _llama_config(model, tokenizer)


def _brought_config(model: LanguageModel) -> dict[str, Any]:
    """The configuration as it was read, but for what the weights decide: their number format, and whether head and table
    are one.
    """
    config = dict(model.family.config)
    kind = "torch_dtype" if "torch_dtype" in config else "dtype"
    changed = {"tie_word_embeddings": model.settings.tied, kind: "float32"}
    return config | changed | {"architectures": [model.family.language_model]}


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

"""What a model's `config.json` says of its shape: the families of transformers whose parameters can be counted exactly."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from treino.errors import UsageError, reason_of
from treino.messages import N_
from treino.planning.parameters import Architecture, count

MOST = 1e16
"""A model with more parameters than this is a slip of the pen."""

NAMES = {
    "width": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "vocabulary": ("vocab_size",),
    "kv_heads": ("num_key_value_heads",),
    "head_size": ("head_dim",),
    "feed_forward": ("intermediate_size", "n_inner", "ffn_dim"),
    "context": ("max_position_embeddings", "n_positions", "seq_length", "max_sequence_length"),
    "embedding": ("word_embed_proj_dim",),
    "experts": ("num_local_experts", "num_experts"),
    "active": ("num_experts_per_tok",),
}
"""How families call a number, the usual name first."""

_LAYER_NORM = {"norm_bias": True}
_BIASES = {"qkv_bias": True, "output_bias": True, "feed_forward_bias": True}
_OLD = _LAYER_NORM | _BIASES | {"gated": False}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"kv_heads": 8},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"query_key_norm": "head", "head_size": 128},
    "smollm3": {"tied": True},
    "granite": {},
    "phi3": {},
    "olmo": {"norm_scale": False},
    "olmo2": {"query_key_norm": "width"},
    "gemma": {"tied": True, "head_size": 256},
    "gemma2": {"tied": True, "head_size": 256, "norms": 4},
    "gemma3_text": {"tied": True, "head_size": 256, "norms": 4, "query_key_norm": "head"},
    "mixtral": {"kv_heads": 8, "experts": 8, "active": 2},
    "qwen3_moe": {"query_key_norm": "head", "experts": 128, "active": 8},
    "palm": {"tied": True, "norms": 1},
    "gpt2": _OLD | {"tied": True, "context": 1024},
    "gpt_neox": _OLD,
    "gptj": _LAYER_NORM | {"gated": False, "feed_forward_bias": True, "head_bias": True, "norms": 1},
    "phi": _OLD | {"head_bias": True, "norms": 1},
    "opt": _OLD | {"tied": True},
    "bloom": _OLD | {"tied": True, "embedding_norm": True},
    "starcoder2": _OLD | {"tied": True},
    "stablelm": _LAYER_NORM,
}
"""What each family's model has beyond Llama's, and the values that its configuration may leave out, by `model_type`; palm is
none of transformers'."""


def read_configuration(path: Path) -> Architecture:
    """The architecture of a `config.json`, or of a folder that holds one.

    Raises:
        UsageError: for a file that cannot be read, a family that is not known, and numbers without sense.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(N_("cannot read {path}: {reason}"), path=str(file), reason=reason_of(error)) from None
    if not isinstance(config, dict):
        raise UsageError(N_("{path} is no model's configuration"), path=str(file))
    return from_configuration(config, str(file))


def from_configuration(config: Mapping[str, Any], where: str | None = None) -> Architecture:
    """The architecture that the values of a `config.json` describe; a model of several kinds of input by its text part.

    Raises:
        UsageError: as `read_configuration`.
    """
    if isinstance(config.get("text_config"), dict):
        config = config["text_config"]
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        near = difflib.get_close_matches(family, FAMILIES, n=1)
        raise UsageError(
            N_("the planner does not know models of the type {kind}"),
            where=where,
            fix=N_("did you mean {guess}?") if near else N_("known are {families}; or give --shape"),
            kind=family,
            guess=near[0] if near else "",
            families=", ".join(FAMILIES),
        )
    values = FAMILIES[family] | _numbers(config, where)
    values["tied"] = config.get("tie_word_embeddings", values.get("tied", False))
    adjust = _ADJUST.get(family)
    values |= adjust(config, values) if adjust else {}
    for key, field in (("attention_bias", "qkv_bias"), ("mlp_bias", "feed_forward_bias")):
        if config.get(key) is not None and family not in ("gpt2", "bloom"):
            values[field] = bool(config[key])
            if field == "qkv_bias":
                values["output_bias"] = bool(config[key])
    return checked(Architecture(family=family, **_complete(values)), where)


def _numbers(config: Mapping[str, Any], where: str | None) -> dict[str, int]:
    """The whole numbers that the configuration gives, under our names."""
    found: dict[str, int] = {}
    for field, names in NAMES.items():
        name = next((name for name in names if config.get(name) is not None), None)
        if name is None:
            continue
        value = config[name]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**10:
            raise UsageError(
                N_("{name} must be a whole number above 0, not {value}"), where=where, name=name, value=repr(value)[:40]
            )
        found[field] = value
    for field in ("width", "layers", "heads", "vocabulary"):
        if field not in found:
            raise UsageError(N_("it does not say {key}"), where=where, key=NAMES[field][0])
    return found


def _complete(values: dict[str, Any]) -> dict[str, Any]:
    """What follows from the other numbers where the configuration does not say it."""
    values = {"kv_heads": values["heads"], "feed_forward": 4 * values["width"]} | values
    if values.get("embedding") == values["width"]:
        values["embedding"] = 0
    if not values.get("experts"):
        values |= {"experts": 0, "active": 0}
    return values


def _gpt2(config: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {"positions": values["context"]}


def _opt(config: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """OPT's table of positions has two rows for its padding; a model that norms after its layers has none at the end."""
    before = config.get("do_layer_norm_before", True)
    bias, affine = config.get("enable_bias", True), config.get("layer_norm_elementwise_affine", True)
    return {
        "positions": values.get("context", 2048) + 2,
        "final_norm": bool(before) and not config.get("_remove_final_layer_norm", False),
        "norm_scale": bool(affine),
        "norm_bias": bool(affine),
    } | dict.fromkeys(_BIASES, bool(bias))


def _neox(config: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {"feed_forward": config.get("intermediate_size") or 4 * values["width"]}


def _one_width(config: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Bloom says nothing of the inner width."""
    return {"feed_forward": 4 * values["width"]}


def _qwen3_experts(config: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    layers, every = values["layers"], config.get("decoder_sparse_step", 1) or 1
    plain = set(config.get("mlp_only_layers") or [])
    dense = sum(1 for layer in range(layers) if layer in plain or (layer + 1) % every)
    inner = config.get("intermediate_size", 6144)
    return {"feed_forward": config.get("moe_intermediate_size", 768), "dense_layers": dense, "dense_width": inner}


def _starcoder2(config: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(_BIASES, bool(config.get("use_bias", True)))


def _stablelm(config: Mapping[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {
        "qkv_bias": bool(config.get("use_qkv_bias")),
        "query_key_norm": "head" if config.get("qk_layernorm") else "",
        "norms": 1 if config.get("use_parallel_residual") else 2,
    }


_ADJUST = {
    "gpt2": _gpt2,
    "opt": _opt,
    "gpt_neox": _neox,
    "bloom": _one_width,
    "qwen3_moe": _qwen3_experts,
    "starcoder2": _starcoder2,
    "stablelm": _stablelm,
}


def checked(model: Architecture, where: str | None = None) -> Architecture:
    """The model itself, if its numbers go together.

    Raises:
        UsageError: with the pair of numbers that does not.
    """
    odd = {
        "query_key_norm": model.query_key_norm not in ("", "head", "width"),
        "architecture": model.architecture not in ("transformer", "lstm"),
        "dense_layers": not 0 <= model.dense_layers <= model.layers,
        "active": model.active > model.experts,
    }
    for name in (name for name, wrong in odd.items() if wrong):
        raise UsageError(N_("{name} cannot be {value}"), where=where, name=name, value=repr(getattr(model, name)))
    if model.heads % model.kv_heads:
        raise UsageError(
            N_("{kv_heads:raw} heads for keys and values cannot be shared by {heads:raw} attention heads"),
            where=where,
            kv_heads=model.kv_heads,
            heads=model.heads,
        )
    if not model.head_size and model.width % model.heads:
        raise UsageError(
            N_("a width of {width:raw} cannot be shared by {heads:raw} attention heads"),
            where=where,
            width=model.width,
            heads=model.heads,
        )
    if (total := count(model)["total"]) > MOST:
        raise UsageError(
            N_("a model of {total} parameters is larger than anything that could be trained"), where=where, total=total
        )
    return model

"""The families of people's models that are computed here: what their `config.json` says, and what of it is refused.

Llama 1 to 3 (and what has its architecture: TinyLlama, SmolLM, Tucano), Mistral, Qwen2, Qwen3 and GPT-2, each with the field
names of its transformers configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treino.errors import DataError
from treino.messages import N_
from treino.recipe import ModelSettings

CLASS_NAMES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3", "gpt2": "GPT2"}
"""How transformers' classes of a family begin, by `model_type`."""

CLASSIFIER = "ForSequenceClassification"


@dataclass(frozen=True)
class RopeScaling:
    """How rotary rates were stretched for a longer context: `linear`, or `llama3` (see `transformer.rope_rates`)."""

    kind: str
    factor: float
    low: float = 1.0
    high: float = 4.0
    original: float = 0.0
    """Context before the stretching, in tokens."""


@dataclass(frozen=True)
class Family:
    """What a model has beyond `ModelSettings`; the default is a model made here, of Llama's architecture.

    Attributes:
        name: `model_type` of its configuration.
        head_size: numbers of an attention head; 0: width / heads.
        qkv_bias, output_bias, feed_forward_bias: which linear layers add a vector.
        query_key_norm: queries and keys go through an RMSNorm of the head's size before they are rotated.
        scaling: how the rotary rates were stretched.
        config: `config.json` as it was read, so that the model is saved as itself; empty for a model made here.
    """

    name: str = "llama"
    head_size: int = 0
    qkv_bias: bool = False
    output_bias: bool = False
    feed_forward_bias: bool = False
    query_key_norm: bool = False
    scaling: RopeScaling | None = None
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def language_model(self) -> str:
        """Name of transformers' class with a language model's head."""
        return "GPT2LMHeadModel" if self.name == "gpt2" else f"{CLASS_NAMES[self.name]}ForCausalLM"

    @property
    def classifier(self) -> str:
        """Name of transformers' class with a classification head."""
        return f"{CLASS_NAMES[self.name]}{CLASSIFIER}"

    @property
    def body(self) -> str:
        """What the body's parameters are called before the first dot."""
        return "transformer" if self.name == "gpt2" else "model"

    def left_out(self, name: str) -> bool:
        """Whether a tensor of an older folder is no weight: rotary rates and causal masks are computed here."""
        if self.name == "gpt2":
            return name.endswith((".attn.bias", ".attn.masked_bias"))
        return name.endswith(".rotary_emb.inv_freq")


OWN = Family()

_ABSENT = (None, False)
_EVERYWHERE: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
    "is_encoder_decoder": _ABSENT,
    "add_cross_attention": _ABSENT,
}
_ROTARY = _EVERYWHERE | {
    "hidden_act": (None, "silu", "swish"),
    "partial_rotary_factor": (None, 1),
    "rope_interleaved": _ABSENT,
    "qkv_bias": _ABSENT,
    "bias": _ABSENT,
    "mlp_bias": _ABSENT,
}
SUPPORTED: dict[str, dict[str, tuple[Any, ...]]] = {
    "llama": _ROTARY | {"attention_bias": (None, False, True), "mlp_bias": (None, False, True)},
    "mistral": _ROTARY | {"attention_bias": _ABSENT},
    "qwen2": _ROTARY | {"attention_bias": (None, True)},
    "qwen3": _ROTARY | {"attention_bias": (None, False, True)},
    "gpt2": _EVERYWHERE
    | {
        "activation_function": (None, "gelu_new", "gelu_pytorch_tanh"),
        "scale_attn_weights": (None, True),
        "scale_attn_by_inverse_layer_idx": _ABSENT,
    },
}
"""Fields of which only some values are computed here, by family; a field that is not there counts as None."""

KEY_HEADS = {"mistral": 8}
"""Heads for keys and values where the configuration does not say: transformers' default, else as many as for queries."""


def read_family(config: Mapping[str, Any], path: Path) -> tuple[ModelSettings, int, Family]:
    """Shape, vocabulary and family from a `config.json`.

    A sliding window bounds the context: in rows that are no longer than the window, it hides nothing.

    Raises:
        DataError: for another family, and for a field that has a value which is not computed here.
        KeyError, ValidationError: for a field that is missing or has no sense.
    """
    name = config.get("model_type")
    if name not in CLASS_NAMES:
        raise DataError(
            N_("{path} holds a model of the type {kind}, which is not supported"),
            fix=N_("supported are {families}, and the LSTM of treino"),
            path=str(path.parent),
            kind=str(name),
            families=", ".join(CLASS_NAMES),
        )
    reader = _Reader(config, path)
    for key, values in SUPPORTED[name].items():
        reader.insist(key, config.get(key) in values)
    _check_classes(reader, name)
    return (_read_gpt2 if name == "gpt2" else _read_rotary)(reader, name)


class _Reader:
    """Fields of a configuration; one with a value that is not supported is refused by its name."""

    def __init__(self, config: Mapping[str, Any], path: Path) -> None:
        self.config, self.path = config, path

    def insist(self, name: str, supported: bool, value: Any = None) -> None:
        """Refuse the field's value unless it is supported."""
        if not supported:
            raise DataError(
                N_("this model sets {name} to {value:raw}, which is not supported"),
                where=str(self.path),
                name=name,
                value=self.config.get(name) if value is None else value,
            )

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number above 0; without a default the field must be there."""
        value = self.config[name] if default is None else self.config.get(name)
        value = default if value is None else value
        self.insist(name, isinstance(value, int) and not isinstance(value, bool) and value > 0, value)
        return int(value)  # type: ignore[arg-type]


def _check_classes(reader: _Reader, name: str) -> None:
    """Other heads than a language model's and a classifier's, and models that bring code of their own, are refused."""
    family = Family(name)
    known = {family.language_model, family.classifier, f"{CLASS_NAMES[name]}Model"}
    reader.insist("architectures", set(reader.config.get("architectures") or []) <= known)
    code = reader.config.get("auto_map") or {}
    reader.insist("auto_map", not any(str(key).startswith("AutoModel") for key in code))


def _read_rotary(reader: _Reader, name: str) -> tuple[ModelSettings, int, Family]:
    config, number = reader.config, reader.number
    width, heads = number("hidden_size"), number("num_attention_heads")
    kv_heads = number("num_key_value_heads", KEY_HEADS.get(name, heads))
    reader.insist("num_key_value_heads", heads % kv_heads == 0, kv_heads)
    size = number("head_dim", 128 if name == "qwen3" else width // heads)
    reader.insist("head_dim", size % 2 == 0, size)
    theta, scaling = _read_rope(reader)
    attention_bias = bool(config.get("attention_bias"))
    family = Family(
        name,
        head_size=size,
        qkv_bias=attention_bias or name == "qwen2",
        output_bias=attention_bias and name != "qwen2",
        feed_forward_bias=bool(config.get("mlp_bias")),
        query_key_norm=name == "qwen3",
        scaling=scaling,
        config=dict(config),
    )
    settings = ModelSettings(
        architecture="transformer",
        width=width,
        layers=number("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=number("intermediate_size"),
        embedding=width,
        context=min(number("max_position_embeddings"), _window(reader, name)),
        tied=bool(config.get("tie_word_embeddings", False)),
        rope_theta=theta,
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
    )
    return settings, number("vocab_size"), family


def _window(reader: _Reader, name: str) -> int:
    """Places that the narrowest layer sees, as far as one looks."""
    everything = reader.number("max_position_embeddings")
    kinds = reader.config.get("layer_types")
    reader.insist("layer_types", set(kinds or []) <= {"full_attention", "sliding_attention"})
    used = bool(reader.config.get("use_sliding_window")) if name.startswith("qwen") else name == "mistral"
    if kinds is not None:
        used = used and "sliding_attention" in kinds
    return reader.number("sliding_window", everything) if used else everything


def _read_rope(reader: _Reader) -> tuple[float, RopeScaling | None]:
    """θ and scaling, from where newer (`rope_parameters`) and older configurations have them."""
    config = reader.config
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    nested = [key for key, value in rope.items() if isinstance(value, dict)]
    reader.insist("rope_parameters", not nested, ", ".join(nested))
    part = rope.get("partial_rotary_factor")
    reader.insist("partial_rotary_factor", part in (None, 1), part)
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    kind = rope.get("rope_type", rope.get("type", "default"))
    reader.insist("rope_type", kind in ("default", "linear", "llama3"), kind)
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling(kind, float(rope["factor"]))
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    original = float(original or config["max_position_embeddings"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    return theta, RopeScaling(kind, float(rope["factor"]), low, high, original)


def _read_gpt2(reader: _Reader, name: str) -> tuple[ModelSettings, int, Family]:
    config, number = reader.config, reader.number
    width, heads = number("n_embd"), number("n_head")
    reader.insist("n_head", width % heads == 0)
    settings = ModelSettings(
        architecture="transformer",
        width=width,
        layers=number("n_layer"),
        heads=heads,
        kv_heads=heads,
        feed_forward=number("n_inner", 4 * width),
        embedding=width,
        context=number("n_positions"),
        tied=bool(config.get("tie_word_embeddings", True)),
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
    )
    return settings, number("vocab_size"), Family(name, config=dict(config))

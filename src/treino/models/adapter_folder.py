"""Adapters on disk: PEFT's folder, `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from treino import files
from treino.errors import DataError
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.models.gpt2 import GPT2
from treino.models.lora import LoraShape, add_adapter, layers_of
from treino.models.weights import fill, open_weights, save_weights

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
SINGLE = {"bias": "none", "use_dora": False, "use_qalora": False, "lora_bias": False, "layer_replication": None}
EMPTY = (
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
)
"""What an adapter must not have, for nothing here computes it: fields that have one value only, and empty ones."""


def save_adapter(
    body: LanguageModel, folder: Path, name: str = "default", *, base: str = "", head: nn.Module | None = None
) -> None:
    """Write an adapter of the body, and a classification head beside it (PEFT's `modules_to_save`) where there is one.

    Args:
        base: name or path of the base model, kept in the configuration.
    """
    layers = {path: layer for path, layer in layers_of(body) if name in layer.shapes}
    shape = next(iter(layers.values())).shapes[name]
    tensors: dict[str, Tensor] = {}
    for path, layer in layers.items():
        tensors[f"{PREFIX}{path}.lora_A.weight"] = layer.lora_A[name]
        tensors[f"{PREFIX}{path}.lora_B.weight"] = layer.lora_B[name]
    heads = dict(head.named_parameters()) if head else {}
    tensors |= {f"{PREFIX}{path}": value for path, value in heads.items()}
    files.make_private(folder)
    save_weights(tensors, folder / WEIGHTS)
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if head else "CAUSAL_LM",
        "base_model_name_or_path": base or None,
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": shape.dropout,
        "use_rslora": shape.rslora,
        "target_modules": sorted({path.rpartition(".")[2] for path in layers}),
        "modules_to_save": sorted({path.partition(".")[0] for path in heads}) or None,
        "fan_in_fan_out": isinstance(body, GPT2),
        "inference_mode": True,
        "bias": "none",
    }
    files.write_json(folder / CONFIG, config)


def load_adapter(body: LanguageModel, folder: Path, name: str = "default", *, head: nn.Module | None = None) -> None:
    """Put an adapter beside the layers of the body that it was made for, in force at once.

    Raises:
        DataError: for a missing or damaged file, an adapter of another kind, or one that does not fit the model.
    """
    shape = _shape(files.read_json(folder / CONFIG), folder)
    with open_weights(folder, WEIGHTS) as stored:
        weights = stored.renamed(lambda key: key.removeprefix(PREFIX))
        paths = [key.removesuffix(".lora_A.weight") for key in weights.places if key.endswith(".lora_A.weight")]
        known = dict(body.named_modules())
        strange = next((path for path in paths if path not in known), None)
        if strange or not paths:
            raise DataError(
                N_("the adapter {path} does not fit the model, which has no layer {layer}"),
                fix=N_("load the base model that the adapter was trained on"),
                path=str(folder),
                layer=strange or "lora_A",
            )
        add_adapter(body, paths, shape, name)
        wanted: dict[str, Tensor] = dict(head.named_parameters()) if head else {}
        for path, layer in layers_of(body):
            if name in layer.shapes:
                wanted |= {f"{path}.lora_A.weight": layer.lora_A[name], f"{path}.lora_B.weight": layer.lora_B[name]}
        fill(wanted, weights)


def _shape(config: dict[str, Any], folder: Path) -> LoraShape:
    """What the configuration asks for; what nothing here computes is refused by its field."""
    wrong = [f"{key} = {config[key]}" for key, value in SINGLE.items() if config.get(key, value) not in (value, None)]
    wrong += [key for key in EMPTY if config.get(key)]
    if config.get("peft_type") != "LORA":
        wrong.insert(0, f"peft_type = {config.get('peft_type')}")
    if wrong:
        raise DataError(
            N_("the adapter {path} asks for what is not supported: {field}"), path=str(folder), field=", ".join(wrong)
        )
    return LoraShape(
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        dropout=float(config.get("lora_dropout") or 0.0),
        rslora=bool(config.get("use_rslora")),
    )

"""Parameters of people's models against transformers' own, and FLOPs against torch's counter of operations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from treino.errors import UsageError
from treino.planning.configuration import FAMILIES, from_configuration, read_configuration
from treino.planning.flops import forward_flops_per_token, training_flops_per_token
from treino.planning.memory import adapter_parameters
from treino.planning.parameters import active, count

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 112,
    "vocab_size": 320,
    "max_position_embeddings": 96,
}
GPT: dict[str, Any] = {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 300, "n_positions": 48}
CONFIGURATIONS: list[tuple[str, dict[str, Any]]] = [
    ("gpt2", GPT),
    ("gpt2", {}),
    ("gpt2", GPT | {"n_inner": 100, "tie_word_embeddings": False}),
    ("gpt2", {"n_embd": 1600, "n_layer": 48, "n_head": 25}),
    ("llama", {}),
    ("llama", SMALL | {"tie_word_embeddings": True}),
    ("llama", SMALL | {"attention_bias": True, "mlp_bias": True, "head_dim": 24}),
    ("llama", {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}),
    ("mistral", {}),
    ("mistral", SMALL | {"head_dim": 32}),
    ("mistral", SMALL | {"tie_word_embeddings": True}),
    ("qwen2", SMALL),
    ("qwen2", SMALL | {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    ("qwen2", {"hidden_size": 896, "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864}),
    ("qwen3", SMALL),
    ("qwen3", SMALL | {"head_dim": 16, "attention_bias": True, "tie_word_embeddings": True}),
    ("qwen3", {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}),
    ("gpt_neox", {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 200}),
    ("gpt_neox", {}),
    ("gpt_neox", {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "attention_bias": False}),
    ("smollm3", SMALL | {"num_hidden_layers": 4, "pad_token_id": 0}),
    ("granite", SMALL),
    ("phi3", SMALL | {"pad_token_id": 0}),
    ("olmo", SMALL),
    ("olmo2", SMALL),
    ("gemma", SMALL | {"head_dim": 16}),
    ("gemma2", SMALL),
    ("gemma3_text", SMALL | {"num_hidden_layers": 6}),
    ("mixtral", SMALL | {"num_local_experts": 4}),
    (
        "qwen3_moe",
        SMALL | {"moe_intermediate_size": 48, "num_experts": 6, "num_experts_per_tok": 2, "mlp_only_layers": [1]},
    ),
    ("gptj", {**GPT, "rotary_dim": 8}),
    ("phi", SMALL | {"num_key_value_heads": 4}),
    ("opt", {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 150, "vocab_size": 99}),
    ("opt", {"hidden_size": 64, "num_attention_heads": 4, "word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 99}),
    ("starcoder2", SMALL),
    ("stablelm", SMALL),
]


def built(family: str, changes: dict[str, Any], device: str) -> tuple[Any, dict[str, Any]]:
    """transformers' model without memory for its weights, and its configuration as the file would have it."""
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[family](**changes)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config)
    return model, json.loads(config.to_json_string(use_diff=True))


@pytest.mark.parametrize(("family", "changes"), CONFIGURATIONS)
def test_parameters_are_exactly_those_of_transformers(family: str, changes: dict[str, Any]) -> None:
    model, config = built(family, changes, "meta")
    parts = count(from_configuration(config))
    assert parts["total"] == sum(parameter.numel() for parameter in model.parameters())
    assert parts["total"] == sum(number for part, number in parts.items() if part != "total")
    assert parts["embedding"] == model.get_input_embeddings().weight.numel()


def test_every_family_is_compared() -> None:
    assert {family for family, _ in CONFIGURATIONS} == set(FAMILIES) - {"palm"}


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "qwen3"])
def test_every_expert_has_adapters_of_its_own(family: str) -> None:
    model, config = built(family, dict(CONFIGURATIONS)[family] | SMALL, "meta")
    matrices = {name: value.shape for name, value in model.model.layers.named_parameters() if value.ndim > 1}
    adapted = 0
    for name, shape in matrices.items():
        if "proj" in name:  # transformers stacks experts, and the gate on what it gates
            pairs = 2 if "gate_up" in name else 1
            adapted += shape[:-2].numel() * (pairs * shape[-1] + shape[-2]) * 5
    assert adapter_parameters(from_configuration(config), 5) == adapted


RUN = [
    (family, changes)
    for family, changes in CONFIGURATIONS
    if family not in ("opt", "bloom", "gptj", "mixtral", "qwen3_moe")  # these are counted by their parameters alone
    and (changes.get("hidden_size") == 64 or changes.get("n_embd") == 64)
]


@pytest.mark.parametrize(("family", "changes"), RUN)
def test_flops_are_those_that_torch_counts(family: str, changes: dict[str, Any]) -> None:
    """Within half a percent, forward and in training; attention is written out, so that the counter sees it."""
    model, config = built(family, changes, "cpu")
    model.set_attn_implementation("eager")
    shape = from_configuration(config)
    with FlopCounterMode(display=False) as counter:
        logits = model(torch.arange(64).view(2, 32), use_cache=False).logits
        forward = counter.get_total_flops() / 64
        logits.float().sum().backward()
        both = counter.get_total_flops() / 64
    assert forward == pytest.approx(forward_flops_per_token(shape, 0, 32)["total"], rel=0.005)
    assert both == pytest.approx(training_flops_per_token(shape, 0, 32)["total"], rel=0.005)


def test_a_mixture_of_experts_meets_fewer_parameters_than_it_has() -> None:
    changes = SMALL | {"num_local_experts": 4, "num_experts_per_tok": 1, "model_type": "mixtral"}
    model = from_configuration(changes)
    expert = 3 * 64 * 112
    assert count(model)["total"] - active(model) == 2 * 3 * expert
    dense = from_configuration(SMALL | {"model_type": "llama"})
    assert active(dense) == count(dense)["total"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "lama"}, "did you mean llama"),
        ({"model_type": "t5"}, "does not know models of the type t5"),
        ({"hidden_size": -64}, "hidden_size must be a whole number above 0"),
        ({"num_hidden_layers": float("nan")}, "num_hidden_layers must be"),
        ({"num_attention_heads": 5}, "cannot be shared by 5"),
        ({"hidden_size": 10**9}, "larger than anything"),
    ],
)
def test_a_configuration_without_sense_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama"} | SMALL | changes), encoding="utf-8")
    with pytest.raises(UsageError, match=said) as refused:
        read_configuration(tmp_path)
    assert refused.value.exit_code == 2

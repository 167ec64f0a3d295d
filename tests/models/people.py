"""Small models of people's families, made by transformers with random weights far from uniform, and tokenizers like theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
from small_models import TEXTS
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

SHAPE: dict[str, Any] = {
    "vocab_size": 352,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
GPT2 = {
    "vocab_size": 352, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0,
    "layer_norm_epsilon": 1e-3,
}  # fmt: skip

QWEN: dict[str, Any] = {"bos_token_id": None, "eos_token_id": 0}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"num_key_value_heads": 4}),
    "llama, shared keys, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama 3": ("llama", {"rope_parameters": LLAMA3}),
    "llama, linear scaling": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}},
    ),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, head size, window": ("mistral", {"head_dim": 16, "sliding_window": 48}),
    "qwen2": ("qwen2", QWEN),
    "qwen2, tied": ("qwen2", QWEN | {"tie_word_embeddings": True, "eos_token_id": [2, 0]}),
    "qwen3": ("qwen3", QWEN | {"head_dim": 16}),
    "qwen3, biases": ("qwen3", QWEN | {"head_dim": 16, "attention_bias": True}),
    "gpt2": ("gpt2", {}),
    "gpt2, untied": ("gpt2", {"tie_word_embeddings": False, "n_inner": 40}),
}
"""{name: (model_type, what its configuration says besides the shape)}."""


def people_model(oracle: Any, name: str, seed: int = 3, classes: int = 0, **changes: Any) -> Any:
    """A model of transformers: matrices of deviation 0.3, biases and norms far from where they start."""
    kind, own = FAMILIES[name]
    shape = (GPT2 if kind == "gpt2" else SHAPE) | own | changes
    shape |= {"num_labels": classes} if classes else {}
    config = oracle.AutoConfig.for_model(kind, initializer_range=0.3, **shape)
    torch.manual_seed(seed)
    auto = oracle.AutoModelForSequenceClassification if classes else oracle.AutoModelForCausalLM
    model = auto.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(1.5)
    return model


def byte_level(folder: Path, *, config: dict[str, Any] | None = None) -> tokenizers.Tokenizer:
    """A tokenizer like GPT-2's and Qwen2's, which puts nothing around a text; id 0 ends texts."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS, trainer)
    inner.enable_truncation(8)  # as some folders have it: it must not cut what is read here
    _write(inner, folder, config or {"eos_token": "<|endoftext|>", "pad_token": None, "bos_token": None})
    return inner


def spaced(folder: Path) -> tokenizers.Tokenizer:
    """A tokenizer like Llama's and Mistral's: `▁` for a space, bytes for what it lacks, `<s>` before a text."""
    inner = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"]
    content = json.loads(inner.to_str())
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(set("▁".join(TEXTS).replace(" ", "▁")))]
    content["model"]["vocab"] = {name: number for number, name in enumerate([*names, "▁g", "at", "▁gat"])}
    content["model"]["merges"] = [["▁", "g"], ["a", "t"], ["▁g", "at"]]
    inner = tokenizers.Tokenizer.from_str(json.dumps(content))
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    _write(
        inner,
        folder,
        {"bos_token": {"__type": "AddedToken", "content": "<s>"}, "eos_token": "</s>", "unk_token": "<unk>"},
    )
    return inner


def _write(inner: tokenizers.Tokenizer, folder: Path, config: dict[str, Any]) -> None:
    (folder / "tokenizer.json").write_text(inner.to_str(pretty=True), encoding="utf-8")
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, "chat_template": "x"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told | config), encoding="utf-8")


def people_folder(
    oracle: Any, name: str, folder: Path, *, classes: int = 0, shard: str = "10GB", **changes: Any
) -> Any:
    """Write such a model with its tokenizer as people have them; gives back transformers' model."""
    model = people_model(oracle, name, classes=classes, **changes)
    model.save_pretrained(folder, max_shard_size=shard)
    (spaced if FAMILIES[name][0] in ("llama", "mistral") else byte_level)(folder)
    return model


def edit_config(folder: Path, **changes: Any) -> None:
    """Change fields of config.json; None takes one away."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {name: value for name, value in config.items() if name not in changes or value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")

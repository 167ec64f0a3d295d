"""Folders: `transformers` reads ours with equal logits and we read its; what we cannot compute is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import close, make

from treino.errors import DataError
from treino.models.folder import load_model, save_model
from treino.tokens.tokenizer import Tokenizer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
VARIANTS = [
    pytest.param({"tied": False}, id="untied"),
    pytest.param({"tied": True}, id="tied"),
    pytest.param({"kv_heads": 4, "rope_theta": 500.0}, id="no sharing of keys, another theta"),
    pytest.param({"kv_heads": 1, "norm_epsilon": 0.1}, id="one key head, a large epsilon"),
]


@pytest.fixture(scope="module")
def oracle() -> Any:
    return pytest.importorskip("transformers")


def rows(vocabulary: int) -> torch.Tensor:
    return torch.randint(2, vocabulary, (3, 40), generator=torch.Generator().manual_seed(1))


def oracle_logits(oracle: Any, folder: Path, ids: torch.Tensor) -> torch.Tensor:
    model = oracle.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(ids).logits


@pytest.mark.parametrize("changes", VARIANTS)
def test_transformers_computes_our_logits(
    oracle: Any, tokenizer: Tokenizer, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model = make(tokenizer.size, **changes)
    save_model(model, tokenizer, tmp_path)
    ids = rows(tokenizer.size)
    with torch.no_grad():
        own = model(ids)
    shares = torch.softmax(own, -1)
    entropy = -(shares * shares.clamp_min(1e-30).log()).sum(-1).mean()
    assert entropy < 0.75 * torch.log(torch.tensor(float(tokenizer.size))), "the logits must be far from uniform"
    assert close(own, oracle_logits(oracle, tmp_path, ids))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(config), encoding="utf-8")


def another_theta(folder: Path) -> None:
    edit_config(folder, rope_theta=500.0, rope_parameters={"rope_type": "default", "rope_theta": 500.0})


def another_epsilon(folder: Path) -> None:
    edit_config(folder, rms_norm_eps=1e-5)


def another_repetition(folder: Path) -> None:
    """Queries in the order of a model that repeats keys a b a b, where Llama has a a b b."""
    tensors = load_file(folder / "model.safetensors")
    for name, value in tensors.items():
        if "q_proj" in name:
            tensors[name] = value.view(4, 8, 32)[[0, 2, 1, 3]].reshape(32, 32).contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("mutate", [another_theta, another_epsilon, another_repetition])
def test_each_feature_is_seen_by_the_comparison(
    oracle: Any, tokenizer: Tokenizer, tmp_path: Path, mutate: Callable[[Path], None]
) -> None:
    model = make(tokenizer.size, norm_epsilon=0.1)
    save_model(model, tokenizer, tmp_path)
    ids = rows(tokenizer.size)
    with torch.no_grad():
        own = model(ids)
    assert close(own, oracle_logits(oracle, tmp_path, ids))
    mutate(tmp_path)
    assert not close(own, oracle_logits(oracle, tmp_path, ids), slack=100)


def oracle_model(oracle: Any, **changes: Any) -> Any:
    torch.manual_seed(5)
    shape = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "rms_norm_eps": 1e-3,
    }
    return oracle.LlamaForCausalLM(oracle.LlamaConfig(**(shape | changes))).eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard", ["10GB", "20KB"])
def test_we_compute_the_logits_of_transformers(
    oracle: Any, tokenizer: Tokenizer, tmp_path: Path, shard: str, tied: bool
) -> None:
    theirs = oracle_model(oracle, tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "20KB")
    ours, _ = load_model(tmp_path)
    ids = rows(320)
    with torch.no_grad():
        assert close(ours(ids), theirs(ids).logits)


def test_the_tokenizer_of_transformers_gives_our_tokens(oracle: Any, tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_model(make(tokenizer.size), tokenizer, tmp_path)
    theirs = oracle.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("Não é possível, João!", "  dois  espaços\n\nnova linha", "emoji 🐈 e «aspas»", ""):
        ids = tokenizer.encode(text)
        assert theirs(text, add_special_tokens=False).input_ids == ids
        assert theirs.decode(ids) == tokenizer.decode(ids) == text
    assert theirs.eos_token_id == tokenizer.end_of_text
    assert theirs.pad_token_id == tokenizer.pad != theirs.eos_token_id
    ends = oracle.GenerationConfig.from_pretrained(tmp_path)
    assert (ends.bos_token_id, ends.eos_token_id, ends.pad_token_id) == (0, 0, 1)


@pytest.mark.parametrize("changes", [{}, {"tied": True}, {"architecture": "lstm"}])
def test_what_was_saved_comes_back_bit_for_bit(tokenizer: Tokenizer, tmp_path: Path, changes: dict[str, Any]) -> None:
    model = make(tokenizer.size, **changes)
    save_model(model, tokenizer, tmp_path / "a")
    save_model(model, tokenizer, tmp_path / "b")
    loaded, same_tokenizer = load_model(tmp_path / "a")
    ids = rows(tokenizer.size)
    with torch.no_grad():
        assert torch.equal(loaded(ids), model(ids))
    assert loaded.settings == model.settings
    assert same_tokenizer.encode("A padaria") == tokenizer.encode("A padaria")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    if changes.get("tied"):
        assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
        assert "lm_head.weight" not in load_file(tmp_path / "a" / "model.safetensors")


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors")


def extra_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(32)
    save_file(tensors, folder / "model.safetensors")


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lost_key(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["hidden_size"]
    path.write_text(json.dumps(config), encoding="utf-8")


REFUSED: list[tuple[str, Callable[[Path], None], str]] = [
    ("another family", lambda folder: edit_config(folder, model_type="mamba"), "mamba"),
    ("scaled rotations", lambda folder: edit_config(folder, rope_parameters={"rope_type": "yarn"}), "yarn"),
    ("bias that is not there", lambda folder: edit_config(folder, attention_bias=True), "q_proj.bias"),
    ("activation", lambda folder: edit_config(folder, hidden_act="gelu"), "gelu"),
    ("size of a head", lambda folder: edit_config(folder, head_dim=16), "q_proj.weight [32, 32] ≠ [64, 32]"),
    ("a shape", lambda folder: edit_config(folder, intermediate_size=56), "mlp"),
    ("no width", lost_key, "hidden_size"),
    ("a tensor is missing", drop_tensor, "model.norm.weight"),
    ("a tensor too many", extra_tensor, "q_proj.bias"),
    ("tied in name only", lambda folder: edit_config(folder, tie_word_embeddings=True), "lm_head"),
    ("a pickle", only_a_pickle, "pickle"),
    ("truncated", truncated, "model.safetensors"),
]


@pytest.mark.parametrize(("mutate", "named"), [pytest.param(row[1], row[2], id=row[0]) for row in REFUSED])
def test_a_folder_that_we_cannot_compute_is_refused_by_name(
    tokenizer: Tokenizer, tmp_path: Path, mutate: Callable[[Path], None], named: str
) -> None:
    save_model(make(tokenizer.size), tokenizer, tmp_path)
    mutate(tmp_path)
    with pytest.raises(DataError) as refused:
        load_model(tmp_path)
    error = refused.value
    told = error.message.english() + (error.fix.english() if error.fix else "")
    assert named in told

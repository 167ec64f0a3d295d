"""People's models: the families' logits, names, generation and classifiers are those of transformers, saved or loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from people import FAMILIES, edit_config, people_folder, people_model
from safetensors.torch import load_file, save_file
from small_models import TEXTS, close

from treino.errors import DataError
from treino.models import generation, gpt2
from treino.models.base import LanguageModel
from treino.models.classifier import build_classifier
from treino.models.classifier_folder import load_classifier, save_classifier
from treino.models.folder import load_model, save_model
from treino.tokens.labelled import encode

os.environ.setdefault("HF_HUB_OFFLINE", "1")
LONGEST = 40
ONE_OF_EACH = ["llama 3", "mistral, head size, window", "qwen2, tied", "qwen3", "gpt2"]


@pytest.fixture(scope="module")
def oracle() -> Any:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers


def rows(length: int = LONGEST) -> torch.Tensor:
    return torch.randint(3, 330, (3, length), generator=torch.Generator().manual_seed(1))


def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = model(ids)
    return found if isinstance(found, torch.Tensor) else found.logits


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_transformers(oracle: Any, tmp_path: Path, name: str) -> None:
    theirs = people_folder(oracle, name, tmp_path, shard="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours, _ = load_model(tmp_path)
    wanted = logits_of(theirs, rows())
    shares = torch.softmax(wanted, -1)
    entropy = -(shares * shares.clamp_min(1e-30).log()).sum(-1).mean()
    assert entropy < 0.75 * torch.log(torch.tensor(float(ours.vocabulary))), "the logits must be far from uniform"
    assert close(logits_of(ours, rows()), wanted)


def zero(*endings: str) -> Callable[[LanguageModel], None]:
    def mutate(model: LanguageModel) -> None:
        found = [value for name, value in model.named_parameters() if name.endswith(endings)]
        assert found
        for value in found:
            value.data.zero_()

    return mutate


def without_norms(model: LanguageModel) -> None:
    for block in model.model.layers:  # type: ignore[union-attr]
        block.self_attn.q_norm = block.self_attn.k_norm = None


def unscaled(model: LanguageModel) -> None:
    from dataclasses import replace

    model.family = replace(model.family, scaling=None)


def mixed_up(model: LanguageModel) -> None:
    """Queries and keys of the fused matrix in the other order."""
    for block in model.transformer.h:  # type: ignore[union-attr]
        q, k, v = block.attn.c_attn.weight.data.chunk(3, 1)
        block.attn.c_attn.weight.data = torch.cat((k, q, v), 1)


def exact_gelu(model: LanguageModel) -> None:
    for block in model.transformer.h:  # type: ignore[union-attr]
        mlp: gpt2.FeedForward = block.mlp
        mlp.forward = lambda x, mlp=mlp: mlp.c_proj(F.gelu(mlp.c_fc(x)))  # type: ignore[method-assign]


def rms_norm(model: LanguageModel) -> None:
    for block in model.transformer.h:  # type: ignore[union-attr]
        norm = block.ln_1
        norm.forward = lambda x, norm=norm: F.rms_norm(x, x.shape[-1:], norm.weight, norm.eps) + norm.bias


@pytest.mark.parametrize(
    ("name", "mutate"),
    [
        ("qwen2", zero("q_proj.bias")),
        ("qwen2", zero("k_proj.bias")),
        ("qwen2", zero("v_proj.bias")),
        ("llama, biases", zero("o_proj.bias")),
        ("llama, biases", zero("gate_proj.bias")),
        ("llama, biases", zero("up_proj.bias")),
        ("llama, biases", zero("down_proj.bias")),
        ("qwen3", without_norms),
        ("llama 3", unscaled),
        ("llama, linear scaling", unscaled),
        ("gpt2", zero("wpe.weight")),
        ("gpt2", zero("c_attn.bias")),
        ("gpt2", zero("attn.c_proj.bias")),
        ("gpt2", zero("c_fc.bias")),
        ("gpt2", zero("ln_1.bias")),
        ("gpt2", zero("ln_f.bias")),
        ("gpt2", mixed_up),
        ("gpt2", exact_gelu),
        ("gpt2", rms_norm),
    ],
)
def test_each_feature_is_seen_by_the_comparison(
    oracle: Any, tmp_path: Path, name: str, mutate: Callable[[LanguageModel], None]
) -> None:
    theirs = people_folder(oracle, name, tmp_path)
    ours, _ = load_model(tmp_path)
    wanted = logits_of(theirs, rows())
    assert close(logits_of(ours, rows()), wanted)
    mutate(ours)
    assert not close(logits_of(ours, rows()), wanted, slack=10)


def test_a_window_bounds_the_context_and_changes_nothing_within_it(oracle: Any, tmp_path: Path) -> None:
    theirs = people_folder(oracle, "mistral, head size, window", tmp_path)
    ours, tokenizer = load_model(tmp_path)
    assert ours.context == 48 < theirs.config.max_position_embeddings
    assert close(logits_of(ours, rows(48)), logits_of(theirs, rows(48)))
    assert not close(logits_of(ours, rows(60)), logits_of(theirs, rows(60)), slack=100), "beyond it, it would"
    save_model(ours, tokenizer, tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text(encoding="utf-8"))
    assert (config["sliding_window"], config["max_position_embeddings"]) == (48, 64)


def test_rotary_rates_of_each_scaling_are_those_of_transformers(oracle: Any) -> None:
    """In the shape of Llama 3.1: rates that stay, rates that are mixed and rates that are divided all occur."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from treino.models.families import RopeScaling
    from treino.models.transformer import rope_rates

    told = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    config = oracle.LlamaConfig(hidden_size=4096, num_attention_heads=32, rope_parameters=told)
    wanted, _ = ROPE_INIT_FUNCTIONS["llama3"](config)
    found = rope_rates(128, 500000.0, RopeScaling("llama3", 8.0, 1.0, 4.0, 8192.0), torch.device("cpu"))
    plain = rope_rates(128, 500000.0, None, torch.device("cpu"))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
    ratio = plain / found
    assert (ratio < 1.001).any() and (ratio > 7.999).any() and ((ratio > 1.1) & (ratio < 7.9)).any()


@pytest.mark.parametrize("name", FAMILIES)
def test_what_we_save_transformers_loads_as_the_same_family(oracle: Any, tmp_path: Path, name: str) -> None:
    theirs = people_folder(oracle, name, tmp_path / "theirs")
    ours, tokenizer = load_model(tmp_path / "theirs")
    save_model(ours, tokenizer, tmp_path / "ours")
    again, told = type(theirs).from_pretrained(tmp_path / "ours", dtype=torch.float32, output_loading_info=True)
    assert {kind: list(names) for kind, names in told.items() if names} == {}
    assert torch.equal(logits_of(again.eval(), rows()), logits_of(theirs, rows()))
    before, after = (
        json.loads((tmp_path / folder / "config.json").read_text(encoding="utf-8")) for folder in ("theirs", "ours")
    )
    assert after == before | {"dtype": "float32"}
    for path in (tmp_path / "theirs").glob("*token*"):
        assert (tmp_path / "ours" / path.name).read_bytes() == path.read_bytes(), path.name
    loaded, _ = load_model(tmp_path / "ours")
    assert torch.equal(logits_of(loaded, rows()), logits_of(ours, rows()))
    assert (loaded.settings, loaded.family) == (ours.settings, ours.family)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_sixteen_bits_are_read_into_float32(oracle: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    theirs = people_model(oracle, "qwen2, tied").to(dtype)
    people_folder(oracle, "qwen2, tied", tmp_path)
    theirs.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["model.norm.weight"].dtype == dtype
    ours, _ = load_model(tmp_path)
    assert {value.dtype for value in ours.parameters()} == {torch.float32}
    again = type(theirs).from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert close(logits_of(ours, rows()), logits_of(again, rows()))


def bare_gpt2(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The layout of the oldest GPT-2 folders: the body without its prefix, with its causal masks."""
    renamed = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64).tril() for layer in range(2)}
    return renamed | masks | {"h.0.attn.masked_bias": torch.tensor(-1e4)}


def with_rates(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}


@pytest.mark.parametrize(("name", "change"), [("gpt2", bare_gpt2), ("llama", with_rates)])
def test_older_layouts_are_read(
    oracle: Any, tmp_path: Path, name: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    theirs = people_folder(oracle, name, tmp_path)
    save_file(change(load_file(tmp_path / "model.safetensors")), tmp_path / "model.safetensors")
    ours, _ = load_model(tmp_path)
    assert close(logits_of(ours, rows()), logits_of(theirs, rows()))


def test_older_configurations_say_the_same_in_other_places(oracle: Any, tmp_path: Path) -> None:
    people_folder(oracle, "llama 3", tmp_path)
    newer, _ = load_model(tmp_path)
    scaling = dict(newer.family.config["rope_parameters"])
    theta = scaling.pop("rope_theta")
    edit_config(tmp_path, rope_parameters=None, rope_theta=theta, rope_scaling=scaling, head_dim=None, dtype=None)
    older, _ = load_model(tmp_path)
    assert (older.settings, older.family.scaling) == (newer.settings, newer.family.scaling)
    assert torch.equal(logits_of(older, rows()), logits_of(newer, rows()))


class Recorder:
    """Takes the place of the stream decoder, to see ids instead of text."""

    ids: list[int]

    def __init__(self, *_: Any) -> None:
        Recorder.ids = []

    def push(self, number: int) -> str:
        Recorder.ids.append(number)
        return ""

    def close(self) -> str:
        return ""


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_generation_is_that_of_transformers(
    oracle: Any, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as the likeliest token is ahead by more than 1e-4, from a prompt as the folder's own tokenizer reads it."""
    theirs = people_folder(oracle, name, tmp_path)
    reader = oracle.AutoTokenizer.from_pretrained(tmp_path)
    ours, tokenizer = load_model(tmp_path)
    monkeypatch.setattr(generation, "StreamDecoder", Recorder)
    for prompt in ("O gato subiu", "A padaria da"):
        read = reader(prompt, return_tensors="pt", return_token_type_ids=False)
        told = theirs.generate(
            **read, max_new_tokens=20, do_sample=False, output_scores=True, return_dict_in_generate=True,
            pad_token_id=0,
        )  # fmt: skip
        wanted = told.sequences[0, read.input_ids.shape[1] :].tolist()
        if wanted[-1] in tokenizer.stops:
            wanted.pop()
        margins = [float(-torch.diff(scores[0].topk(2).values)) for scores in told.scores]
        sure = next((place for place, margin in enumerate(margins) if margin <= 1e-4), len(margins))
        list(generation.generate(ours, tokenizer, prompt, tokens=20, greedy=True, precision="float32"))
        assert sure > 5 or len(wanted) < sure
        assert Recorder.ids[:sure] == wanted[:sure]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_rows_of_any_length_are_computed_as_if_alone(oracle: Any, tmp_path: Path, name: str) -> None:
    """Padded at the right, side by side in one row, and read piece by piece from memory."""
    people_folder(oracle, name, tmp_path)
    ours, _ = load_model(tmp_path)
    lengths = (3, 12, 25)
    texts = [row[:length] for row, length in zip(rows(), lengths, strict=True)]
    alone = [logits_of(ours, text[None])[0] for text in texts]
    padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    for row, wanted in zip(logits_of(ours, padded), alone, strict=True):
        assert close(row[: len(wanted)], wanted)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    segments = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    with torch.no_grad():
        assert close(ours(torch.cat(texts)[None], positions, segments)[0], torch.cat(alone))
    with torch.inference_mode():
        cache = ours.new_cache(3, LONGEST)
        parts = [ours.logits(ours.hidden(piece, cache=cache)) for piece in torch.split(rows(), [7, 1, 1, 31], 1)]
    assert close(torch.cat(parts, 1), logits_of(ours, rows()))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_half_precision_and_gradients_go_through_every_part(oracle: Any, tmp_path: Path, name: str) -> None:
    people_folder(oracle, name, tmp_path)
    ours, _ = load_model(tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        logits = ours(rows())
    assert float((logits.detach().float() - logits_of(ours, rows())).abs().mean()) < 0.5
    F.cross_entropy(logits.flatten(0, 1).float(), rows().flatten()).backward()
    still = [key for key, value in ours.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert still == []


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "llama, shared keys, tied", "gpt2, untied"])
def test_a_classifier_of_each_family_is_that_of_transformers(oracle: Any, tmp_path: Path, name: str) -> None:
    theirs = people_folder(oracle, name, tmp_path / "theirs", classes=3, pad_token_id=0)
    ours, tokenizer, _ = load_classifier(tmp_path / "theirs")
    reader = oracle.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    pieces = encode(TEXTS, [0] * len(TEXTS), tokenizer, context=ours.body.context, long_texts="cut")
    found = logits_of(lambda ids: ours(*pieces.batch(range(len(TEXTS))).inputs), pieces)
    alone = torch.cat([logits_of(theirs, torch.from_numpy(ids)[None]) for ids in pieces.ids])
    assert close(found, alone)
    assert float(alone.std(0).min()) > 0.1
    for ids, text in zip(pieces.ids, TEXTS, strict=True):
        assert reader(text).input_ids[: len(ids)] == ids.tolist()
    save_classifier(ours, tokenizer, tmp_path / "ours", {})
    again, told = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert {kind: list(names) for kind, names in told.items() if names} == {}
    assert torch.equal(torch.cat([logits_of(again.eval(), torch.from_numpy(ids)[None]) for ids in pieces.ids]), alone)


def test_a_classifier_without_names_has_two_and_one_with_a_gap_is_refused(oracle: Any, tmp_path: Path) -> None:
    """transformers leaves names of two classes out that nobody gave."""
    theirs = people_folder(oracle, "llama", tmp_path, classes=2, pad_token_id=0)
    edit_config(tmp_path, id2label=None, label2id=None)
    assert list(load_classifier(tmp_path)[0].labels) == list(theirs.config.id2label.values())
    edit_config(tmp_path, id2label={"0": "não", "2": "sim"})
    with pytest.raises(DataError, match="is damaged: it does not say id2label"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_classifier_made_of_a_loaded_model_is_its_familys(oracle: Any, tmp_path: Path, name: str) -> None:
    people_folder(oracle, name, tmp_path / "base")
    base, tokenizer = load_model(tmp_path / "base")
    made = build_classifier(base, ["a", "b", "c"], dropout=0.1).eval()
    made.head.score.weight.data.mul_(20)  # type: ignore[union-attr]
    save_classifier(made, tokenizer, tmp_path / "ours", {"long_texts": "cut", "clean": {}})
    auto = oracle.AutoModelForSequenceClassification
    theirs, told = auto.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert {kind: list(names) for kind, names in told.items() if names} == {}
    assert type(theirs).__name__ == f"{type(theirs.config).__name__.removesuffix('Config')}ForSequenceClassification"
    assert theirs.config.model_type == FAMILIES[name][0]
    assert list(theirs.config.id2label.values()) == ["a", "b", "c"]
    for path in (tmp_path / "base").glob("tokenizer*"):
        assert (tmp_path / "ours" / path.name).read_bytes() == path.read_bytes(), path.name
    pieces = encode([*TEXTS, ""], [0] * 4, tokenizer, context=base.context, long_texts="cut")
    inputs = pieces.batch(range(4)).inputs
    with torch.no_grad():
        ours = made(*inputs)
        ids = inputs[0].masked_fill(~inputs[1], theirs.config.pad_token_id)
        assert close(theirs.eval()(ids, attention_mask=inputs[1].long()).logits, ours)
    fresh = build_classifier(base, ["a", "b"], dropout=0.0, fresh=True)
    biases = [value for key, value in fresh.body.named_parameters() if key.endswith(".bias")]
    assert all(not value.any() for value in biases), "a fresh body begins without biases"

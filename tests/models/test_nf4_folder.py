"""Models in NF4 on disk: the folder of transformers and bitsandbytes both ways, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import close, make

from treino import files
from treino.errors import DataError, UsageError
from treino.models.adapter_folder import save_adapter
from treino.models.base import LanguageModel
from treino.models.folder import load_model, quantise_folder, save_model
from treino.models.generation import generate
from treino.models.lora import LoraShape, add_adapter, layers_of, targets_of
from treino.models.nf4 import in_four_bits, quantise
from treino.tokens.tokenizer import Tokenizer

IDS = torch.arange(60).view(3, 20) * 5 % 300


def small(tokenizer: Tokenizer, **changes: Any) -> LanguageModel:
    """Matrices of 64 numbers' multiples and of others."""
    return make(tokenizer.size, **{"width": 40, "feed_forward": 72, "embedding": 40, "scale": 8.0} | changes)


def rounded(model: LanguageModel) -> LanguageModel:
    """The same with its matrices rounded to NF4, in float32."""
    with torch.no_grad():
        for matrix in model.matrices():
            matrix.copy_(quantise(matrix).values(torch.float32))
    return model


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_model(small(tokenizer), tokenizer, tmp_path / "base é")
    quantise_folder(tmp_path / "base é", tmp_path / "nf4 é")
    return tmp_path / "nf4 é"


@pytest.mark.parametrize("tied", [False, True])
def test_a_quantised_folder_is_the_model_with_rounded_matrices(
    tokenizer: Tokenizer, tmp_path: Path, tied: bool
) -> None:
    save_model(small(tokenizer, tied=tied), tokenizer, tmp_path / "base")
    quantise_folder(tmp_path / "base", tmp_path / "nf4")
    model, _ = load_model(tmp_path / "nf4")
    assert len(in_four_bits(model)) == 14
    expected = rounded(small(tokenizer, tied=tied))
    with torch.no_grad():
        assert close(model(IDS), expected(IDS))
        assert not close(expected(IDS), small(tokenizer, tied=tied)(IDS), 1000)
    said = "".join(generate(model, tokenizer, "O gato", tokens=8, greedy=True, precision="float32"))
    assert said == "".join(generate(expected, tokenizer, "O gato", tokens=8, greedy=True, precision="float32"))
    stored = sum(path.stat().st_size for path in (tmp_path / "nf4").glob("*.safetensors"))
    assert stored < sum(path.stat().st_size for path in (tmp_path / "base").glob("*.safetensors"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_model_writes_whatever_format_its_tables_are_stored_in(
    folder: Path, tokenizer: Tokenizer, kind: torch.dtype, stream: bool
) -> None:
    first = folder / "model-00001-of-00003.safetensors"
    save_file({name: value.to(kind) for name, value in load_file(first).items()}, first, {"format": "pt"})
    model, _ = load_model(folder, stream=stream)
    assert next(model.parameters()).dtype == kind
    ids, asked = tokenizer.prompt("O gato"), {"tokens": 3, "greedy": True}
    said = "".join(generate(model, tokenizer, ids, **asked))
    for _ in range(3):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    assert said == tokenizer.decode(ids).removeprefix("O gato")


def test_transformers_reads_our_folder(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes")
    folder = tmp_path / "nf4"
    save_model(small(tokenizer, width=64, embedding=64, heads=2, feed_forward=128), tokenizer, tmp_path / "base")
    quantise_folder(tmp_path / "base", folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float32).eval()
    assert type(theirs.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    for name, layer in in_four_bits(load_model(folder)[0]).items():
        state = theirs.get_submodule(name).weight.quant_state
        assert torch.equal(state.absmax, layer.scales) and torch.equal(state.state2.absmax, layer.coarse)
    with torch.no_grad():
        found = load_model(folder)[0](IDS)
        expected = theirs(IDS).logits
    # It multiplies in the format that the configuration names, bfloat16.
    assert float((found - expected).abs().max()) <= 0.03 * float(expected.abs().max())


def test_we_read_the_folder_of_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes")
    save_model(small(tokenizer), tokenizer, tmp_path / "base")
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=settings, device_map="cpu", dtype=torch.float32
    )
    theirs.save_pretrained(tmp_path / "nf4")
    (tmp_path / "nf4" / "tokenizer.json").write_bytes((tmp_path / "base" / "tokenizer.json").read_bytes())
    with torch.no_grad():
        assert close(load_model(tmp_path / "nf4")[0](IDS), rounded(small(tokenizer))(IDS))


def test_an_adapter_in_the_folder_comes_along(tokenizer: Tokenizer, folder: Path) -> None:
    model, _ = load_model(folder)
    plain = model(IDS)
    add_adapter(model, targets_of(model, model.matrices(), ("all",)), LoraShape(2, 4.0))
    for _, layer in layers_of(model):
        torch.nn.init.normal_(layer.lora_B["default"])
    save_adapter(model, folder / "adapter")
    with torch.no_grad():
        assert close(load_model(folder)[0](IDS), model(IDS))
        assert not close(model(IDS), plain, 1000)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quant_method": "gptq", "bits": 4}, "quantised in a format that is not read: gptq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "bitsandbytes, fp4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "not read: bitsandbytes"),
    ],
)
def test_other_narrow_formats_are_refused(folder: Path, change: dict[str, Any], said: str) -> None:
    config = files.read_json(folder / "config.json")
    files.write_json(folder / "config.json", config | {"quantization_config": change})
    with pytest.raises(DataError, match=said):
        load_model(folder)


@pytest.mark.parametrize("stream", [False, True])
def test_damage_and_a_missing_part_are_told(folder: Path, stream: bool) -> None:
    last = sorted(folder.glob("*.safetensors"))[-1]
    content = last.read_bytes()
    last.write_bytes(content.replace(b"nested_offset", b"nested_oddset"))
    with pytest.raises(DataError, match=r"layers\.1.*nested_offset"):
        load_model(folder, stream=stream)
    last.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        load_model(folder, stream=stream)
    last.unlink()
    with pytest.raises(DataError, match="missing"):
        load_model(folder, stream=stream)


def test_a_model_without_linear_layers_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_model(make(tokenizer.size, architecture="lstm"), tokenizer, tmp_path / "lstm")
    with pytest.raises(UsageError, match="lstm"):
        quantise_folder(tmp_path / "lstm", tmp_path / "nf4")


def test_the_index_names_every_tensor(folder: Path) -> None:
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert len(set(index["weight_map"].values())) == 3
    assert sum(name.endswith("bitsandbytes__nf4") for name in index["weight_map"]) == 14

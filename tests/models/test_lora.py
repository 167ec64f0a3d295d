"""Adapters beside PEFT's: the same logits and gradients, the same folder, and the same numbers after merging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from people import people_folder
from small_models import close, make

from treino.errors import DataError, UsageError
from treino.models.adapter_folder import load_adapter, save_adapter
from treino.models.base import LanguageModel
from treino.models.folder import load_model, save_model
from treino.models.generation import generate
from treino.models.kernels import library
from treino.models.lora import Lora, LoraShape, activate, add_adapter, layers_of, merge, targets_of
from treino.models.nf4 import NF4Linear
from treino.tokens.tokenizer import Tokenizer

IDS = torch.arange(60).view(3, 20) * 5 % 300


def adapted(model: LanguageModel, shape: LoraShape, *, nf4: bool = False, name: str = "default") -> LanguageModel:
    add_adapter(model, targets_of(model, model.matrices(), shape.targets), shape, name, nf4=nf4)
    draw = torch.Generator().manual_seed(7)
    for _, layer in layers_of(model):
        layer.lora_B[name].data = torch.randn(layer.lora_B[name].shape, generator=draw) * 0.1
    return model


def theirs(folder: Path, **changes: Any) -> Any:
    """PEFT's adapter, with B far from zero, on our model as transformers reads it."""
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    settings = {"r": 4, "lora_alpha": 12, "task_type": "CAUSAL_LM"} | changes
    model = peft.get_peft_model(base, peft.LoraConfig(**settings)).eval()
    draw = torch.Generator().manual_seed(8)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=draw) * 0.1
    return model


TARGETS = (("q", "v"), ("all",), ("q", "k", "v", "o"))


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("targets", TARGETS, ids="-".join)
def test_an_adapter_of_ours_is_one_of_peft_s(
    tokenizer: Tokenizer, tmp_path: Path, targets: tuple[str, ...], rslora: bool
) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = make(tokenizer.size)
    save_model(model, tokenizer, tmp_path / "base é")
    plain = model(IDS)
    adapted(model, LoraShape(4, 12.0, targets, rslora=rslora))
    save_adapter(model, tmp_path / "adapter é", base="base")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base é", attn_implementation="eager")
    other = peft.PeftModel.from_pretrained(base, tmp_path / "adapter é").eval()
    expected = other(IDS).logits
    assert not close(plain, expected, 1000), "the adapter changes nothing, so nothing was compared"
    assert close(model(IDS), expected)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], "all-linear"], ids=str)
def test_an_adapter_of_peft_s_is_one_of_ours(
    tokenizer: Tokenizer, tmp_path: Path, modules: list[str] | str, rslora: bool
) -> None:
    model = make(tokenizer.size)
    save_model(model, tokenizer, tmp_path / "base")
    other = theirs(tmp_path / "base", target_modules=modules, use_rslora=rslora)
    other.save_pretrained(tmp_path / "adapter")
    load_adapter(model, tmp_path / "adapter")
    assert close(model(IDS), other(IDS).logits)


def test_gradients_are_those_of_peft_s(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = make(tokenizer.size, scale=8.0)
    save_model(model, tokenizer, tmp_path / "base")
    other = theirs(tmp_path / "base", target_modules="all-linear")
    other.save_pretrained(tmp_path / "adapter")
    load_adapter(model, tmp_path / "adapter")
    targets = torch.cat((IDS[:, 1:], torch.full((3, 1), -100)), 1)
    (model.loss(model.hidden(IDS), targets) / 57).backward()
    other(IDS, labels=IDS).loss.backward()
    expected = {name: value.grad for name, value in other.named_parameters() if value.grad is not None}
    compared = 0
    for path, layer in layers_of(model):
        for kind in ("lora_A", "lora_B"):
            found = getattr(layer, kind)["default"].grad
            wanted = expected.pop(f"base_model.model.{path}.{kind}.default.weight")
            assert float(wanted.abs().max()) > 1e-4
            assert float((found - wanted).abs().max()) <= 1e-5 * max(1.0, float(wanted.abs().max())), (path, kind)
            compared += 1
    assert compared == 2 * 2 * 7
    assert not expected
    assert all(value.grad is None for name, value in model.named_parameters() if "lora_" not in name)


@pytest.mark.parametrize("nf4", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_merging_changes_no_logit(tokenizer: Tokenizer, nf4: bool, bias: bool) -> None:
    family = make(tokenizer.size).family
    if bias:
        family = family.__class__("qwen2", qkv_bias=True)
    model = adapted(make(tokenizer.size, width=64, feed_forward=128, family=family), LoraShape(4, 12.0), nf4=nf4)
    assert sum(isinstance(module, NF4Linear) for module in model.modules()) == (14 if nf4 else 0)
    before, names = model(IDS), set(dict(make(tokenizer.size, family=family).named_parameters()))
    merge(model)
    assert close(model(IDS), before)
    assert set(dict(model.named_parameters())) == names
    assert not any(isinstance(module, Lora | NF4Linear) for module in model.modules())


def test_a_model_talks_with_its_adapter(tokenizer: Tokenizer) -> None:
    model = make(tokenizer.size, scale=10.0)
    plain = "".join(generate(model, tokenizer, "O gato", tokens=12, greedy=True, precision="float32"))
    adapted(model, LoraShape(4, 40.0))
    said = "".join(generate(model, tokenizer, "O gato", tokens=12, greedy=True, precision="float32"))
    merge(model)
    assert "".join(generate(model, tokenizer, "O gato", tokens=12, greedy=True, precision="float32")) == said
    assert said != plain


def test_several_adapters_stand_side_by_side(tokenizer: Tokenizer) -> None:
    model = make(tokenizer.size)
    plain = model(IDS)
    adapted(model, LoraShape(2, 4.0, ("q",)), name="one")
    one = model(IDS)
    adapted(model, LoraShape(3, 4.0, ("all",)), name="two")
    two = model(IDS)
    activate(model, "one")
    assert torch.equal(model(IDS), one)
    activate(model, "")
    assert torch.equal(model(IDS), plain)
    activate(model, "two")
    assert torch.equal(model(IDS), two)
    assert not close(one, two, 1000) and not close(one, plain, 1000)


@pytest.mark.skipif(library() is None, reason="this machine has no kernels")
@pytest.mark.parametrize("nf4", [False, True])
@pytest.mark.parametrize("targets", [("all",), ("q", "down")], ids="-".join)
def test_our_kernels_compute_the_same_with_adapters(tokenizer: Tokenizer, nf4: bool, targets: tuple[str, ...]) -> None:
    """Joint products in bfloat16 beside the plain layers in float32: within bfloat16's rounding, gradients too."""
    shape = LoraShape(4, 12.0, targets)
    found: dict[bool, dict[str, torch.Tensor]] = {}
    for narrow in (False, True):
        model = adapted(
            make(tokenizer.size, scale=3.0, width=64, heads=2, kv_heads=1, feed_forward=128), shape, nf4=nf4
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = model.loss(model.hidden(IDS), IDS.roll(-1, 1)) / IDS.numel()
        loss.backward()
        found[narrow] = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
        found[narrow]["loss"] = loss.detach()
    assert found[True].keys() == found[False].keys()
    assert len(found[True]) == 1 + 2 * 2 * (7 if targets == ("all",) else 2)
    assert float((found[True]["loss"] - found[False]["loss"]).abs()) < 0.01
    for name, value in found[False].items():
        assert float((found[True][name] - value).norm()) <= 0.05 * float(value.norm()), name


def test_dropout_acts_before_a_alone(tokenizer: Tokenizer) -> None:
    model = adapted(make(tokenizer.size), LoraShape(4, 12.0, dropout=0.5))
    at_rest = model(IDS)
    model.train()
    torch.manual_seed(1)
    one = model(IDS)
    assert not close(one, at_rest, 1000)
    activate(model, "")
    assert torch.equal(model(IDS), model.eval()(IDS))


def test_gpt_2_whose_matrices_lie_the_other_way(tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    people_folder(transformers, "gpt2", tmp_path / "base")
    model, _ = load_model(tmp_path / "base")
    adapted(model, LoraShape(4, 12.0, ("c_attn", "c_proj")))
    save_adapter(model, tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="eager")
    other = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert close(model(IDS), other(IDS).logits)
    before = model(IDS)
    merge(model)
    assert close(model(IDS), before)


def test_what_does_not_fit_is_refused_by_name(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = make(tokenizer.size)
    with pytest.raises(UsageError, match=r"no layer xyz.*\n?.*q_proj"):
        targets_of(model, model.matrices(), ("q", "xyz"))
    adapted(model, LoraShape(4, 12.0))
    save_adapter(model, tmp_path / "adapter")
    with pytest.raises(DataError, match="do not fit"):
        load_adapter(make(tokenizer.size, width=64, embedding=64), tmp_path / "adapter")
    config = (tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8")
    for old, new, said in (
        ('"LORA"', '"IA3"', "peft_type = IA3"),
        ('"none"', '"all"', "bias = all"),
        ('"r"', '"rank_pattern": {"q": 2}, "r"', "rank_pattern"),
    ):
        (tmp_path / "adapter" / "adapter_config.json").write_text(config.replace(old, new), encoding="utf-8")
        with pytest.raises(DataError, match=said):
            load_adapter(make(tokenizer.size), tmp_path / "adapter")

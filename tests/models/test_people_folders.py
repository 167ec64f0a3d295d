"""Folders that were brought along: what is refused and why, what is read and in which order, and whose tokens stand where."""

from __future__ import annotations

import json
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from people import byte_level, edit_config, people_folder, spaced
from safetensors.torch import load_file, save_file
from small_models import TEXTS

from treino.cli.main import run_command
from treino.errors import DataError, DoesNotFit, TreinoError, UsageError
from treino.evaluation.evaluate import figures_on
from treino.models import hub, weights
from treino.models.classifier_folder import load_classifier
from treino.models.families import CLASSIFIER
from treino.models.folder import load_model
from treino.recipe import EvaluateSettings
from treino.tokens.packing import PackedRows
from treino.tokens.shards import Shard
from treino.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def oracle() -> Any:
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"model_type": "mamba"}, "mamba"),
    ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_type to yarn"),
    ("llama", {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type to dynamic"),
    ("llama", {"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "rope_parameters to full_attention"),
    ("llama", {"hidden_act": "gelu"}, "hidden_act to gelu"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor to 0.5"),
    ("llama", {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}}, "partial_rotary_factor"),
    ("llama", {"num_local_experts": 8}, "num_local_experts to 8"),
    ("llama", {"quantization_config": {"quant_method": "gptq"}}, "in a format that is not read: gptq"),
    ("llama", {"architectures": ["LlamaForTokenClassification"]}, "LlamaForTokenClassification"),
    ("llama", {"auto_map": {"AutoModelForCausalLM": "modeling.Own"}}, "auto_map"),
    ("llama", {"num_key_value_heads": 3}, "num_key_value_heads to 3"),
    ("llama", {"head_dim": 7}, "head_dim to 7"),
    ("llama", {"hidden_size": "wide"}, "hidden_size to wide"),
    ("llama", {"hidden_size": None}, "hidden_size"),
    ("mistral", {"attention_bias": True}, "attention_bias to True"),
    ("mistral", {"mlp_bias": True}, "mlp_bias to True"),
    ("mistral", {"layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
    ("qwen2", {"attention_bias": False}, "attention_bias to False"),
    ("qwen3", {"num_experts": 4}, "num_experts to 4"),
    ("gpt2", {"activation_function": "relu"}, "activation_function to relu"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights to False"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
    ("gpt2", {"n_inner": 40}, "mlp.c_fc.weight [32, 128] ≠ [32, 40]"),
]


@pytest.fixture(scope="module")
def folders(oracle: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in ("llama", "mistral", "qwen2", "qwen3", "gpt2")}
    for name, folder in made.items():
        people_folder(oracle, name, folder)
    return made


@pytest.fixture
def whole(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        for path in folders[name].iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        return tmp_path

    return copy


@pytest.mark.parametrize(("name", "changes", "named"), REFUSED)
def test_what_is_not_computed_is_refused_by_name(
    whole: Callable[[str], Path], name: str, changes: dict[str, Any], named: str
) -> None:
    folder = whole(name)
    edit_config(folder, **changes)
    with pytest.raises(DataError) as refused:
        load_model(folder)
    assert named in str(refused.value)


def test_layers_with_a_window_bound_the_context_of_a_qwen(whole: Callable[[str], Path]) -> None:
    folder = whole("qwen2")
    kinds = ["full_attention", "sliding_attention"]
    edit_config(folder, use_sliding_window=True, sliding_window=32, layer_types=kinds)
    assert load_model(folder)[0].context == 32
    edit_config(folder, use_sliding_window=False)
    assert load_model(folder)[0].context == 64


def tensors_changed(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def mutate(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return mutate


def quantised(tensors: dict[str, torch.Tensor]) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def sharded_badly(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def index_without_map(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    ("mutate", "named"),
    [
        (
            tensors_changed(lambda tensors: tensors.pop("model.layers.1.self_attn.q_proj.bias")),
            "1.self_attn.q_proj.bias",
        ),
        (tensors_changed(quantised), "up_proj.weight (F8_E4M3)"),
        (pickled, "pytorch_model.bin is a pickle"),
        (sharded_badly, "model-00002-of-00002.safetensors is missing"),
        (index_without_map, "weight_map"),
        (lambda folder: (folder / "tokenizer.json").rename(folder / "tokenizer.model"), "convert it once"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda folder: edit_config(folder, vocab_size=300), "spells the token 329"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(
    whole: Callable[[str], Path], mutate: Callable[[Path], None], named: str
) -> None:
    folder = whole("qwen2")
    mutate(folder)
    with pytest.raises(DataError) as refused:
        load_model(folder)
    assert named in str(refused.value)


class Watched:
    """An open safetensors file that counts which tensors were read, and which of them are alive at one time."""

    reads: list[str]
    most: int

    def __init__(self, path: Path, framework: str) -> None:
        self._file = safe_open(path, framework)

    def __enter__(self) -> Watched:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def get_tensor(self, name: str) -> torch.Tensor:
        tensor = self._file.get_tensor(name).clone()
        Watched.reads.append(name)
        ALIVE.add(tensor)
        Watched.most = max(Watched.most, len(ALIVE))
        return tensor


safe_open = weights.safe_open
ALIVE: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()


@pytest.mark.parametrize("classes", [0, 3])
def test_tensors_are_read_once_each_and_one_at_a_time(
    oracle: Any, tmp_path: Path, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the model's own parameters no second copy stands in memory, whatever the number of files."""
    theirs = people_folder(oracle, "gpt2, untied", tmp_path, classes=classes, shard="20KB")
    monkeypatch.setattr(weights, "safe_open", Watched)
    Watched.reads, Watched.most = [], 0
    before = torch.get_rng_state()
    loaded = (load_classifier if classes else load_model)(tmp_path)[0]
    assert sorted(Watched.reads) == sorted(name for name, _ in theirs.named_parameters())
    # The one before is let go when the next one has been read.
    assert Watched.most <= 2
    assert torch.equal(torch.get_rng_state(), before), "no random weights are drawn for a model that is read"
    assert all(value.device.type == "cpu" for value in loaded.parameters())


TOLD = "A padaria da praça: «sim», ação 🐈!"


@pytest.mark.parametrize("make", [byte_level, spaced])
def test_a_brought_tokenizer_reads_as_transformers_does(
    oracle: Any, tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    make(tmp_path)
    edit_config_like(tmp_path)
    reader, tokenizer = oracle.AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    for text in (TOLD, "gato " * 30, ""):
        bare = reader(text, add_special_tokens=False).input_ids
        assert tokenizer.encode(text) == bare
        framed = reader(text).input_ids
        assert tokenizer.framed(bare) == (framed or [tokenizer.begin_of_text])
        assert tokenizer.prompt(text) == (framed or [tokenizer.begin_of_text])
    assert tokenizer.decode(tokenizer.encode(TOLD)) == TOLD
    assert tokenizer.end_of_text == reader.eos_token_id


def edit_config_like(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps({"vocab_size": 352} | changes), encoding="utf-8")


def ends(tokenizer: Tokenizer) -> tuple[int, int, int, set[int]]:
    return tokenizer.begin_of_text, tokenizer.end_of_text, tokenizer.pad, set(tokenizer.stops)


def test_where_begin_end_and_padding_are_found(tmp_path: Path) -> None:
    spaced(tmp_path)
    edit_config_like(tmp_path, bos_token_id=7, eos_token_id=9, pad_token_id=-1)
    assert ends(Tokenizer.load(tmp_path)) == (1, 2, 2, {9})
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 5]}', encoding="utf-8")
    assert ends(Tokenizer.load(tmp_path))[3] == {2, 5}
    byte_level(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    edit_config_like(tmp_path)
    assert ends(Tokenizer.load(tmp_path)) == (0, 0, 0, {0})
    chat = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    byte_level(tmp_path, config=chat)
    edit_config_like(tmp_path, bos_token_id=0, eos_token_id=2)
    assert ends(Tokenizer.load(tmp_path)) == (0, 2, 0, {2})
    edit_config_like(tmp_path, bos_token_id=40, eos_token_id=2)
    assert Tokenizer.load(tmp_path).begin_of_text == 2, "an id that means text begins nothing"
    byte_level(tmp_path, config={"model_max_length": 64})
    edit_config_like(tmp_path, bos_token_id=0, eos_token_id=0)
    assert ends(Tokenizer.load(tmp_path)) == (0, 0, 0, {0})
    edit_config_like(tmp_path)
    with pytest.raises(DataError, match="which token ends a text"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_bits_are_over_the_bytes_of_the_text_and_documents_begin_as_in_their_training(
    folders: dict[str, Path], name: str
) -> None:
    model, tokenizer = load_model(folders[name])
    found = figures_on(model, tokenizer, [*TEXTS, TOLD], EvaluateSettings())
    assert found["bytes"] == sum(len(text.encode()) for text in [*TEXTS, TOLD])
    short = [text for text in [*TEXTS, TOLD] if len(tokenizer.encode(text)) + 1 <= model.context]
    assert short
    nats = 0.0
    for text in short:
        ids = torch.tensor([tokenizer.begin_of_text, *tokenizer.encode(text), tokenizer.end_of_text])
        with torch.no_grad():
            logs = torch.log_softmax(model(ids[None, :-1])[0], -1)
        nats -= float(logs.gather(1, ids[1:, None]).sum())
    found = figures_on(model, tokenizer, short, EvaluateSettings())
    assert found["loss"] * found["tokens"] == pytest.approx(nats, rel=1e-5)


def test_in_packed_rows_a_document_begins_with_its_own_token() -> None:
    shard = Shard(np.array([5, 6, 2, 7, 2], np.uint16), np.array([0, 3, 5]), 2, 1)
    ids, targets, _, segments = PackedRows(shard, 8, 0).row(0, 0)
    begun = [np.flatnonzero(segments == number)[0] for number in (0, 1)]
    assert ids[begun].tolist() == [1, 1]
    assert sorted(targets[targets >= 0].tolist()) == [2, 2, 5, 6, 7]


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_the_commands_take_such_a_folder(
    folders: dict[str, Path], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text too short for an interval among them, and the classifier that comes out is the family's."""
    folder, table, text = folders[name], tmp_path / "dados.csv", tmp_path / "um.txt"
    text.write_text(TEXTS[0], encoding="utf-8")
    pairs = [("bom", "positivo"), ("ruim", "negativo")]
    lines = [f"O filme {number} foi {word},{label}" for number in range(12) for word, label in pairs]
    table.write_text("\n".join(["texto,rotulo", *lines]), encoding="utf-8")
    assert run_command(["generate", str(folder), "O gato", "--tokens", "3", "--greedy"]) == 0
    assert capsys.readouterr().out.startswith("O gato")
    assert run_command(["evaluate", str(folder), str(text)]) == 0
    runs = str(tmp_path / "runs")
    tuning = ["finetune", str(folder), str(table), "--epochs", "1", "--name", "filmes", "--runs", runs]
    assert run_command(tuning) == 0
    assert run_command(["predict", "filmes", "O filme foi bom", "--runs", runs]) == 0
    config = next(Path(runs).glob("store/finetune-*/model/config.json"))
    told = json.loads(config.read_text(encoding="utf-8"))
    base = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert told["architectures"] == [base["architectures"][0].split("For")[0].replace("LMHeadModel", "") + CLASSIFIER]
    assert (told["model_type"], told["vocab_size"]) == (base["model_type"], base["vocab_size"])


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Stands for huggingface_hub: what was asked of it, and a folder that it gives."""

    def __init__(self, folder: Path, sizes: dict[str, int], cached: bool = False) -> None:
        self.folder, self.cached, self.asked = folder, cached, []
        self.siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]

    def HfApi(self) -> FakeHub:
        return self

    def model_info(self, repository: str, revision: str, files_metadata: bool) -> Any:
        self.asked.append(("told", repository, revision))
        return SimpleNamespace(siblings=self.siblings, sha=COMMIT)

    def snapshot_download(
        self, repository: str, *, revision: str, local_files_only: bool = False, **options: Any
    ) -> str:
        if local_files_only and not self.cached:
            raise ValueError("not in the cache")
        self.asked.append(("cache" if local_files_only else "fetched", revision, options.get("allow_patterns")))
        return str(self.folder)


SIZES = {
    "config.json": 600, "tokenizer.json": 9000, "model-00001-of-00002.safetensors": 10, "model.safetensors.index.json": 5,
    "model-00002-of-00002.safetensors": 10, "pytorch_model.bin": 10, "modeling_own.py": 10, "onnx/config.json": 10,
    "consolidated.safetensors": 10, "original/params.json": 5, "README.md": 10,
}  # fmt: skip


def test_a_model_of_the_hub_is_fetched_at_one_commit_and_no_pickle_or_code_with_it(
    whole: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeHub(whole("qwen2"), SIZES)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)  # type: ignore[arg-type]
    assert (
        hub.is_hub_name("dona/modelo@main") and not hub.is_hub_name("dona/modelo") and not hub.is_hub_name("runs/a/b@c")
    )
    assert hub.fetch("dona/modelo@main") == fake.folder
    patterns = sorted(
        ["config.json", "tokenizer.json", "model.safetensors.index.json"]
        + [name for name in SIZES if name.startswith("model-")]
    )
    assert fake.asked == [("told", "dona/modelo", "main"), ("fetched", COMMIT, patterns)]
    fake.cached, fake.asked = True, []
    hub.fetch(f"dona/modelo@{COMMIT}")
    assert fake.asked == [("cache", COMMIT, None)], "a commit in the cache needs no network"
    (fake.folder / "model.safetensors").unlink()
    fake.asked = []
    hub.fetch(f"dona/modelo@{COMMIT}")
    assert [act for act, *_ in fake.asked] == ["cache", "told", "fetched"], "half a model is fetched again"


@pytest.mark.parametrize(
    ("sizes", "kind", "named"),
    [
        ({"config.json": 1, "pytorch_model.bin": 10}, DataError, "no safetensors"),
        ({"config.json": 1, "model.safetensors": 10**12}, DoesNotFit, "give the path of its folder"),
    ],
)
def test_what_the_hub_has_may_be_refused(
    tmp_path: Path, sizes: dict[str, int], kind: type[TreinoError], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(tmp_path, sizes))  # type: ignore[arg-type]
    with pytest.raises(kind, match=named):
        hub.fetch("dona/modelo@v1")


def test_without_the_library_or_a_network_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="pip install huggingface_hub"):
        hub.fetch("dona/modelo@v1")
    fake = FakeHub(tmp_path, {})
    fake.model_info = lambda *_, **__: (_ for _ in ()).throw(ConnectionError("no route to host"))  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"no route to host.*network"):
        hub.fetch("dona/modelo@v1")

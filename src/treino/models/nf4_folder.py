"""Models whose layers are in NF4, on disk: the folder that transformers writes for bitsandbytes, read and written as such.

`config.json` says so under `quantization_config`. In safetensors files, one a layer, each matrix of the layers is

    NAME.weight                                  two codes a byte, (numbers / 2, 1) uint8
    NAME.weight.absmax                           scales, a byte for each 64 numbers
    NAME.weight.nested_absmax                    scales of these, a float32 for each 256
    NAME.weight.quant_map, .nested_quant_map     the 16 and the 256 codes, float32
    NAME.weight.quant_state.bitsandbytes__nf4    shape, sizes of blocks and offset as JSON

and all else (token table, head, norms) stands beside them as it was. An adapter may stand in `adapter/` (PEFT's folder): then
the model is the base with its adapter, for merging into 4 bits would round what was learnt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from treino import files
from treino.errors import DataError, UsageError
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.models.blockwise import dynamic_codes
from treino.models.nf4 import BLOCK, CODES, SCALES_BLOCK, NF4Linear, Quantised, in_four_bits, quantise
from treino.models.transformer import Transformer
from treino.models.weights import INDEX, Weights

QUANTISATION = "quantization_config"
STATE = ".quant_state.bitsandbytes__nf4"
MAPS = (".quant_map", ".nested_quant_map")
SCALES, COARSE = ".absmax", ".nested_absmax"
ADAPTER = "adapter"
ABOUT = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "load_in_8bit": False,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
}
"""What the configuration says of a folder that is written here; in one that is read, the numbers decide."""


def unquantised(config: dict[str, Any], folder: Path) -> tuple[dict[str, Any], bool]:
    """A `config.json` without what it says of NF4, and whether it said so.

    Raises:
        DataError: for weights in another narrow format.
    """
    about = config.get(QUANTISATION)
    if about is None:
        return config, False
    known = about.get("quant_method") == "bitsandbytes" and about.get("load_in_4bit")
    kind = f"{about.get('quant_method')}, {about.get('bnb_4bit_quant_type', '')}".strip(", ")
    if (
        not known
        or about.get("bnb_4bit_quant_type") != "nf4"
        or about.get("bnb_4bit_quant_storage") not in (None, "uint8")
    ):
        raise _not_read(folder, kind)
    return {name: value for name, value in config.items() if name != QUANTISATION}, True


def _not_read(folder: Path, kind: str) -> DataError:
    return DataError(
        N_("the weights in {path} are quantised in a format that is not read: {kind}"),
        fix=N_("take the model in 16 or 32 bits, or in NF4 with double quantisation"),
        path=str(folder),
        kind=kind,
    )


class StoredTable(nn.Embedding):
    """A frozen token table in the number format that it is stored in; its vectors come out in float32."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


class StoredHead(nn.Linear):
    """A frozen head in the number format that it is stored in, read in that of its input."""

    def forward(self, input: Tensor) -> Tensor:
        narrow = torch.is_autocast_enabled(input.device.type)
        return F.linear(input, self.weight if narrow else self.weight.to(input.dtype))


def shell(model: LanguageModel, weights: Weights) -> LanguageModel:
    """The model ready to take what a folder holds: layers in NF4 that have no numbers yet, and tables in their own format."""
    if not isinstance(model, Transformer):
        raise no_nf4(model.family.name)
    stored = set(packed_names(weights))
    for path, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and f"{path}.weight" in stored:
            owner, _, last = path.rpartition(".")
            setattr(model.get_submodule(owner), last, NF4Linear(layer.weight.shape, layer.bias))
    vocabulary, width = model.vocabulary, model.settings.width
    body = model.model
    body.embed_tokens = StoredTable(vocabulary, width, dtype=_format(weights, "model.embed_tokens.weight"))
    model.lm_head = StoredHead(width, vocabulary, bias=False, dtype=_format(weights, "lm_head.weight"))
    if model.settings.tied:
        model.lm_head.weight = body.embed_tokens.weight
    return model.requires_grad_(False)


def no_nf4(kind: str) -> UsageError:
    """The refusal of a model whose layers are not brought into NF4 here."""
    return UsageError(
        N_("the layers of a model of the kind {kind} are not kept in 4 bits"),
        fix=N_("take it in 16 or 32 bits, and another finetune.method"),
        kind=kind,
    )


def _format(weights: Weights, name: str) -> torch.dtype:
    kinds = {"BF16": torch.bfloat16, "F16": torch.float16}
    return kinds.get(weights.number_format(name), torch.float32) if name in weights.places else torch.float32


def packed_names(weights: Weights) -> list[str]:
    """Names of the matrices that are in NF4."""
    return [name.removesuffix(STATE) for name in weights.places if name.endswith(STATE)]


def without_packed(weights: Weights) -> Weights:
    """What a folder holds beside its matrices in NF4."""
    packed = packed_names(weights)
    parts = {f"{name}{part}" for name in packed for part in ("", SCALES, COARSE, *MAPS, STATE)}
    return weights.renamed(lambda name: None if name in parts else name)


def packed_state(weights: Weights, name: str, shape: torch.Size) -> float:
    """The offset of a matrix' scales, after a look at everything else that is said of it.

    Raises:
        DataError: for another format, another shape, or parts of other sizes.
    """
    try:
        state = json.loads(bytes(weights.read(f"{name}{STATE}").tolist()))
        said = (state["quant_type"], state["blocksize"], state.get("nested_blocksize"), torch.Size(state["shape"]))
        codes = [weights.read(f"{name}{part}") for part in MAPS]
        sizes = [weights.shape(f"{name}{part}") for part in ("", SCALES, COARSE)]
        offset = float(state["nested_offset"])
    except (KeyError, ValueError, TypeError) as error:
        raise _not_read(weights.folder, f"{name} ({type(error).__name__}: {error})") from None
    count = shape.numel()
    blocks = -(-count // BLOCK)
    expected = [[-(-count // 2), 1], [blocks], [-(-blocks // SCALES_BLOCK)]]
    tables = torch.equal(codes[0], torch.tensor(CODES)) and torch.equal(codes[1], dynamic_codes())
    if said != ("nf4", BLOCK, SCALES_BLOCK, shape) or sizes != expected or not tables:
        raise _not_read(weights.folder, f"{name}: {', '.join(map(str, said))}")
    return offset


def fill_packed(model: LanguageModel, weights: Weights) -> None:
    """Read the matrices in NF4 into a shell, one at a time."""
    for path, layer in in_four_bits(model).items():
        name = f"{path}.weight"
        offset = torch.tensor(packed_state(weights, name, layer.shape))
        nibbles = weights.read(name).flatten()
        layer.hold(
            Quantised(nibbles, weights.read(f"{name}{SCALES}"), weights.read(f"{name}{COARSE}"), offset, layer.shape)
        )


def packed(name: str, found: Quantised, kind: str) -> dict[str, Tensor]:
    """The tensors of a matrix in NF4 as they are stored; `kind`: the number format that it had before."""
    state = {
        "quant_type": "nf4",
        "blocksize": BLOCK,
        "dtype": kind,
        "shape": list(found.shape),
        "nested_blocksize": SCALES_BLOCK,
        "nested_dtype": "float32",
        "nested_offset": float(found.offset),
    }
    return {
        name: found.nibbles.view(-1, 1),
        f"{name}{SCALES}": found.scales,
        f"{name}{COARSE}": found.coarse,
        f"{name}{MAPS[0]}": torch.tensor(CODES),
        f"{name}{MAPS[1]}": dynamic_codes().clone(),
        f"{name}{STATE}": torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8),
    }


def write_parts(folder: Path, parts: Iterable[tuple[str, Mapping[str, Tensor]]]) -> None:
    """Write files of tensors one after the other, and the index that says which is where."""
    places: dict[str, str] = {}
    size = 0
    for name, tensors in parts:

        def write(temporary: Path, tensors: Mapping[str, Tensor] = tensors) -> None:
            try:
                save_file(dict(tensors), temporary, {"format": "pt"})
            except SafetensorError as error:
                raise OSError(str(error)) from None

        files.write_with(folder / name, write)
        places |= dict.fromkeys(tensors, name)
        size += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    files.write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": places})


def quantised_parts(weights: Weights, layers: int) -> Iterable[tuple[str, dict[str, Tensor]]]:
    """The files of a model of this many layers, in NF4 from its matrices: one layer is read at a time."""
    prefix = "model.layers."
    rest = [name for name in weights.places if not name.startswith(prefix)]
    yield file_name(0, layers), {name: weights.read(name) for name in rest}
    for layer in range(layers):
        tensors: dict[str, Tensor] = {}
        for name in [name for name in weights.places if name.startswith(f"{prefix}{layer}.")]:
            tensor = weights.read(name)
            if tensor.ndim == 2:
                tensors |= packed(name, quantise(tensor), str(tensor.dtype).removeprefix("torch."))
            else:
                tensors[name] = tensor
        yield file_name(layer + 1, layers), tensors


def file_name(part: int, layers: int) -> str:
    """Name of the file of layer `part` (from 1), or of what is no layer (0)."""
    return f"model-{part + 1:05d}-of-{layers + 1:05d}.safetensors"

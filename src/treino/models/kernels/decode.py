"""A Transformer packed for generation, and the step that takes all of it over a few tokens (see decode.cpp)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from treino.models.kernels.build import library
from treino.models.kernels.ops import HEAD_SIZES

if TYPE_CHECKING:
    from treino.models.transformer import Block, Transformer

PANEL = 16
"""Outputs of a matrix that lie together; places of keys do, too."""

BITS = 12
"""Memory of a weight."""


class _Matrix(ctypes.Structure):
    """The same as `Matrix` in decode.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "scale", "bias")),
        *((name, ctypes.c_long) for name in ("pairs", "panels")),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _Matrix) for name in ("qkv", "output", "gate_up", "down")),
        *((name, ctypes.c_void_p) for name in ("attention_norm", "feed_forward_norm", "q_norm", "k_norm")),
    )


class _Network(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in ("layers", "width", "heads", "kv_heads", "size", "vocabulary")),
        *((name, ctypes.c_long) for name in ("rows", "places")),
        ("epsilon", ctypes.c_float),
        ("threads", ctypes.c_int),
        ("layer", ctypes.POINTER(_Layer)),
        ("head", _Matrix),
        *((name, ctypes.c_void_p) for name in ("norm", "table", "cosine", "sine", "keys", "values")),
    )


def packable(model: nn.Module) -> bool:
    """Whether the kernel computes this model here: a plain Transformer in float32 on the CPU, with a head size it knows."""
    from treino.models.lora import Lora
    from treino.models.nf4 import NF4Linear
    from treino.models.transformer import Transformer

    if type(model) is not Transformer or library() is None:
        return False
    return (
        model.model.layers[0].self_attn.size in HEAD_SIZES  # type: ignore[union-attr]
        and not any(isinstance(module, Lora | NF4Linear) for module in model.modules())
        and all(type(module) is nn.Linear for module in model.modules() if isinstance(module, nn.Linear))
        and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in model.parameters())
    )


class Packed:
    """Weights as they are now, rounded to bfloat16 and packed, and an empty cache of `rows` rows of up to `places` places.

    Bytes: 1.5 a weight, and 4 · layers · kv heads · head size for each place of each row.
    """

    def __init__(self, model: Transformer, rows: int, places: int, cosine: Tensor, sine: Tensor) -> None:
        """cosine, sine: (places or more, head size / 2), float32."""
        settings, attention = model.settings, model.model.layers[0].self_attn
        size = int(attention.size)  # type: ignore[arg-type]
        places = _up(places, PANEL)
        self.vocabulary = model.vocabulary
        self._kept: list[Tensor] = []
        self._layers = (_Layer * settings.layers)(*(self._layer(block) for block in model.model.layers))  # type: ignore[arg-type]
        cache = [
            torch.zeros(settings.layers, rows, settings.kv_heads, places, size, dtype=torch.bfloat16) for _ in "kv"
        ]
        self._network = _Network(
            *(settings.layers, settings.width, settings.heads, settings.kv_heads, size, model.vocabulary, rows, places),
            *(settings.norm_epsilon, torch.get_num_threads(), self._layers),
            *(self._matrix([model.lm_head]), self._vector(model.model.norm.weight)),
            *map(self._keep, (model.model.embed_tokens.weight.detach(), cosine, sine, *cache)),
        )

    def step(self, ids: Sequence[int], rows: Sequence[int], places: Sequence[int], chosen: Sequence[int]) -> Tensor:
        """Read tokens, each into its place of its row; logits (chosen, vocabulary) of those that `chosen` numbers.

        Tokens of one row must fill its places in order, without a gap to what was read before.
        """
        kernels = library()
        assert kernels is not None
        padded = self._network.head.panels * PANEL
        logits = torch.empty(len(chosen), padded)
        given = torch.tensor([ids, rows, places])
        wanted = torch.tensor(chosen, dtype=torch.long)
        failed = kernels.treino_decode(
            *(
                ctypes.byref(self._network),
                ctypes.c_long(len(ids)),
                *(ctypes.c_void_p(part.data_ptr()) for part in given),
            ),
            *(ctypes.c_long(len(chosen)), ctypes.c_void_p(wanted.data_ptr()), ctypes.c_void_p(logits.data_ptr())),
        )
        assert not failed, f"no kernel for heads of {self._network.size}"
        return logits[:, : self.vocabulary]

    def _layer(self, block: Block) -> _Layer:
        attention, mlp = block.self_attn, block.mlp
        norms = (attention.q_norm, attention.k_norm)
        return _Layer(
            self._matrix([attention.q_proj, attention.k_proj, attention.v_proj]),
            self._matrix([attention.o_proj]),
            self._matrix([mlp.gate_proj, mlp.up_proj], in_turn=True),
            self._matrix([mlp.down_proj]),
            self._vector(block.input_layernorm.weight),
            self._vector(block.post_attention_layernorm.weight),
            *(None if norm is None else self._vector(norm.weight) for norm in norms),
        )

    def _matrix(self, parts: list[nn.Linear], *, in_turn: bool = False) -> _Matrix:
        """Linear layers of one input as one matrix: one below the other, or their panels in turn."""
        kernels = library()
        assert kernels is not None
        pairs = _up(parts[0].in_features, 2 * PANEL) // 2
        panels = [_up(part.out_features, 2 * PANEL) // PANEL for part in parts]
        weights = torch.empty(sum(panels), pairs * PANEL * 2 * BITS // 8, dtype=torch.uint8)
        scales = torch.empty(sum(panels), PANEL)
        begins = range(len(parts)) if in_turn else (sum(panels[:number]) for number in range(len(parts)))
        for part, count, begin in zip(parts, panels, begins, strict=True):
            weight = part.weight.detach().contiguous()
            kernels.treino_decode_pack(
                *(ctypes.c_void_p(weight.data_ptr()), *map(ctypes.c_long, (*weight.shape, count))),
                *(ctypes.c_void_p(weights[begin].data_ptr()), ctypes.c_void_p(scales[begin].data_ptr())),
                *(ctypes.c_long(pairs), ctypes.c_long(len(parts) if in_turn else 1), torch.get_num_threads()),
            )
        bias = None
        if parts[0].bias is not None:
            filled = [_filled(part.bias, count * PANEL) for part, count in zip(parts, panels, strict=True)]
            bias = torch.stack([part.view(-1, PANEL) for part in filled], 1) if in_turn else torch.cat(filled)
        return _Matrix(
            self._keep(weights), self._keep(scales), None if bias is None else self._keep(bias), pairs, sum(panels)
        )

    def _vector(self, values: Tensor) -> int:
        return self._keep(_filled(values, _up(len(values), 2 * PANEL)))

    def _keep(self, tensor: Tensor) -> int:
        """Where a tensor lies, which stays there as long as this object."""
        tensor = tensor.contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _filled(values: Tensor, length: int) -> Tensor:
    """A vector filled up with zeros."""
    return F.pad(values.detach().float(), (0, length - len(values)))

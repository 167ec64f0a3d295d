"""Layers in NF4 that stay on disk and pass through memory one at a time, the next one read while one computes.

A step goes up through the layers and, each computed again, down: a layer is read when its turn comes, forward and backward.
Memory is then two layers, adapters, token table and head, and what goes into each layer (`LanguageModel.recompute`). Reads
go through the system's cache of files, which is not the process's memory: where the host has room, the second pass reads
from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from treino.models.base import LanguageModel
from treino.models.nf4 import NF4Linear, Quantised, in_four_bits
from treino.models.nf4_folder import COARSE, SCALES, packed_state
from treino.models.weights import Weights, weight_files

ALIGNED = 64
"""Bytes from one beginning in a buffer to the next are a multiple of this."""


@dataclass(frozen=True)
class Span:
    """Bytes of a tensor in a file, and where they go in a buffer."""

    file: int
    begin: int
    size: int
    place: int


@dataclass(frozen=True)
class Matrix:
    """Where the parts of a matrix are; the offset of its scales is known beforehand."""

    parts: Mapping[str, Span]
    offset: Tensor
    shape: torch.Size

    def within(self, buffer: Tensor) -> Quantised:
        """The matrix in a buffer that its layer was read into."""
        found = {name: buffer[span.place : span.place + span.size] for name, span in self.parts.items()}
        return Quantised(
            found["nibbles"], found["scales"], found["coarse"].view(torch.float32), self.offset, self.shape
        )


class _Slot:
    """Room for a layer: on the device, and for a GPU also in pinned memory of the host, where it is read first."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.away = device.type == "cuda"
        self.host = torch.empty(size, dtype=torch.uint8, pin_memory=self.away)
        self.room = torch.empty(size, dtype=torch.uint8, device=device) if self.away else self.host
        self.layer = -1
        self.holders: list[NF4Linear] = []
        if self.away:
            self.copying = torch.cuda.Stream(device)
            self.arrived, self.free = torch.cuda.Event(), torch.cuda.Event()

    def clear(self) -> None:
        """Whoever held numbers of this room holds none: using them would be an error, not a wrong result."""
        for holder in self.holders:
            holder.hold(None)
        self.holders, self.layer = [], -1
        if self.away:
            self.arrived.synchronize()  # the last copy out of the host's room

    def send(self) -> None:
        """From the host to the device, beside what computes there, when what was asked of the room's last layer is done."""
        if self.away:
            self.copying.wait_event(self.free)
            with torch.cuda.stream(self.copying):
                self.room.copy_(self.host, non_blocking=True)
            self.arrived.record(self.copying)

    def left(self) -> None:
        """All that computes with the layer in this room has been asked for."""
        if self.away:
            self.free.record()

    def wait(self) -> None:
        """What is asked for from now on comes after the layer's arrival."""
        if self.away:
            torch.cuda.current_stream().wait_event(self.arrived)


class LayerStream:
    """The layers of a folder in NF4, which come when a layer is called.

    Attributes:
        read_bytes: read so far.
        waited: seconds for which computing had to wait for a layer.
    """

    def __init__(self, folder: Path, layers: list[dict[str, Matrix]], files: list[Path]) -> None:
        self.folder, self.layers = folder, layers
        self.read_bytes, self.waited = 0, 0.0
        self._files = [os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)) for path in files]
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="layers")
        self._slots: list[_Slot] = []
        self._coming: Future[None] | None = None
        self._up = True
        self._closing = weakref.finalize(self, _close, self._files, self._reader)

    def attach(self, model: LanguageModel) -> None:
        """Let the layers of a shell (`nf4_folder.shell`) come from here whenever they are called."""
        model.recompute, model.stream = True, self
        for number, block in enumerate(model.layers_to_gather()):
            known = in_four_bits(block)
            block.register_forward_pre_hook(partial(self._hold, number, known))

    def _hold(self, layer: int, linears: Mapping[str, NF4Linear], block: nn.Module, *_: Any) -> None:
        """Bring a layer, and give its matrices to the modules of these names."""
        slot = self._bring(layer, next(block.parameters()).device)
        for name, linear in linears.items():
            linear.hold(self.layers[layer][name].within(slot.room))
            if linear not in slot.holders:
                slot.holders.append(linear)

    def _bring(self, layer: int, device: torch.device) -> _Slot:
        if not self._slots:
            self._slots = [_Slot(self.largest, device) for _ in range(2)]
        here, other = self._slots
        if here.layer == layer:
            self._turn(layer)
            return here
        started = time.monotonic()
        if self._coming is not None:
            self._coming.result()
            self._coming = None
        here.left()
        if other.layer != layer:
            self._read(other, layer)
        other.wait()
        self.waited += time.monotonic() - started
        self._slots = [other, here]
        self._up = layer > here.layer
        self._turn(layer)
        return other

    def _turn(self, layer: int) -> None:
        """Read ahead what comes after this layer."""
        if self._coming is not None:
            return
        last = len(self.layers) - 1
        if layer in (0, last):
            # Above the last layer a pass with gradients turns round; one without begins again.
            self._up = layer == 0 or not torch.is_grad_enabled()
        following = (layer + 1) % (last + 1) if self._up else layer - 1
        if following != layer and self._slots[1].layer != following:  # where a pass turns round, it is still here
            self._coming = self._reader.submit(self._read, self._slots[1], following)

    @property
    def largest(self) -> int:
        """Bytes of the largest layer in a buffer."""
        return max(
            _up_to(span.place + span.size)
            for layer in self.layers
            for matrix in layer.values()
            for span in matrix.parts.values()
        )

    def _read(self, slot: _Slot, layer: int) -> None:
        slot.clear()
        room = memoryview(cast(Any, slot.host.numpy()))
        for matrix in self.layers[layer].values():
            for span in matrix.parts.values():
                self.read_bytes += _read_into(
                    self._files[span.file], room[span.place : span.place + span.size], span.begin
                )
        slot.send()
        slot.layer = layer


def open_stream(folder: Path, model: LanguageModel, weights: Weights) -> LayerStream:
    """The layers of a folder in NF4 for a model of its shape; what is said of them is checked, nothing of them is read.

    Raises:
        DataError: for another format, or parts of other sizes.
    """
    paths = weight_files(folder)
    spans = {name: (number, *where) for number, path in enumerate(paths) for name, where in _header(path).items()}
    names = {id(module): name for name, module in model.named_modules()}
    layers: list[dict[str, Matrix]] = []
    for block in model.layers_to_gather():
        place, found = 0, {}
        for path, linear in in_four_bits(block).items():
            name = f"{names[id(block)]}.{path}.weight"
            offset = torch.tensor(packed_state(weights, name, linear.shape))
            parts: dict[str, Span] = {}
            for part, ending in (("nibbles", ""), ("scales", SCALES), ("coarse", COARSE)):
                file, begin, end = spans[weights.places[f"{name}{ending}"][1]]
                parts[part] = Span(file, begin, end - begin, place)
                place = _up_to(place + end - begin)
            found[path] = Matrix(parts, offset, linear.shape)
        layers.append(found)
    return LayerStream(folder, layers, paths)


def _header(path: Path) -> dict[str, tuple[int, int]]:
    """Where each tensor of a safetensors file begins and ends."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        content: dict[str, Any] = json.loads(file.read(size))
    return {
        name: (8 + size + about["data_offsets"][0], 8 + size + about["data_offsets"][1])
        for name, about in content.items()
        if name != "__metadata__"
    }


def _read_into(file: int, room: memoryview, begin: int) -> int:
    """Fill the room with what stands in the file from `begin` on."""
    done = 0
    while done < len(room):
        if hasattr(os, "preadv"):
            got = os.preadv(file, [room[done:]], begin + done)
        else:  # Windows; no other thread reads this file
            os.lseek(file, begin + done, os.SEEK_SET)
            chunk = os.read(file, min(len(room) - done, 1 << 24))
            got = len(chunk)
            room[done : done + got] = chunk
        if not got:
            raise OSError("a file of weights ends early")
        done += got
    return done


def _up_to(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED


def _close(files: list[int], reader: ThreadPoolExecutor) -> None:
    reader.shutdown(wait=False)  # nothing is being read, or the stream would be in use
    for file in files:
        with contextlib.suppress(OSError):
            os.close(file)

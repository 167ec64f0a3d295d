"""The tensors of a checkpoint in parts, one from each process, by torch's distributed checkpoint.

They lie in a folder of safetensors files, one a process. Where a part belongs in its tensor stands in the header of its file,
so any number of processes can read what any number wrote, each no more than its own part. torch's usual storage pickles an
index beside them, and its `save` and `load` send pickled plans between the processes: here each process plans alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from treino import files


def write_part(folder: Path, tensors: dict[str, Tensor], rank: int) -> Path:
    """Write this process's parts of tensors on the CPU into a file of its own in the folder; what each process has whole (a
    count of steps, say) the first one writes.

    The file is one of torch's `HuggingFaceStorageWriter`, which would hold all of its bytes twice before it writes them.
    """
    from torch.distributed.checkpoint._hf_utils import CUSTOM_METADATA_KEY, SAVED_OFFSETS_KEY, SUFFIX
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(tensors, is_coordinator=rank == 0)
    own, offsets = {}, {}
    for item in planner.create_local_plan().items:
        part = planner.resolve_data(item)
        assert isinstance(part, Tensor) and item.tensor_data is not None
        own[item.index.fqn] = part.contiguous()
        offsets[item.index.fqn] = {SAVED_OFFSETS_KEY: list(item.tensor_data.chunk.offsets)}
    path = files.make_private(folder) / f"part-{rank + 1:05d}{SUFFIX}"
    header = {"format": "pt", CUSTOM_METADATA_KEY: json.dumps(offsets)}
    files.write_with(path, lambda temporary: save_file(own, temporary, header))
    return path


def read_parts(folder: Path, room: Callable[[str, torch.Size, torch.dtype], Tensor]) -> dict[str, Tensor]:
    """The tensors by name, read into what `room` makes for a name, a size and a format: whole tensors, or this process's part
    of one (a DTensor), whatever parts they were written in.

    Files that are missing leave what they should fill as it is: the caller sees to it that all are there.
    """
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader = HuggingFaceStorageReader(str(folder))
    metadata = reader.read_metadata()
    found = {
        name: room(name, entry.size, entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(found, metadata, is_coordinator=True)
    reader.set_up_storage_reader(metadata, is_coordinator=True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    reader.read_data(planner.finish_plan(plan), planner).wait()
    return found

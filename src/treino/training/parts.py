"""The tensors of a checkpoint in parts, one from each process, through torch's distributed checkpoint.

They lie in a folder of safetensors files, one a process. Where a part belongs in its tensor stands in the header of its file, so
any number of processes can read what any number wrote, each no more than its own part. torch's usual writer would pickle an
index beside them, and its `save` and `load` send pickled plans between the processes: here each process plans alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from treino import files


def write_part(folder: Path, tensors: dict[str, Tensor], rank: int) -> list[Path]:
    """Write this process's parts of tensors on the CPU into a file of its own in the folder, synced; what each process has
    whole (a count of steps, say) is written by the first one. Returns the files written: one, or none for want of tensors.

    Takes as much memory again as the tensors do, for torch makes the file's bytes before it writes them.
    """
    from torch.distributed.checkpoint import DefaultSavePlanner, HuggingFaceStorageWriter
    from torch.distributed.checkpoint.planner import SavePlan

    files.make_private(folder)
    with files.machine_errors(folder):
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        planner.set_up_planner(tensors, is_coordinator=rank == 0)
        plan = writer.prepare_local_plan(planner.create_local_plan())
        # The writer numbers files by the plans' places: those of the processes before this one hold the places before its own.
        plan = writer.prepare_global_plan([*[SavePlan([])] * rank, plan])[-1]
        writer.write_data(planner.finish_plan(plan), planner).wait()
    return sorted(folder.glob(f"shard-{rank + 1:05d}-*.safetensors"))


def read_parts(folder: Path, room: Callable[[str, torch.Size, torch.dtype], Tensor]) -> dict[str, Tensor]:
    """The tensors by name, read into what `room` makes for a name, a size and a format: whole tensors, or this process's part
    of one (a DTensor), whatever parts they were written in.

    Files that are missing leave what they should fill as it is: the caller sees to it that all are there.
    """
    from torch.distributed.checkpoint import DefaultLoadPlanner, HuggingFaceStorageReader

    reader = HuggingFaceStorageReader(str(folder))
    metadata = reader.read_metadata()
    found = {
        name: room(name, entry.size, entry.properties.dtype) for name, entry in metadata.state_dict_metadata.items()
    }
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(found, metadata, is_coordinator=True)
    reader.set_up_storage_reader(metadata, is_coordinator=True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    reader.read_data(planner.finish_plan(plan), planner).wait()
    return found

"""Several processes train as one does: the same curve within float32's noise, whatever their number, also from checkpoints."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))
import ranks_scene as scene

from treino import environment
from treino.errors import MachineError, UsageError
from treino.training.checkpoint import checkpoints
from treino.training.optimiser import Kind
from treino.training.ranks import Ranks, check_share, share
from treino.training.together import can_share, owners

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="torch for Windows comes without the agent's store")

LOSS, WEIGHT = 5e-6, 5e-5
"""Largest differences in 50 steps. A loss of about 4 is rounded at 2.4e-7, and gradients added up in another order differ in
their last digits, which AdamW magnifies where a second moment is near zero: 5e-7 and 2e-6 measured; the rest is room."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, list[dict]]:
    """A folder, what one process came to, and what each of two did."""
    folder = tmp_path_factory.mktemp("processos é")
    torch.set_num_threads(1)
    half = folder / "half"
    assert scene.stopped(half, "ddp", scene.ALONE) == 143
    for how in scene.WAYS:
        shutil.copytree(half, folder / f"{how} from one")
    shutil.copytree(half, folder / "fsdp from half")
    alone = scene.trained(folder / "alone")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(Path(scene.__file__)), str(folder)],
        env=environment.for_ranks(1),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, alone, [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def check(got: dict, alone: dict, tokens: bool = True) -> None:
    assert got["losses"] == pytest.approx(alone["losses"], abs=LOSS)
    assert got["validation"] == pytest.approx(alone["validation"], abs=LOSS)
    assert got["tokens"] == alone["tokens"]
    for name, values in alone["weights"].items():
        torch.testing.assert_close(torch.tensor(got["weights"][name]), torch.tensor(values), rtol=0, atol=WEIGHT)


@pytest.mark.parametrize("how", scene.WAYS)
def test_two_processes_train_as_one_does(found: tuple[Path, dict, list[dict]], how: str) -> None:
    _, alone, ranks = found
    assert alone["losses"][0] - alone["losses"][-1] > 0.3, "nothing was learnt, so nothing was compared"
    check(ranks[0][how], alone)
    assert ranks[0][how]["losses"] == ranks[1][how]["losses"]
    assert ranks[0][how]["weights"] == ranks[1][how]["weights"]
    assert ranks[0][how]["samples"]


@pytest.mark.parametrize("how", scene.WAYS)
def test_muon_makes_whole_matrices_orthogonal_in_parts_too(
    found: tuple[Path, dict, list[dict]], tmp_path: Path, how: str
) -> None:
    alone = scene.trained(tmp_path, optimiser="muon")
    got = found[2][0][f"{how} muon"]
    check(got, alone)


def test_a_model_in_parts_may_talk_before_it_learns(found: tuple[Path, dict, list[dict]]) -> None:
    work = scene.task(scene.ALONE)
    sums = [work.objective.sums(work.model, batch) for batch in work.source.step(0)]
    alone = sum(float(value.detach()) for some in sums for value in some.values())
    assert sum(rank["first look"] for rank in found[2]) == pytest.approx(alone, rel=LOSS)


@pytest.mark.parametrize("how", scene.WAYS)
def test_a_checkpoint_goes_on_with_another_number_of_processes(
    found: tuple[Path, dict, list[dict]], tmp_path: Path, how: str
) -> None:
    folder, alone, ranks = found
    check(ranks[0][f"{how} from one"], alone)
    assert [rank[f"{how} stopped"] for rank in ranks] == [143, 143], "a signal to one process stops all, after saving"
    shutil.copytree(folder / f"{how} stopped", tmp_path / "two")
    check(scene.trained(tmp_path / "two"), alone)


def test_checkpoints_keep_every_bit_from_one_process_to_two(found: tuple[Path, dict, list[dict]]) -> None:
    (step,) = checkpoints(found[0] / "half")
    written = load_file(step / "model.safetensors") | load_file(step / "optimiser.safetensors")
    check_equal(load_file(found[0] / "fsdp from half.safetensors"), written)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_checkpoints_keep_every_bit_from_two_processes_to_one(
    found: tuple[Path, dict, list[dict]], optimiser: Kind
) -> None:
    name = "fsdp stopped muon" if optimiser == "muon" else "fsdp stopped"
    (step,) = checkpoints(found[0] / name)
    parts = [[load_file(step / kind / f"part-0000{n}.safetensors") for n in (1, 2)] for kind in ("model", "optimiser")]
    written = {
        name: torch.cat([value, second[name]]) if value.ndim else value
        for first, second in parts
        for name, value in first.items()
    }
    assert all(
        len(first[name]) and len(value) for first, second in parts for name, value in second.items() if value.ndim
    )
    assert any(key.endswith("|momentum") for key in written) == (optimiser == "muon")
    check_equal(scene.restored(found[0] / name, "ddp", scene.ALONE, optimiser), written)
    check_equal(load_file(found[0] / f"{name}.safetensors"), written)


def check_equal(got: dict[str, torch.Tensor], written: dict[str, torch.Tensor]) -> None:
    assert got.keys() == written.keys()
    assert all(torch.equal(got[name], value) for name, value in written.items())


@pytest.mark.parametrize("part", ["model/part-00002", "optimiser/part-00001"])
@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_a_checkpoint_with_a_bad_part_gives_way_to_the_one_before(
    found: tuple[Path, dict, list[dict]], tmp_path: Path, part: str, harm: str
) -> None:
    (step,) = checkpoints(found[0] / "fsdp stopped")
    (half,) = checkpoints(found[0] / "half")
    shutil.copytree(step, tmp_path / "step-000000030")
    shutil.copytree(half, tmp_path / "step-000000020")
    path = tmp_path / "step-000000030" / f"{part}.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if harm == "missing":
        path.unlink()
    got = scene.restored(tmp_path, "ddp", scene.ALONE)
    check_equal(got, load_file(half / "model.safetensors") | load_file(half / "optimiser.safetensors"))
    assert [folder.name for folder in tmp_path.glob("damaged-*")] == ["damaged-step-000000030"]


def test_where_another_process_failed_this_one_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene.ALONE.agreeing():
        pass
    monkeypatch.setattr(Ranks, "highest", lambda ranks, failed: 1.0)
    with pytest.raises(MachineError, match="another process"), Ranks(0, 2).agreeing():
        pass
    with pytest.raises(OSError, match="own"), Ranks(0, 2).agreeing():
        raise OSError("own")


@pytest.mark.parametrize(
    ("rows", "batch", "size"), [(12, 4, 2), (8, 8, 2), (9, 4, 2), (3, 1, 2), (7, 7, 3), (64, 3, 5)]
)
def test_rows_are_dealt_once_each_in_equally_many_passes(rows: int, batch: int, size: int) -> None:
    parts = [share(rows, batch, rank, size) for rank in range(size)]
    assert [row for passes in parts for rows_of in passes for row in rows_of] == list(range(rows))
    assert len({len(passes) for passes in parts}) == 1
    assert all(1 <= len(rows_of) <= batch + 1 for passes in parts for rows_of in passes)


def test_parameters_are_dealt_out_in_one_line_by_their_sizes() -> None:
    assert owners([4, 4], 2) == [0, 1]
    assert owners([10, 1, 1], 2) == [0, 1, 1]
    assert owners([3, 3, 3, 3, 3, 3], 3) == [0, 0, 1, 1, 2, 2]
    assert owners([1], 4) == [2]
    assert owners([1, 100], 2) == [0, 1]


def test_memory_in_common_needs_one_machine_of_processors() -> None:
    assert can_share(Ranks(0, 2, 0, 2)) == (sys.platform == "linux" and not torch.cuda.is_available())
    assert not can_share(Ranks(0, 4, 0, 2))


def test_more_processes_than_rows_are_refused() -> None:
    check_share(4, 4)
    with pytest.raises(UsageError, match="5 processes cannot share the 4 rows"):
        check_share(4, 5)

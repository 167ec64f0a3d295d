"""Several processes train as one does: the same curve within float32's noise, whatever their number, also from checkpoints."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import ranks_scene as scene

from treino import environment
from treino.errors import UsageError
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
def test_a_checkpoint_goes_on_with_another_number_of_processes(
    found: tuple[Path, dict, list[dict]], tmp_path: Path, how: str
) -> None:
    folder, alone, ranks = found
    check(ranks[0][f"{how} from one"], alone)
    assert [rank[f"{how} stopped"] for rank in ranks] == [143, 143], "a signal to one process stops all, after saving"
    shutil.copytree(folder / f"{how} stopped", tmp_path / "two")
    check(scene.trained(tmp_path / "two"), alone)


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

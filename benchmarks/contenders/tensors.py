"""The rows of a data folder, for loops written by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def batches(data: Path, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and the tokens that follow them, each (rows, context), in endless order; −100 where nothing follows."""
    ids, labels = (torch.from_numpy(np.load(data / f"{name}.npy")) for name in ("ids", "labels"))
    targets = torch.full_like(labels, -100)
    targets[:, :-1] = labels[:, 1:]
    while True:
        for first in range(0, len(ids) - rows + 1, rows):
            yield ids[first : first + rows], targets[first : first + rows]

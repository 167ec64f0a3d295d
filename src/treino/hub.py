"""What models and data sets of the Hugging Face hub have in common: commits, and a bound on what is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterable

from treino.errors import DoesNotFit
from treino.messages import N_

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that always means the same files, so that what was fetched of it before can be taken."""

MOST_BYTES = 64_000_000_000


def check_size(name: str, sizes: Iterable[int], fix: str) -> None:
    """Refuse to fetch files of so many bytes, with what to do instead.

    Raises:
        DoesNotFit: for more than `MOST_BYTES`.
    """
    size = sum(sizes)
    if size > MOST_BYTES:
        raise DoesNotFit(
            N_("{name} holds {size:bytes}, more than the {most:bytes} that are fetched"),
            fix=fix,
            name=name,
            size=size,
            most=MOST_BYTES,
        )

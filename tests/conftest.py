"""What every test process does once."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """The oracles' modules make a million objects, which each search for garbage would walk through."""
    gc.collect()
    gc.freeze()

"""Memory measured is that of the processes that were started, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from treino import measure

HELD = 200_000_000


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells")
def test_the_peak_counts_what_helpers_hold_while_they_are_watched() -> None:
    hold = [sys.executable, "-c", f"held = bytes([1]) * {HELD}; import time; time.sleep(0.3)"]
    meter, before = measure.Meter(), measure.resident_memory()
    assert before is not None
    subprocess.run(hold, check=True)
    unwatched = meter.peak_memory()
    assert unwatched is not None and unwatched - before < HELD / 2
    with measure.watching_helpers():
        subprocess.run(hold, check=True)
    watched = meter.peak_memory()
    assert watched is not None and HELD < watched - unwatched < 1.3 * HELD
    again = measure.Meter().peak_memory()
    assert again is not None and again - before < HELD / 2, "a new meter begins anew"

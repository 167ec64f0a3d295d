"""What a stage cost: seconds and peak memory."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path


class Meter:
    """Wall-clock seconds and the process's peak resident memory since it was made.

    Linux can start the peak anew for each stage; elsewhere it is the peak since the process began.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def peak_memory(self) -> int | None:
        """Bytes, or None where the system does not say."""
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        if sys.platform == "win32":
            return None
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

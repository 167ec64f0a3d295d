"""The only place that reads or sets the process environment, once, at the start."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

LOCALE_FOLDER = Path(__file__).parent / "locale"

# Set before the libraries that read them are imported: no telemetry, no progress bars of their own, no network.
SETTINGS = {
    "DO_NOT_TRACK": "true",
    "SCARF_NO_ANALYTICS": "true",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "MPLBACKEND": "Agg",
}


def prepare() -> None:
    """Switch telemetry off before any library is imported that would send it, and choose the language of gettext."""
    for name, value in SETTINGS.items():
        os.environ[name] = value
    import gettext

    # click asks the default domain of gettext; our catalogue answers for click's sentences, too.
    os.environ["LANGUAGE"] = language()
    gettext.bindtextdomain("treino", str(LOCALE_FOLDER))
    gettext.textdomain("treino")


def language() -> str:
    """The reader's language: `TREINO_LANG` if set, else the locale, else English."""
    for name in ("TREINO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "")
        if value:
            return "pt_BR" if value.lower().startswith("pt") else "en"
    return "en"


def runs_folder() -> Path:
    """Where runs and the store of artefacts live: `TREINO_RUNS`, else `runs` in the working folder."""
    return Path(os.environ.get("TREINO_RUNS") or "runs")


def cache_folder() -> Path:
    """Where what can be made again is kept between runs: `TREINO_CACHE`, else the system's place for a user's caches."""
    home = Path.home()
    return _folder(
        "TREINO_CACHE", ("LOCALAPPDATA", home / "AppData/Local"), "Caches", ("XDG_CACHE_HOME", home / ".cache")
    )


def configuration_folder() -> Path:
    """Where a user keeps facts and preferences: `TREINO_CONFIG`, else the system's place for a user's settings."""
    home = Path.home()
    windows, linux = ("APPDATA", home / "AppData/Roaming"), ("XDG_CONFIG_HOME", home / ".config")
    return _folder("TREINO_CONFIG", windows, "Application Support", linux)


def _folder(asked: str, windows: tuple[str, Path], mac: str, linux: tuple[str, Path]) -> Path:
    """The folder that a variable names, else `treino` in the system's place: its own variable, or what it stands for."""
    if os.environ.get(asked):
        return Path(os.environ[asked])
    if sys.platform == "darwin":
        return Path.home() / "Library" / mac / "treino"
    variable, usual = windows if sys.platform == "win32" else linux
    return Path(os.environ.get(variable) or usual) / "treino"


def api_key(host: str) -> str:
    """The key for the models of one host, "" where there is none: a recipe from someone else cannot have it sent elsewhere.

    It stands in `key_variable(host)`; for OpenAI's own address also in `OPENAI_API_KEY`.
    """
    if "_" in host:  # it would share its variable with another host
        return ""
    names = [key_variable(host), *(["OPENAI_API_KEY"] if host == "api.openai.com" else [])]
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


def key_variable(host: str) -> str:
    """Variable of a host's key: TREINO_KEY_ and the host in capitals, with _ for a dot and __ for a hyphen, so that no two
    hosts share one.
    """
    return "TREINO_KEY_" + host.upper().replace("-", "__").replace(".", "_")


def fault_point() -> str | None:
    """Name of the point at which this process must die (`TREINO_FAULT`): for the proofs of restartability only."""
    return os.environ.get("TREINO_FAULT")


def device_asked_for() -> str:
    """The device that the user wants computations on (`TREINO_DEVICE`: cuda, mps or cpu), "" for the quickest that is there."""
    return os.environ.get("TREINO_DEVICE", "").strip().lower()


def processors() -> int:
    """Processors that this process may use: its affinity, where the system tells it, or fewer by `OMP_NUM_THREADS`.

    Two processes that each take all processors slow each other down many times over, for their threads wait for each
    other by spinning; so the usual way to ask for fewer is heeded. Processes that torchrun started beside each other share
    the processors evenly; the 1 that torchrun itself sets there asks for nothing.
    """
    there = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    beside = distributed().local_size
    if beside > 1:
        there = max(1, there // beside)
        asked = "" if asked == "1" else asked
    return min(there, int(asked)) if asked.isdecimal() and int(asked) else there


def keep_to_one_processor() -> None:
    """Say, in a process that works beside others, that it may use one processor; before torch is imported."""
    os.environ["OMP_NUM_THREADS"] = "1"


def instruction_set_limits() -> dict[str, str]:
    """Limits that the user put on the instruction set; they are part of what makes two runs comparable."""
    names = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
    return {name: os.environ[name] for name in names if name in os.environ}


@dataclass(frozen=True)
class Distributed:
    """Which of how many processes this one is: over all machines, and among those of this machine; how often the launcher
    has started them all anew.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    attempt: int = 0


def distributed() -> Distributed:
    """What torchrun says; a single process is 0 of 1."""
    names = {
        "rank": "RANK",
        "size": "WORLD_SIZE",
        "local_rank": "LOCAL_RANK",
        "local_size": "LOCAL_WORLD_SIZE",
        "attempt": "TORCHELASTIC_RESTART_COUNT",
    }
    return Distributed(**{field: int(os.environ[name]) for field, name in names.items() if name in os.environ})


def for_ranks(threads: int) -> dict[str, str]:
    """The environment of processes that are to share the work of this one, each with so many threads."""
    package = str(Path(__file__).parents[1])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}

"""What the store holds, who uses it, and the removal of what nobody does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from treino import files
from treino.models.answers import FOLDER as ANSWERS
from treino.pipeline.run_folder import all_runs
from treino.pipeline.store import Store
from treino.recipe import PROMPT


def sizes(runs: Path) -> list[dict[str, Any]]:
    """Every folder of the store with its size in bytes, the names of the runs that use it, and whether one is being made
    right now, largest first. A run whose record is damaged is an error: what it uses is not known.
    """
    users: dict[str, list[str]] = {}
    for run in all_runs(runs):
        content = run.read()
        folders = [stage["folder"] for stage in content["stages"]]
        if content["settings"].get("finetune", {}).get("method") == PROMPT:
            folders.append(ANSWERS)
        for folder in folders:
            users.setdefault(folder, []).append(run.name)
    rows = []
    store = Store(runs)
    for folder in sorted(store.folder.iterdir()) if store.folder.is_dir() else []:
        if folder.is_dir():
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            row = {"folder": folder.name, "bytes": size, "used_by": users.get(folder.name, [])}
            rows.append(row | {"running": _is_running(folder)})
    return sorted(rows, key=lambda row: -row["bytes"])


def prune(runs: Path) -> list[str]:
    """Remove every folder of the store that no run uses or makes right now, what was interrupted among them; returns their
    names.
    """
    removed = []
    for row in sizes(runs):
        folder = Store(runs).folder / row["folder"]
        if row["used_by"]:
            continue
        with contextlib.suppress(Timeout):
            with _alone(folder):
                files.remove_folder(folder)
            _lock_file(folder).unlink(missing_ok=True)
            removed.append(folder.name)
    return removed


def _lock_file(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _alone(folder: Path) -> contextlib.AbstractContextManager[object]:
    """The lock that a run holds while it makes an artefact, which begins with a dot until it is done; `Timeout` if one does."""
    return FileLock(_lock_file(folder), timeout=0) if folder.name.startswith(".") else contextlib.nullcontext()


def _is_running(folder: Path) -> bool:
    if not _lock_file(folder).exists():
        return False
    try:
        with _alone(folder):
            return False
    except Timeout:
        return True

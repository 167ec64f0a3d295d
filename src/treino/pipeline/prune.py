"""What the store holds, who uses it, and the removal of what nobody does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from treino import files
from treino.models.answers import FOLDER as ANSWERS
from treino.pipeline.run_folder import all_runs
from treino.pipeline.store import Store
from treino.recipe import PROMPT


def sizes(runs: Path) -> list[dict[str, Any]]:
    """Every folder of the store with its size in bytes and the names of the runs that use it, largest first."""
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
            rows.append({"folder": folder.name, "bytes": size, "used_by": users.get(folder.name, [])})
    return sorted(rows, key=lambda row: -row["bytes"])


def prune(runs: Path) -> list[str]:
    """Remove every folder of the store that no run uses, left-overs of interrupted runs among them; returns their names."""
    removed = []
    for row in sizes(runs):
        if not row["used_by"]:
            files.remove_folder(Store(runs).folder / row["folder"])
            removed.append(row["folder"])
    return removed

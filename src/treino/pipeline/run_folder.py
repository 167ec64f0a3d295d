"""`RUNS/<name>/`: the recipe, the lock, the events and the digests of what a run used; and how to find a run again."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from treino import events, files
from treino.errors import DataError, MachineError
from treino.messages import N_
from treino.pipeline.lock import NAME as LOCK_NAME
from treino.pipeline.store import Artefact, DamagedArtefact, Store, read_record
from treino.recipe.load import LoadedRecipe, setting_rows
from treino.recipe.new import to_toml

SCHEMA = 1
RUN, EVENTS, RECIPE = "run.json", "events.jsonl", "recipe.toml"
RUN_AGAIN = N_("run the recipe again: treino run")


class DamagedRun(DataError):
    """A `run.json` that is not there, or not whole."""


class RunFolder:
    """A run's folder. Nothing is written into it before something is worth keeping, so a run that fails at its first
    mistake leaves the folder as it was.
    """

    def __init__(self, runs: Path, name: str) -> None:
        self.runs, self.name = runs, name
        self.folder = runs / name
        self.store = Store(runs)
        self._waiting: list[str] = []
        self._started = False

    @property
    def lock_path(self) -> Path:
        return self.folder / LOCK_NAME

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other processes out of this run's folder; a folder that stays empty is removed again."""
        is_new = not self.folder.exists()
        files.make_private(self.runs)
        files.make_private(self.folder)
        guard = self.folder / ".in-use"
        lock = FileLock(guard, timeout=0)
        with files.machine_errors(self.folder):
            try:
                lock.acquire()
            except Timeout:
                raise MachineError(
                    N_("the run {name} is in use by another process"),
                    fix=N_("wait for it, or give this run another name: --set name=..."),
                    name=self.name,
                ) from None
        try:
            yield
        finally:
            lock.release()
            guard.unlink(missing_ok=True)
            if is_new:
                for folder in (self.folder, self.runs):
                    with contextlib.suppress(OSError):
                        folder.rmdir()

    def read(self) -> dict[str, Any]:
        """`run.json`; `DamagedRun` where it is missing or damaged."""
        path = self.folder / RUN
        try:
            content = files.read_json(path)
        except DataError as error:
            raise DamagedRun(error.message.text, fix=RUN_AGAIN, **error.message.values) from None
        if not isinstance(content, dict) or not {"stages", "settings", "origins", "finished"} <= content.keys():
            raise DamagedRun(N_("{name} is incomplete"), where=str(path), fix=RUN_AGAIN, name=RUN)
        if content.get("schema", 0) > SCHEMA:
            raise DataError(
                N_("the run {name} was made by a newer version of treino"),
                fix=N_("update treino, or choose another folder with --runs"),
                name=self.name,
            )
        return content

    def look(self) -> dict[str, Any]:
        """`run.json`, or the record of a run that did nothing yet: it is only a view of the store."""
        try:
            return self.read()
        except DamagedRun:
            return {"stages": [], "finished": None}

    def before(self) -> dict[str, Any]:
        """Ingredients of the last run by stage name."""
        return {stage["name"]: stage["ingredients"] for stage in self.look()["stages"]}

    def start(self, loaded: LoadedRecipe) -> None:
        """The point from which on this run leaves traces: its recipe and the events so far."""
        if self._started:
            return
        self._started = True
        header = "".join(f"# --set {override}\n" for override in loaded.overrides)
        files.write_text(self.folder / RECIPE, header + (loaded.text or _given(loaded)))
        self._append()

    def write(self, loaded: LoadedRecipe, stages: list[dict[str, Any]], *, finished: bool) -> None:
        """Write `run.json`: what the run asked for and which artefacts answer it."""
        content = {
            "schema": SCHEMA,
            "name": self.name,
            "title": loaded.title,
            "settings": loaded.recipe.model_dump(mode="json", by_alias=True),
            "origins": dict(loaded.origins),
            "stages": stages,
            "finished": time.time() if finished else None,
        }
        files.write_json(self.folder / RUN, content)

    def record_event(self, event: events.Event) -> None:
        """Listener that keeps every event in `events.jsonl` (progress marks left out), once the run has started."""
        if event.kind == "progress":
            return
        row = {"schema": events.SCHEMA, "time": round(event.time, 3), "kind": event.kind, **event.values}
        self._waiting.append(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        if self._started:
            self._append()

    def _append(self) -> None:
        with files.machine_errors(self.folder), open(self.folder / EVENTS, "a", encoding="utf-8", newline="\n") as log:
            log.writelines(self._waiting)
        self._waiting.clear()

    def artefacts(self) -> dict[str, Artefact]:
        """The artefacts of the last run by stage name; `DataError` for one that is gone or damaged."""
        found = {}
        for stage in self.read()["stages"]:
            folder = self.store.folder / stage["folder"]
            try:
                found[stage["name"]] = Artefact(folder, read_record(folder))
            except DamagedArtefact as damaged:
                raise DataError(
                    N_("the result of {stage} is missing or damaged: {reason}"),
                    fix=RUN_AGAIN,
                    stage=stage["name"],
                    reason=damaged.reason,
                ) from None
        return found


def _given(loaded: LoadedRecipe) -> str:
    """What was given of a recipe that stands in no file, as TOML."""
    lines, table = list[str](), ""
    for row in setting_rows(loaded.recipe.model_dump(mode="json", by_alias=True), loaded.origins):
        where, _, key = row["where"].rpartition(".")
        if row["origin"] != "file":
            continue
        if where != table:
            lines += ["", f"[{where}]"]
        lines, table = [*lines, f"{key} = {to_toml(row['value'])}"], where
    return "\n".join([*lines, ""])


def brought_model(name: str | Path) -> Path | None:
    """Folder of a model that was brought along, by its path or as `owner/name@revision` of the hub; None for a run's."""
    if (Path(name) / "config.json").is_file():
        return Path(name)
    from treino.models.hub import fetch, is_hub_name

    return fetch(str(name)) if is_hub_name(name) else None


def find_run(runs: Path, run: str | Path | None = None) -> RunFolder:
    """A run by path, by name, or (None) the one that finished last; the latest where none has finished yet."""
    if run is not None:
        for folder in (Path(run), runs / str(run)):
            if (folder / RUN).is_file():
                return RunFolder(folder.resolve().parent, folder.resolve().name)
        fix = N_("the runs here are: {known}")
        if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(run)):
            fix = N_("the runs here are: {known}; a model of the hub is named with its revision: {name}@REVISION")
        raise DataError(
            N_("there is no run {name} in {runs}"),
            fix=fix,
            name=str(run),
            runs=str(runs),
            known=", ".join(item.name for item in all_runs(runs)) or "-",
        )
    known = all_runs(runs)
    if not known:
        raise DataError(N_("there is no run in {runs} yet"), fix=N_("start with: treino run"), runs=str(runs))
    known.sort(key=lambda item: (item.folder / RUN).stat().st_mtime, reverse=True)
    return next((item for item in known if item.look()["finished"]), known[0])


def language_model(artefacts: Mapping[str, Artefact]) -> Path:
    """Folder of the language model that a run made: tuned on conversations, pretrained, or brought along."""
    stage = next((name for name in ("chat", "pretrain") if name in artefacts), "adopt")
    return part_of(artefacts, stage, "model")


def part_of(artefacts: Mapping[str, Artefact], stage: str, part: str) -> Path:
    """A file or folder of a stage's output; `DataError` where the run has no such stage."""
    if stage not in artefacts:
        raise DataError(N_("this run has no finished stage {stage}"), fix=N_("run it again: treino run"), stage=stage)
    return artefacts[stage].folder / part


def all_runs(runs: Path) -> list[RunFolder]:
    """Every run below a runs folder, by name."""
    return [RunFolder(runs, path.parent.name) for path in sorted(runs.glob(f"*/{RUN}"))]

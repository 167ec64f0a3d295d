"""Runs the stages of a pipeline, each only where its artefact is not ready."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from treino import environment, events, files, interruption
from treino.errors import NothingLeft
from treino.measure import Meter, release_memory
from treino.messages import Message
from treino.pipeline.beside import beside
from treino.pipeline.lock import DecisionLock, machine
from treino.pipeline.place import HERE, Place
from treino.pipeline.plan import differences, ingredients, settings_hash, with_decisions
from treino.pipeline.run_folder import RunFolder
from treino.pipeline.stage import Pipeline, Stage, Work, producer
from treino.pipeline.store import Artefact, DamagedArtefact, Store
from treino.recipe.load import LoadedRecipe


@dataclass
class Runner:
    """One run of a pipeline in one run folder."""

    pipeline: Pipeline
    loaded: LoadedRecipe
    folder: RunFolder
    lock: DecisionLock
    language: str
    place: Place = HERE
    done: dict[str, Artefact] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.folder.store

    def run(self) -> dict[str, Artefact]:
        """Bring every artefact of the pipeline about; returns them by stage name."""
        started = time.monotonic()
        before = self.folder.before()
        rows: list[dict[str, Any]] = []
        title = self.loaded.title
        events.emit("run.started", run=self.folder.name, recipe=title, folder=str(self.folder.folder))
        for position, stage in enumerate(self.pipeline):
            makers = {kind: producer(self.pipeline, position, kind).name for kind in stage.consumes}
            made_of = self._complete(stage, makers)
            artefact = self._bring_about(stage, made_of, makers, before.get(stage.name))
            self.done[stage.name] = artefact
            row = {"name": stage.name, "folder": artefact.folder.name, "digest": artefact.digest}
            rows.append(row | {"state": self.states[stage.name], "ingredients": made_of})
            if self.states[stage.name] == "ran":
                self.folder.start(self.loaded)
                self.folder.write(self.loaded, rows, finished=False)
        ran = sum(state == "ran" for state in self.states.values())
        self.folder.start(self.loaded)
        self.folder.write(self.loaded, rows, finished=True)
        self.lock.write()
        seconds = time.monotonic() - started
        events.emit("run.finished", seconds=seconds, ran=ran, cached=len(rows) - ran)
        return self.done

    def _inputs(self, makers: Mapping[str, str]) -> dict[str, Artefact]:
        return {kind: self.done[maker] for kind, maker in makers.items()}

    def _work(self, stage: Stage, makers: Mapping[str, str], output: Path, decisions: Mapping[str, Any]) -> Work:
        inputs = {kind: artefact.folder for kind, artefact in self._inputs(makers).items()}
        records = [
            artefact.record | {"folder": str(artefact.folder), "state": self.states[name]}
            for name, artefact in self.done.items()
        ]
        return Work(self.loaded, inputs, output, decisions, records, self.language, self.folder.runs, self.place)

    def _complete(self, stage: Stage, makers: Mapping[str, str]) -> dict[str, Any]:
        """All ingredients of a stage; decisions that are not locked yet are taken (and locked) here."""
        made_of = ingredients(stage, self.loaded, self.done, makers, self.language)
        if not stage.decide:
            return made_of
        behind = settings_hash(stage, made_of)
        if self.lock.valid(stage.decides, behind) is None:
            self.folder.start(self.loaded)
            self.lock.add(stage.decide(self._work(stage, makers, Path(), {})), behind)
        return with_decisions(stage, made_of, self._decisions(stage, behind))

    def _decisions(self, stage: Stage, behind: str) -> dict[str, Any]:
        values = self.lock.valid(stage.decides, behind)
        assert values is not None
        return values

    def _bring_about(
        self, stage: Stage, made_of: dict[str, Any], makers: Mapping[str, str], before: Mapping[str, Any] | None
    ) -> Artefact:
        key = files.digest(made_of)
        artefact = self._find(stage, key)
        if artefact is None:
            with self._alone(stage, key):
                artefact = self._find(stage, key)  # another process may have made it while this one waited
                if artefact is None:
                    why = differences(before, made_of, makers)
                    return self._execute(stage, key, made_of, makers, why)
        self.states[stage.name] = "cached"
        events.emit("stage.cached", stage=stage.name, seconds=artefact.record["seconds"], folder=str(artefact.folder))
        return artefact

    def _find(self, stage: Stage, key: str) -> Artefact | None:
        try:
            artefact = self.store.find(stage.name, key)
        except DamagedArtefact as damaged:
            self.store.set_aside(damaged)
            return None
        return self.store.tidy(artefact) if artefact else None

    @contextlib.contextmanager
    def _alone(self, stage: Stage, key: str) -> Iterator[None]:
        """Hold the artefact's lock; say so when another process has it, and wait."""
        files.make_private(self.store.folder)
        path = self.store.lock_file(stage.name, key)
        lock = FileLock(path)
        with files.machine_errors(path):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                events.emit("stage.waiting", stage=stage.name)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.store.folder.rmdir()

    def _execute(
        self, stage: Stage, key: str, made_of: dict[str, Any], makers: Mapping[str, str], why: list[Message]
    ) -> Artefact:
        partial = self.store.partial(stage.name, key)
        if stage.resumes and any(partial.glob(stage.resumes)):
            events.emit("stage.resumed", stage=stage.name)
        else:
            files.remove_folder(partial)
        files.make_private(partial)
        reasons = [{"text": reason.text, "values": dict(reason.values)} for reason in why]
        events.emit("stage.started", stage=stage.name, why=reasons, expected_seconds=self._expected(stage, makers))
        files.fault(f"{stage.name}:started")
        release_memory()
        meter, started = Meter(), time.time()
        decisions = self._decisions(stage, settings_hash(stage, made_of)) if stage.decide else {}
        try:
            facts = stage.run(self._work(stage, makers, partial, decisions))
            # of the first process that trained
            peak = facts.pop("peak_memory", None) or meter.peak_memory()
            record = {
                "stage": stage.name,
                "key": key,
                "ingredients": made_of,
                "why": reasons,
                "inputs": {
                    kind: {"folder": item.folder.name, "digest": item.digest}
                    for kind, item in self._inputs(makers).items()
                },
                "bytes_in": self._bytes_in(makers),
                "facts": facts,
                "started": started,
                "finished": time.time(),
                "seconds": meter.seconds(),
                "peak_memory": peak,
                "beside": beside(partial, facts, peak),
                "machine": machine(self.place.ranks) if stage.decide else {"threads": environment.processors()},
                "lock_differs": self._lock_differences(stage),
            }
            artefact = self.store.publish(partial, self.store.path(stage.name, key), record)
        except BaseException as error:
            if isinstance(error, NothingLeft) or not (stage.resumes and any(partial.glob(stage.resumes))):
                files.remove_folder(partial)
            else:
                self.folder.start(self.loaded)
            raise
        self.states[stage.name] = "ran"
        if record["beside"]:
            events.emit("forecast.measured", stage=stage.name, **record["beside"])
        events.emit("stage.finished", stage=stage.name, seconds=record["seconds"], facts=facts)
        interruption.raise_if_requested()
        return artefact

    def _lock_differences(self, stage: Stage) -> list[str]:
        """What of the machine differs from the one that the decisions were taken on: the artefact is marked with it."""
        differs = self.lock.differences() if stage.decide else []
        if differs:
            events.emit("warning.lock_differs", what=", ".join(differs))
        return differs

    def _expected(self, stage: Stage, makers: Mapping[str, str]) -> float | None:
        """Seconds that this stage should take by its rate in earlier runs on this machine, if there were any."""
        rate = None if stage.decide else self.store.rate(stage.name)
        return rate * self._bytes_in(makers) if rate else None

    def _bytes_in(self, makers: Mapping[str, str]) -> int:
        return sum(artefact.size for artefact in self._inputs(makers).values())

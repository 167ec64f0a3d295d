"""The store of artefacts: `RUNS/store/<stage>-<key>/`, found by what they were made from, checked by what they hold."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino import events, files, interruption
from treino.errors import DataError
from treino.messages import N_, Message

SCHEMA = 1
RECORD = "stage.json"
KEY_LENGTH = 16
MEASURED = "records/"
"""Folder of what was measured (times, curves): checked like the rest, but no part of the artefact's digest."""
CHECKPOINTS = "checkpoints"
"""Folder from which a training that was stopped goes on: until all is written, and no part of the artefact."""
_CHANGED = N_("{name} is not what was written")


@dataclass(frozen=True)
class Artefact:
    """A finished stage output and its record."""

    folder: Path
    record: dict[str, Any]

    @property
    def digest(self) -> str:
        return self.record["digest"]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(entry["bytes"] for entry in self.record["files"].values())


class Store:
    """Artefacts of all runs in one folder."""

    def __init__(self, runs: Path) -> None:
        self.folder = runs / "store"

    def path(self, stage: str, key: str) -> Path:
        return self.folder / f"{stage}-{key[:KEY_LENGTH]}"

    def partial(self, stage: str, key: str) -> Path:
        return self.folder / f".{stage}-{key[:KEY_LENGTH]}.partial"

    def lock_file(self, stage: str, key: str) -> Path:
        return self.folder / f".{stage}-{key[:KEY_LENGTH]}.lock"

    def find(self, stage: str, key: str) -> Artefact | None:
        """The artefact, if it is there and whole. A damaged one raises `DamagedArtefact`; nothing is changed here."""
        folder = self.path(stage, key)
        if not folder.is_dir():
            return None
        record = read_record(folder)
        _verify(folder, record)
        return Artefact(folder, record)

    def set_aside(self, damaged: DamagedArtefact) -> None:
        """Move a damaged artefact out of the way, so that it is made again; nothing is deleted."""
        aside = damaged.folder.with_name(f"damaged-{damaged.folder.name}-{uuid.uuid4().hex[:6]}")
        with files.machine_errors(damaged.folder):
            damaged.folder.rename(aside)
        events.emit("warning.damaged", path=str(damaged.folder), reason=damaged.reason, aside=aside.name)

    def publish(self, partial: Path, final: Path, record: dict[str, Any]) -> Artefact:
        """Seal a finished partial folder with its record and give it its final name; what it would go on from goes after
        that, for the disk may still refuse the name.
        """
        names = [
            name for name in files.list_files(partial) if name != RECORD and not name.startswith(f"{CHECKPOINTS}/")
        ]
        listed = {name: _entry(partial / name) for name in names}
        tracked = {name: entry for name, entry in listed.items() if not name.startswith(MEASURED)}
        record = record | {"schema": SCHEMA, "files": listed, "digest": files.digest(tracked)}
        files.write_json(partial / RECORD, record | {"seal": files.digest(record)})
        with interruption.deferring():
            files.publish_folder(partial, final)
            return self.tidy(Artefact(final, record))

    def tidy(self, artefact: Artefact) -> Artefact:
        """Remove the checkpoints of a finished artefact, if a kill left them; what cannot be removed does no harm."""
        shutil.rmtree(artefact.folder / CHECKPOINTS, ignore_errors=True)
        return artefact

    def rate(self, stage: str) -> float | None:
        """Seconds per byte of its input that the stage took when it ran last, if it ever did."""
        newest: tuple[float, float] | None = None
        for folder in self.folder.glob(f"{stage}-*"):
            try:
                record = read_record(folder)
            except (DataError, DamagedArtefact):
                continue
            if record["bytes_in"] and (newest is None or record["finished"] > newest[0]):
                newest = (record["finished"], record["seconds"] / record["bytes_in"])
        return newest[1] if newest else None


class DamagedArtefact(Exception):
    """An artefact whose files are not what its record says."""

    def __init__(self, folder: Path, reason: Message) -> None:
        super().__init__(f"{folder}: {reason.english()}")
        self.folder, self.reason = folder, reason


def read_record(folder: Path) -> dict[str, Any]:
    """An artefact's `stage.json`; a newer schema is refused, a damaged record raises `DamagedArtefact`."""
    try:
        record = files.read_json(folder / RECORD)
        seal = record.pop("seal")
    except DataError as error:
        raise DamagedArtefact(folder, error.message) from None
    except (KeyError, AttributeError, TypeError):
        raise DamagedArtefact(folder, Message(N_("{name} is incomplete"), {"name": RECORD})) from None
    if isinstance(record.get("schema"), int) and record["schema"] > SCHEMA:
        raise DataError(
            N_("{path} was made by a newer version of treino (schema {schema:raw}, known here: {known:raw})"),
            fix=N_("update treino, or choose another folder with --runs"),
            path=str(folder),
            schema=record["schema"],
            known=SCHEMA,
        )
    if files.digest(record) != seal:
        raise DamagedArtefact(folder, Message(_CHANGED, {"name": RECORD}))
    return record


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": files.sha256_file(path)}


def _verify(folder: Path, record: dict[str, Any]) -> None:
    for name, entry in record["files"].items():
        path = folder / name
        if not path.is_file():
            raise DamagedArtefact(folder, Message(N_("{name} is missing"), {"name": name}))
        if path.stat().st_size != entry["bytes"] or files.sha256_file(path) != entry["sha256"]:
            raise DamagedArtefact(folder, Message(_CHANGED, {"name": name}))

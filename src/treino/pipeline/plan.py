"""What a run would do: the key of every stage, whether its artefact is ready, and exactly why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from treino import files
from treino.messages import N_, Message
from treino.pipeline.lock import DecisionLock
from treino.pipeline.stage import Pipeline, Stage, producer
from treino.pipeline.store import Artefact, DamagedArtefact, Store
from treino.recipe.load import LoadedRecipe

_MADE_AGAIN = N_("its input is made again by {stages}")


@dataclass(frozen=True)
class PlannedStage:
    """A stage with its state (`ready`, or `will run`) and the reasons, one sentence each."""

    stage: Stage
    state: str
    why: tuple[Message, ...]
    artefact: Artefact | None = None


def ingredients(
    stage: Stage, loaded: LoadedRecipe, done: Mapping[str, Artefact], makers: Mapping[str, str], language: str
) -> dict[str, Any]:
    """Everything that decides a stage's output, but for the locked decisions. `done`: what the stages before it made."""
    made_of = {
        "stage": stage.name,
        "version": stage.version,
        "settings": stage.settings(loaded, language),
        "inputs": {kind: done[maker].digest for kind, maker in makers.items()},
        "reads": stage.reads(loaded) if stage.reads else None,
        "seed": loaded.recipe.seed,
    }
    # A record holds more than the output that a digest is of: counts, and digests of the user's files.
    keys = {name: artefact.record["key"] for name, artefact in done.items()}
    return made_of | ({"records": keys} if stage.records else {})


def settings_hash(stage: Stage, made_of: Mapping[str, Any]) -> str:
    """Hash of the settings that a stage's decisions are taken from."""
    return files.digest([stage.name, stage.version, made_of["settings"], made_of["inputs"], made_of["seed"]])


def with_decisions(stage: Stage, made_of: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The ingredients with those decisions that change the output."""
    return made_of | {"decisions": {name: values[name] for name in stage.decides if name not in stage.informs}}


def plan_run(
    pipeline: Pipeline, loaded: LoadedRecipe, store: Store, lock: DecisionLock, before: Mapping[str, Any], language: str
) -> list[PlannedStage]:
    """What each stage would do now. `before` holds the ingredients of the last run by stage name. Nothing is changed."""
    planned: list[PlannedStage] = []
    done: dict[str, Artefact] = {}
    for position, stage in enumerate(pipeline):
        makers = {kind: producer(pipeline, position, kind).name for kind in stage.consumes}
        needed = [earlier.name for earlier in pipeline[:position]] if stage.records else makers.values()
        waiting = sorted({maker for maker in needed if maker not in done})
        if waiting:
            why = Message(_MADE_AGAIN, {"stages": ", ".join(waiting)})
            planned.append(PlannedStage(stage, "will run", (why,)))
            continue
        made_of = ingredients(stage, loaded, done, makers, language)
        item = _plan_stage(stage, made_of, makers, store, lock, before.get(stage.name))
        if item.artefact:
            done[stage.name] = item.artefact
        planned.append(item)
    return planned


def _plan_stage(
    stage: Stage,
    made_of: dict[str, Any],
    makers: Mapping[str, str],
    store: Store,
    lock: DecisionLock,
    before: Mapping[str, Any] | None,
) -> PlannedStage:
    if stage.decide:
        values = lock.valid(stage.decides, settings_hash(stage, made_of))
        if values is None:
            reasons = differences(before, made_of, makers) if before else [Message(N_("it has not run yet"))]
            return PlannedStage(stage, "will run", tuple(reasons))
        made_of = with_decisions(stage, made_of, values)
    key = files.digest(made_of)
    try:
        artefact = store.find(stage.name, key)
    except DamagedArtefact as damaged:
        why = Message(N_("its earlier result is damaged: {reason}"), {"reason": damaged.reason})
        return PlannedStage(stage, "will run", (why,))
    if artefact:
        return PlannedStage(stage, "ready", (), artefact)
    if any(store.partial(stage.name, key).glob(stage.resumes or "stage.json")):
        return PlannedStage(stage, "will run", (Message(N_("an interrupted run of it goes on")),))
    return PlannedStage(stage, "will run", tuple(differences(before, made_of, makers)))


def differences(before: Mapping[str, Any] | None, now: Mapping[str, Any], makers: Mapping[str, str]) -> list[Message]:
    """Why a stage's key is not what it was, one sentence for each ingredient that changed."""
    if before is None:
        return [Message(N_("it has not run yet"))]
    reasons = []
    if before["version"] != now["version"]:
        values = {"old": before["version"], "new": now["version"]}
        reasons.append(Message(N_("the stage itself changed (version {old} before, {new} now)"), values))
    if before["seed"] != now["seed"]:
        values = {"old": before["seed"], "new": now["seed"]}
        reasons.append(Message(N_("the seed changed from {old:raw} to {new:raw}"), values))
    changed = N_("{name} changed from {old} to {new}")
    for part in ("settings", "decisions"):
        old, new = _flat(before.get(part)), _flat(now.get(part))
        reasons += [
            Message(changed, {"name": name, "old": _shown(old.get(name)), "new": _shown(new.get(name))})
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
    for kind in now["inputs"]:
        if before["inputs"].get(kind) != now["inputs"][kind]:
            reasons.append(Message(N_("the {kind} from {stage} changed"), {"kind": kind, "stage": makers[kind]}))
    old, new = _flat(before.get("reads")), _flat(now.get("reads"))
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    if names:
        shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        reasons.append(Message(N_("files that it reads changed: {names}"), {"names": shown}))
    old, new = _flat(before.get("records")), _flat(now.get("records"))
    names = [name for name in new if old.get(name) != new[name]]
    if names and not reasons:
        reasons.append(Message(_MADE_AGAIN, {"stages": ", ".join(names)}))
    return reasons or [Message(N_("its earlier result is no longer in the store"))]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value} if prefix else {}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{prefix}.{key}".lstrip("."))
    return flat


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."

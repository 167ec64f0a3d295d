"""The runner and its cache, on small stages of our own: nothing heavy is imported."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from treino import events, files
from treino.errors import DataError, MachineError, UsageError
from treino.messages import Message
from treino.pipeline.api import Run, run
from treino.pipeline.facts import settings_of
from treino.pipeline.inspect import show_run
from treino.pipeline.lock import DecisionLock
from treino.pipeline.plan import plan_run
from treino.pipeline.prune import prune, sizes
from treino.pipeline.run_folder import RunFolder, find_run
from treino.pipeline.stage import Decisions, Pipeline, Stage, Work, insert
from treino.pipeline.stages import pipeline_of
from treino.pipeline.store import Store
from treino.recipe.load import load_recipe


def stage(name: str, consumes: tuple[str, ...], produces: str, change: Callable[[str], str], **more: Any) -> Stage:
    """A stage that changes a text."""

    def work(given: Work) -> dict[str, Any]:
        text = "".join((given.inputs[kind] / "text.txt").read_text(encoding="utf-8") for kind in consumes)
        files.write_text(given.output / "text.txt", change(text))
        return {"characters": len(text)}

    def settings(loaded: Any, language: str) -> Any:
        return loaded.recipe.clean.model_dump() if name == "upper" else {}

    return Stage(name, 1, consumes, (produces,), settings, work, **more)


PIPELINE: Pipeline = (
    stage("make", (), "text", lambda _: "o gato\n"),
    stage("upper", ("text",), "text", str.upper),
    stage("count", ("text",), "count", lambda text: str(len(text))),
)


class Heard(list[events.Event]):
    """A listener that keeps what it hears."""

    def __call__(self, event: events.Event) -> None:
        self.append(event)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event.values for event in self if event.kind == kind]


def go(tmp_path: Path, pipeline: Pipeline = PIPELINE, *overrides: str, **more: Any) -> tuple[Run, Heard]:
    heard = Heard()
    return run(None, runs=tmp_path / "runs", pipeline=pipeline, overrides=overrides, listener=heard, **more), heard


def ran(heard: Heard) -> list[str]:
    return [values["stage"] for values in heard.of("stage.started")]


def text_of(finished: Run, name: str) -> str:
    return (finished.artefacts[name].folder / "text.txt").read_text(encoding="utf-8")


def test_a_second_run_runs_nothing(tmp_path: Path) -> None:
    first, heard = go(tmp_path)
    assert ran(heard) == ["make", "upper", "count"]
    second, heard = go(tmp_path)
    assert ran(heard) == []
    assert len(heard.of("stage.cached")) == 3
    assert second.digests == first.digests


def test_a_foreign_stage_fits_between_two_others(tmp_path: Path) -> None:
    before, _ = go(tmp_path)
    reverse = stage("reverse", ("text",), "text", lambda text: text[::-1])
    after, heard = go(tmp_path, insert(PIPELINE, reverse, after="upper"))
    assert ran(heard) == ["reverse", "count"]
    assert text_of(after, "reverse") == "\nOTAG O"
    assert after.artefacts["count"].record["inputs"]["text"]["folder"] == after.artefacts["reverse"].folder.name
    assert text_of(before, "upper") == "O GATO\n"


def test_only_what_uses_a_setting_runs_again_and_says_why(tmp_path: Path) -> None:
    go(tmp_path)
    _, heard = go(tmp_path, PIPELINE, "clean.minimum_characters=3")
    # `upper` uses the setting; its output is the same, so `count` is not run again.
    assert ran(heard) == ["upper"]
    why = heard.of("stage.started")[0]["why"][0]
    assert why["values"] == {"name": "minimum_characters", "old": "20", "new": "3"}
    _, heard = go(tmp_path, PIPELINE, "clean.minimum_characters=3", "pretrain.clip=2.0")
    assert ran(heard) == []


def test_a_stage_that_draws_records_runs_again_with_any_of_them(tmp_path: Path) -> None:
    assert pipeline_of(load_recipe().recipe)[-1].records, "the report's card says what each stage counted"
    told = replace(PIPELINE[2], name="tell", records=True)
    go(tmp_path, (*PIPELINE, told))
    _, heard = go(tmp_path, (*PIPELINE, told), "clean.minimum_characters=3")
    assert ran(heard) == ["upper", "tell"], "the text is what it was, what is known of it may not be"
    assert heard.of("stage.started")[1]["why"][0]["values"] == {"stages": "upper"}


def test_a_new_version_or_seed_runs_again(tmp_path: Path) -> None:
    go(tmp_path)
    newer = (PIPELINE[0], replace(PIPELINE[1], version=2), PIPELINE[2])
    _, heard = go(tmp_path, newer)
    assert ran(heard) == ["upper"]
    assert "version" in heard.of("stage.started")[0]["why"][0]["text"]
    _, heard = go(tmp_path, PIPELINE, "seed=2")
    assert ran(heard) == ["make", "upper", "count"]


def test_the_plan_says_the_same_without_running(tmp_path: Path) -> None:
    def plan(*overrides: str) -> list[tuple[str, str]]:
        folder = RunFolder(tmp_path / "runs", "quickstart")
        loaded = load_recipe(None, overrides)
        lock = DecisionLock(folder.lock_path)
        planned = plan_run(PIPELINE, loaded, folder.store, lock, folder.before(), "en")
        return [(item.state, "; ".join(why.english() for why in item.why)) for item in planned]

    assert [state for state, _ in plan()] == ["will run"] * 3
    assert not (tmp_path / "runs").exists()
    go(tmp_path)
    assert [state for state, _ in plan()] == ["ready"] * 3
    states = plan("clean.minimum_characters=3")
    assert [state for state, _ in states] == ["ready", "will run", "will run"]
    assert states[1][1] == "minimum_characters changed from 20 to 3"
    assert states[2][1] == "its input is made again by upper"


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "record", "stray record"])
def test_a_damaged_artefact_is_named_set_aside_and_made_again(tmp_path: Path, damage: str) -> None:
    first, _ = go(tmp_path)
    folder = first.artefacts["upper"].folder
    target = folder / ("stage.json" if "record" in damage else "text.txt")
    content = target.read_bytes()
    if damage == "remove":
        target.unlink()
    else:
        changed = {"flip": content[:-1] + b"X", "truncate": content[:2], "record": content[:-9], "stray record": b"[]"}
        target.write_bytes(changed[damage])
    second, heard = go(tmp_path)
    assert ran(heard) == ["upper"]
    warning = heard.of("warning.damaged")[0]
    assert str(folder) == warning["path"]
    assert (folder.parent / warning["aside"]).is_dir()
    assert second.digests == first.digests


def test_an_artefact_of_a_newer_schema_is_refused_and_kept(tmp_path: Path) -> None:
    first, _ = go(tmp_path)
    record = first.artefacts["upper"].folder / "stage.json"
    content = json.loads(record.read_text(encoding="utf-8")) | {"schema": 99}
    record.write_text(json.dumps(content), encoding="utf-8")
    before = record.read_bytes()
    with pytest.raises(DataError, match="newer version"):
        go(tmp_path)
    assert record.read_bytes() == before


def test_folders_are_private_and_a_run_records_its_recipe(tmp_path: Path) -> None:
    finished, heard = go(tmp_path, PIPELINE, "seed=3")
    for folder in (finished.folder, finished.artefacts["make"].folder):
        assert os.name == "nt" or stat.S_IMODE(folder.stat().st_mode) == 0o700
    kinds = [json.loads(line)["kind"] for line in (finished.folder / "events.jsonl").read_text("utf-8").splitlines()]
    assert kinds == [event.kind for event in heard if event.kind != "progress"]
    assert "# --set seed=3" in (finished.folder / "recipe.toml").read_text(encoding="utf-8")
    assert (finished.folder / "recipe.lock.toml").exists()
    given = {"name": "given", "seed": 4, "labels": {"rows": [["bom", "sim"], ["ruim", "não"]]}}
    other = run(given, runs=tmp_path / "runs", pipeline=PIPELINE)
    assert tomllib.loads((other.folder / "recipe.toml").read_text(encoding="utf-8")) == given


def test_a_failing_stage_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    def fail(_: Work) -> dict[str, Any]:
        raise DataError("nothing left")

    go(tmp_path)
    before = {path: path.read_bytes() for path in sorted((tmp_path / "runs").rglob("*")) if path.is_file()}
    broken = (PIPELINE[0], replace(PIPELINE[1], run=fail, version=9), PIPELINE[2])
    with pytest.raises(DataError, match="nothing left"):
        go(tmp_path, broken)
    after = {path: path.read_bytes() for path in sorted((tmp_path / "runs").rglob("*")) if path.is_file()}
    assert after == before
    with pytest.raises(DataError):
        go(tmp_path / "new", (replace(PIPELINE[0], run=fail),))
    assert not (tmp_path / "new" / "runs").exists()


@pytest.mark.parametrize("key", ["finetune.base", "pretrain.base", "order.model"])
def test_a_run_that_starts_from_itself_is_refused_and_stays(tmp_path: Path, key: str) -> None:
    first, _ = go(tmp_path)
    before = (first.folder / "run.json").read_bytes()
    table, _, name = key.partition(".")
    given = {"order": {"difficulty": "loss"}} if table == "order" else {"labels": {"source": "world"}}
    given[table] = given.get(table, {}) | {name: str(first.folder)}
    with pytest.raises(UsageError, match=f"{key} is this run's own folder"):
        run(given, runs=tmp_path / "runs", pipeline=PIPELINE)
    assert (first.folder / "run.json").read_bytes() == before
    run(given, overrides=("name=other",), runs=tmp_path / "runs", pipeline=PIPELINE)


def hold(runs: str, ready: Any, done: Any) -> None:
    """Child process: sit in a run folder until told to leave."""
    with RunFolder(Path(runs), "quickstart").exclusive():
        ready.set()
        done.wait(30)


def test_two_processes_exclude_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    child = context.Process(target=hold, args=(str(tmp_path / "runs"), ready, done))
    child.start()
    try:
        assert ready.wait(30)
        with pytest.raises(MachineError, match="in use") as caught:
            go(tmp_path)
        assert caught.value.exit_code == 6
    finally:
        done.set()
        child.join(30)
    _, heard = go(tmp_path)
    assert ran(heard) == ["make", "upper", "count"]


def test_decisions_are_taken_once_and_travel_with_the_lock(tmp_path: Path) -> None:
    asked: list[int] = []

    def decide(_: Work) -> Decisions:
        asked.append(1)
        return {"count.base": (len(asked), Message("measured"), {})}

    measured = replace(PIPELINE[2], decide=decide, decides=("count.base",))
    pipeline = (*PIPELINE[:2], measured)
    first, heard = go(tmp_path, pipeline)
    assert heard.of("decision")[0]["value"] == 1
    go(tmp_path, pipeline)
    assert asked == [1]
    other, heard = go(tmp_path / "elsewhere", pipeline, lock=first.folder / "recipe.lock.toml")
    assert asked == [1]
    assert other.digests == first.digests
    for _ in range(2):
        anew, _ = go(tmp_path / "anew", pipeline, "seed=5", lock=first.folder / "recipe.lock.toml")
        assert asked == [1, 1], "other settings behind a decision: it is taken anew, once"
    assert (anew.folder / "recipe.lock.toml").read_text("utf-8").count("value = 2") == 1


def test_runs_are_found_by_name_by_path_and_as_the_latest(tmp_path: Path) -> None:
    first, _ = go(tmp_path)
    second, _ = go(tmp_path, PIPELINE, 'name="outro nome"')
    assert find_run(tmp_path / "runs", "quickstart").folder == first.folder
    assert find_run(tmp_path, second.folder).name == "outro nome"
    os.utime(first.folder / "run.json", (1, 1))
    assert find_run(tmp_path / "runs").name == "outro nome"
    with pytest.raises(DataError, match="outro nome, quickstart"):
        find_run(tmp_path / "runs", "nenhum")
    with pytest.raises(DataError, match="treino run"):
        find_run(tmp_path / "nothing")


def test_the_latest_run_is_one_that_has_finished(tmp_path: Path) -> None:
    def stop(event: events.Event) -> None:
        if event.kind == "stage.started" and event.values["stage"] == "count":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(None, runs=tmp_path / "runs", pipeline=PIPELINE, overrides=("name=new", "seed=2"), listener=stop)
    assert find_run(tmp_path / "runs").name == "new", "none has finished"
    first, _ = go(tmp_path)
    os.utime(first.folder / "run.json", (1, 1))
    assert find_run(tmp_path / "runs").name == "quickstart"


def test_what_a_damaged_run_uses_is_not_known_and_not_removed(tmp_path: Path) -> None:
    first, _ = go(tmp_path)
    for content in ("", "{}"):
        (first.folder / "run.json").write_text(content, encoding="utf-8")
        for look in (lambda: prune(tmp_path / "runs"), lambda: show_run("quickstart", tmp_path / "runs")):
            with pytest.raises(DataError, match=r"run\.json.*run the recipe again"):
                look()
    again, heard = go(tmp_path)
    assert ran(heard) == []
    assert again.digests == first.digests
    assert prune(tmp_path / "runs") == []


def test_what_a_run_is_making_is_not_pruned(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folders = [store.partial(name, "k" * 64) for name in ("now", "interrupted")]
    for folder in folders:
        files.make_private(folder / "checkpoints")
    with FileLock(store.lock_file("now", "k" * 64)):
        assert {row["folder"]: row["running"] for row in sizes(tmp_path)} == {
            folder.name: folder is folders[0] for folder in folders
        }
        assert prune(tmp_path) == [folders[1].name]
    assert folders[0].is_dir()
    assert prune(tmp_path) == [folders[0].name]
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize("examples", [True, False])
def test_texts_that_stand_in_a_recipe_are_reported_where_examples_may_be_shown(examples: bool) -> None:
    loaded = load_recipe(
        {
            "corpus": {"sources": [{"lines": ["um segredo antigo"]}]},
            "labels": {"rows": [["segredo bom", "sim"], ["segredo ruim", "não"]]},
            "report": {"examples": examples},
        }
    )
    told = str(settings_of(SimpleNamespace(loaded=loaded, records=[])))  # type: ignore[arg-type]
    assert ("segredo" in told) == examples
    assert ("… × 2" in told) != examples

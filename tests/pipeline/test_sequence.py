"""A sequence of tasks as a recipe: its stages, its matrix, and what is made again when the recipe goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import treino
from treino import events
from treino.errors import DoesNotFit, UsageError
from treino.evaluation.transfer import average_accuracy
from treino.files import read_json
from treino.pipeline.sequence import PAGE, RESULT
from treino.recipe.load import load_recipe

THINGS = ("filme", "jogo", "livro", "almoço", "passeio", "dia", "show", "curso")
STARTS = ("acho que", "dizem que", "hoje", "sei que", "ontem")


def table(path: Path, words: dict[str, str]) -> str:
    rows = [
        f"{start} o {thing} foi {word},{label}" for start in STARTS for thing in THINGS for word, label in words.items()
    ]
    path.write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return str(path)


def recipe(folder: Path, **finetune: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "corpus": {
            "sources": [{"lines": [f"o {t} foi {w}" for t in THINGS for w in ("bom", "ruim", "longo", "curto")]}]
        },
        "clean": {"minimum_characters": 1},
        "tokens": {"kind": "words", "validation": 0.3},
        "model": {"architecture": "lstm", "width": 16, "embedding": 16, "context": 8},
        "pretrain": {"budget": "20 steps", "batch": 4, "precision": "float32"},
        "evaluate": {"ngrams": False, "compressor": False, "bootstrap": 100},
        "finetune": {"epochs": 8, "batch": 8, "learning_rate": 2e-2, "ewc_rows": 4} | finetune,
        "sequence": {
            "equal": False,
            "tasks": [
                {"name": "mood", "source": table(folder / "mood.csv", {"bom": "bom", "ruim": "mau"})},
                {"name": "length", "source": table(folder / "length.csv", {"longo": "longo", "curto": "curto"})},
            ],
        },
    }


def test_each_phase_is_an_artefact_and_a_longer_sequence_goes_on(tmp_path: Path) -> None:
    runs, states = tmp_path / "runs", list[tuple[str, str]]()
    given = recipe(tmp_path, rehearsal=0.2, ewc=1.0, distillation=0.1)
    done = treino.run(given, runs=runs, language="en")
    found = done.facts["sequence"]
    assert found["learnt"] == ["mood", "length"]
    assert found["accuracies"][0][0] > 0.8
    assert found["accuracies"][0][1] is None
    assert found["accuracies"][1][1] > 0.8
    ends = found["accuracies"][1]
    assert found["average_accuracy"] == pytest.approx(sum(ends) / 2) == average_accuracy([[0, 0], ends], [0, 1])  # type: ignore[arg-type]
    assert found["backward_transfer"] == pytest.approx(ends[0] - found["accuracies"][0][0])
    assert found["forward_transfer"] == pytest.approx(found["offered"][0][1] - found["before"][1])
    assert len(found["language_losses"]) == 3
    folder = done.artefacts["sequence"].folder
    assert read_json(folder / RESULT) == found
    assert "mood" in (folder / PAGE).read_text(encoding="utf-8")

    def listen(event: events.Event) -> None:
        if event.kind in ("stage.finished", "stage.cached"):
            states.append((event.kind, event.values["stage"]))

    longer = given | {"sequence": given["sequence"] | {"order": ["mood", "length", "mood"]}}
    again = treino.run(longer, runs=runs, language="en", listener=listen)
    made = [name for kind, name in states if kind == "stage.finished"]
    assert made == ["learn-3", "sequence", "report"]
    assert again.digests["learn-2"] == done.digests["learn-2"]
    assert again.facts["sequence"]["accuracies"][:2] == found["accuracies"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": {"source": "world"}}, "sequence.tasks"),
        ({"finetune": {"method": "scratch"}}, "throw it away"),
        ({"sequence": {"order": ["other"], "tasks": []}}, "order"),
    ],
)
def test_what_does_not_go_with_a_sequence_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    given = recipe(tmp_path) | {"model": {}} | change
    with pytest.raises(UsageError, match=said):
        load_recipe(given)


SHAPE = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 32, "context": 32}


def small(folder: Path, **finetune: Any) -> dict[str, Any]:
    """The same with a Transformer."""
    given = recipe(folder, epochs=2, lora_rank=2, checkpoint_seconds=0.0, **finetune)
    return given | {"tokens": {"vocabulary": 300, "validation": 0.3}, "model": SHAPE}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all sequences start from one pretraining."""
    return tmp_path_factory.mktemp("sequences")


@pytest.mark.parametrize("method", ["frozen", "lora", "streamed"])
def test_a_sequence_by_a_body_that_stays_is_foreseen(shared: Path, method: str) -> None:
    chosen = {"method": "qlora", "stream": True} if method == "streamed" else {"method": method}
    done = treino.run(small(shared, **chosen) | {"name": method}, runs=shared / "runs", language="en")
    found = done.facts["sequence"]
    losses = found["language_losses"]
    assert (losses[2] == pytest.approx(losses[0], abs=1e-6)) == (method == "frozen")
    if method == "frozen":
        assert found["accuracies"][1][0] == found["accuracies"][0][0] and found["forgetting"] == 0
    forecast = read_json(done.artefacts["learn-2"].folder / "records" / "forecast.json")
    assert forecast["memory"]["total"] > 0 and forecast["seconds"] > 0
    assert done.artefacts["learn-2"].record["beside"]["peak_memory"]["ratio"] > 0
    assert (done.artefacts["learn-2"].folder / "adapter").is_dir() == (method != "frozen")


@pytest.mark.parametrize("where", ["learning", "judging"])
def test_a_sequence_goes_on_in_the_middle_of_a_phase_as_if_nothing_had_been(
    shared: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = small(shared, method="qlora")
    done = treino.run(given, runs=shared / "runs", language="en")
    runs = tmp_path / "runs"
    shutil.copytree(shared / "runs", runs)
    for stage in ("learn-2", "sequence"):
        for folder in (runs / "store").glob(f"{stage}-*"):
            shutil.rmtree(folder)
    resumed: list[int] = []

    class Stop(BaseException):
        pass

    def stop(event: events.Event) -> None:
        if where == "learning" and event.kind == "train.checkpoint" and event.values["step"] == 3:
            raise Stop

    def cut(*about: Any) -> Any:
        raise Stop

    def listen(event: events.Event) -> None:
        if event.kind == "train.resumed":
            resumed.append(event.values["step"])

    with pytest.raises(Stop), monkeypatch.context() as patched:
        if where == "judging":
            patched.setattr("treino.evaluation.sequence.row_of", cut)
        treino.run(given, runs=runs, language="en", listener=stop)
    again = treino.run(given, runs=runs, language="en", listener=listen)
    assert resumed == [3 if where == "learning" else done.artefacts["learn-2"].record["facts"]["steps"]]
    assert again.digests["learn-2"] == done.digests["learn-2"]
    assert not (again.artefacts["learn-2"].folder / "checkpoints").exists()


def test_a_sequence_that_does_not_fit_is_refused_with_what_would(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("treino.training.fit.available_memory", lambda: 1 << 20)
    given = small(shared, method="full") | {"name": "large"}
    with pytest.raises(DoesNotFit, match="are free") as refused:
        treino.run(given, runs=shared / "runs", language="en")
    assert refused.value.exit_code == 4

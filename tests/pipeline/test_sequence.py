"""A sequence of tasks as a recipe: its stages, its matrix, and what is made again when the recipe goes on."""

from __future__ import annotations

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


SHAPE = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 32, "context": 16}


def small(folder: Path, **finetune: Any) -> dict[str, Any]:
    """The same with a Transformer."""
    given = recipe(folder, epochs=2, lora_rank=2, checkpoint_seconds=0.0, **finetune)
    return given | {"tokens": {"vocabulary": 300, "validation": 0.3}, "model": SHAPE}


@pytest.mark.parametrize("method", ["frozen", "lora", "qlora", "streamed"])
def test_a_sequence_by_each_method_is_foreseen_and_goes_on_after_an_interruption(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"method": "qlora", "stream": True} if method == "streamed" else {"method": method}
    given = small(tmp_path, **chosen)
    done = treino.run(given, runs=tmp_path / "runs", language="en")
    found = done.facts["sequence"]
    losses = found["language_losses"]
    assert (losses[2] == pytest.approx(losses[0], abs=1e-6)) == (method == "frozen")
    if method == "frozen":
        assert found["accuracies"][1][0] == found["accuracies"][0][0] and found["forgetting"] == 0
    forecast = read_json(done.artefacts["learn-2"].folder / "records" / "forecast.json")
    assert forecast["memory"]["total"] > 0 and forecast["seconds"] > 0
    assert done.artefacts["learn-2"].record["beside"]["peak_memory"]["ratio"] > 0

    class Stop(BaseException):
        pass

    def listen(event: events.Event) -> None:
        if event.kind == "train.checkpoint" and any(
            seen.startswith("learn-2") for seen in started[-1:]
        ) and event.values["step"] == 3:
            raise Stop
        if event.kind == "stage.started":
            started.append(event.values["stage"])

    started: list[str] = []
    lock = done.folder / "recipe.lock.toml"
    with pytest.raises(Stop):
        treino.run(given, runs=tmp_path / "other", language="en", listener=listen, lock=lock)
    resumed: list[str] = []
    again = treino.run(
        given,
        runs=tmp_path / "other",
        language="en",
        listener=lambda event: resumed.append(event.kind) if event.kind == "train.resumed" else None,
    )
    assert resumed == ["train.resumed"]
    assert again.digests["learn-2"] == done.digests["learn-2"]


def test_a_sequence_that_does_not_fit_is_refused_with_what_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from treino.training import fit

    real = fit.available_memory
    room = {"learn": False}

    def little() -> int | None:
        return 1 << 20 if room["learn"] else real()

    def listen(event: events.Event) -> None:
        room["learn"] = room["learn"] or (event.kind == "stage.finished" and event.values["stage"] == "tasks")

    monkeypatch.setattr(fit, "available_memory", little)
    with pytest.raises(DoesNotFit, match="are free") as refused:
        treino.run(small(tmp_path, method="full"), runs=tmp_path / "runs", language="en", listener=listen)
    assert refused.value.exit_code == 4

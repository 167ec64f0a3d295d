"""The labs: what is counted, what is measured on a small model, and the pictures and pages made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from treino import events
from treino.cli.main import run_command
from treino.corpus.world.facts import World
from treino.corpus.world.moods import outing_examples
from treino.course import forgetting, ranks, seeds
from treino.course.ranks import counted
from treino.course.tables import dealt
from treino.errors import UsageError
from treino.models.build import build_model
from treino.models.folder import save_model
from treino.recipe import ModelSettings, TokenSettings, WorldSettings
from treino.tokens.tokenizer import train_tokenizer
from treino.training.sequence import Learnt, TaskSequence


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model folder with random weights, and the words of the tables."""
    words = "o casa rua sol pão gato bom ruim longo curto hoje ontem"
    tokenizer = train_tokenizer(iter([words]), TokenSettings(kind="words", vocabulary=64))
    shape = {"width": 24, "layers": 1, "context": 16, "embedding": 24, "heads": 2, "kv_heads": 2, "feed_forward": 32}
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("base")
    save_model(build_model(ModelSettings(**shape), tokenizer.size), tokenizer, folder)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    draw, folder, paths = np.random.default_rng(0), tmp_path_factory.mktemp("tables"), []
    for name, words in (("a", ("bom", "ruim")), ("b", ("longo", "curto")), ("c", ("hoje", "ontem"))):
        rows = [
            f"o {' '.join(draw.choice(['casa', 'rua', 'sol', 'pão', 'gato'], 4))} {words[number % 2]},{words[number % 2]}"
            for number in range(60)
        ]
        paths.append(folder / f"{name}.csv")
        paths[-1].write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    return paths


def test_the_figures_of_the_course_are_those_of_real_layers() -> None:
    wide, small = counted(4096, 4096, False, 16), counted(512, 256, True, 16)
    assert (wide["trainable"], wide["parameters"]) == (131_072, 4096 * 4096)
    assert round(100 * wide["reduction"], 2) == 99.22
    assert wide["bytes"] == 0.25 * 2**20
    assert (small["trainable"], small["parameters"]) == (12_288, 131_328)
    assert round(100 * small["reduction"], 1) == 90.6


def test_the_town_answers_three_questions_about_the_same_texts() -> None:
    rows = outing_examples(World.build(WorldSettings(), 1), 60, 5)
    assert [text for text, _ in rows["mood"]] == [text for text, _ in rows["what"]] == [text for text, _ in rows["day"]]
    assert all(text.startswith(day) for text, day in rows["day"])
    assert all(what in text for text, what in rows["what"])
    assert len({what for _, what in rows["what"]}) > 8


def test_the_lab_of_forgetting_on_tables_of_ones_own(
    base: Path, tables: list[Path], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = TaskSequence.learn, []

    def learn(self: TaskSequence, before: Learnt, number: int, output: Path, phase: int = 0) -> Any:
        left.append((output / "checkpoints").exists())
        return real(self, before, number, output, phase)

    monkeypatch.setattr(TaskSequence, "learn", learn)
    arguments = ["lab", "forgetting", *map(str, tables), "--base", str(base), "--seeds", "1", "--quick", "--json"]
    assert run_command([*arguments, "--output", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(left) > 3 and not any(left), "no training goes on from another's checkpoints"
    assert found["tasks"] == ["a", "b", "c"]
    assert [row["cure"] for row in found["rows"]] == ["plain", *forgetting.STRENGTHS]
    by_cure = {row["cure"]: row for row in found["rows"]}
    assert len({row["shown"][0][0] for row in found["rows"]}) == 1, "all set out from the same A"
    for row in found["rows"]:
        shown = row["shown"][0]
        assert row["lost"][0] == pytest.approx(shown[0] - shown[4])
        assert row["gained"][0] == pytest.approx((shown[1] + shown[3]) / 2)
        assert row["flops"][0] <= 1.2 * by_cure["plain"]["flops"][0]
    assert found["bars"]["plain"][0] == {"mean": by_cure["plain"]["shown"][0][0], "low": None, "high": None}
    assert {Path(name).name for name in found["files"]} == {
        "forgetting.png", "forgetting.svg", "tradeoff.png", "tradeoff.svg", "forgetting.html",
    }  # fmt: skip
    page = (tmp_path / "forgetting.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "<metadata" not in page


def test_the_lab_of_ranks_on_a_table_of_ones_own(base: Path, tables: list[Path], tmp_path: Path) -> None:
    found = ranks.ranks_lab(tables[0], base=base, seeds=1, ranks=(2, 1), quick=False)
    assert [(row["method"], row["rank"]) for row in found["measured"]] == [
        ("frozen", None), ("lora", 1), ("lora", 2), ("full", None),
    ]  # fmt: skip
    head, one, two, _ = (row["trainable"] for row in found["measured"])
    assert two - head == 2 * (one - head) > 0
    assert found["layers"][0][4] == counted(4096, 4096, False, 16)
    from treino.language import Translator
    from treino.report.labs import ranks_figure, ranks_lines, ranks_page

    lines = "\n".join(ranks_lines(found, Translator("pt_BR")))
    assert "131.072" in lines
    ranks_figure(found, tmp_path, Translator("pt_BR"))
    page = ranks_page(found, tmp_path, "pt_BR").read_text(encoding="utf-8")
    assert "99,22" in page
    assert "0,25 MiB" in page


def test_a_lab_refuses_two_tables(tables: list[Path]) -> None:
    with pytest.raises(UsageError, match="three tables"):
        forgetting.forgetting_lab(tables[:2])


def test_a_table_s_texts_stand_in_one_part_each_and_what_is_broken_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"Frase número {number % 20}.,{'bom' if number % 2 else 'mau'}" for number in range(120)]
    path.write_text("\n".join(["text,label", *rows, "sem classe"]) + "\n", encoding="utf-8")
    told: list[events.Event] = []
    with events.listening(told.append):
        parts = dealt(path, {"training": 10, "validation": 5, "test": 5}, 1)
    texts = [text for rows in parts.values() for text, _ in rows]
    assert len(texts) == len(set(texts)) == 20
    (warning,) = (event for event in told if event.kind == "warning.set_aside")
    assert warning.values["count"] == 101  # the copies, and the row without a class


def test_tables_of_one_name_stay_apart() -> None:
    assert list(forgetting._named(["1/m.csv", "2/m.csv", "c.csv", "3/m.csv"])) == ["m", "m 2", "c", "m 3"]


def test_a_lab_in_this_process_works_on_one_thread_and_gives_the_others_back() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert seeds.repeat(lambda _: torch.get_num_threads(), [0], 1.0) == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)

"""Collecting: ids that do not depend on the machine, what is held out, and accounts that chain from stage to stage."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from treino import events, files
from treino.corpus import collect as collecting
from treino.corpus import shards
from treino.corpus.clean import clean
from treino.corpus.collect import collect
from treino.corpus.deduplicate.deduplicate import deduplicate
from treino.corpus.documents import read_rows
from treino.corpus.gathering import Gathering
from treino.corpus.held_out import tail_cut
from treino.errors import DataError, UsageError
from treino.recipe import CleanSettings, CorpusSettings, DeduplicateSettings, SourceSettings, WorldSettings

SMALL = WorldSettings(documents=200, people=10)


def corpus(*paths: str, held_out: Any = 0.0) -> CorpusSettings:
    return CorpusSettings(sources=tuple(SourceSettings(path=path) for path in paths), held_out=held_out)


def folder_of_texts(folder: Path, count: int = 5) -> Path:
    (folder / "textos" / "sub").mkdir(parents=True)
    for number in range(count):
        place = folder / "textos" / ("sub" if number % 2 else "") / f"obra {number}.txt"
        place.write_text(f"Era uma vez a obra {number}.\nE outra linha, sem fim, da obra.", encoding="utf-8")
    (folder / "textos" / "t.jsonl").write_text('{"text": "linha um"}\n{"text": "linha dois"}\n', encoding="utf-8")
    return folder


def rows(folder: Path, part: str = "training") -> list[dict[str, Any]]:
    return list(read_rows(folder, part))


def test_ids_do_not_depend_on_where_the_folder_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = folder_of_texts(tmp_path / "aqui")
    collect(corpus("textos"), SMALL, tmp_path / "one", 1, here)
    shutil.copytree(here, tmp_path / "outro lugar é")
    really = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: reversed(list(really(self, pattern))))
    collect(corpus("textos"), SMALL, tmp_path / "two", 1, tmp_path / "outro lugar é")
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    ids = [row["id"] for row in rows(tmp_path / "one")]
    assert len(set(ids)) == len(ids) == 7


def test_a_new_file_changes_no_other_id(tmp_path: Path) -> None:
    here = folder_of_texts(tmp_path / "a")
    collect(corpus("textos"), SMALL, tmp_path / "one", 1, here)
    (here / "textos" / "000 antes.txt").write_text("Um texto novo.", encoding="utf-8")
    collect(corpus("textos"), SMALL, tmp_path / "two", 1, here)
    before, after = ({row["source"]: row["id"] for row in rows(tmp_path / name)} for name in ("one", "two"))
    assert before.items() < after.items()


def test_two_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folder_of_texts(tmp_path / "a")
    folder_of_texts(tmp_path / "b")
    collect(corpus("a/textos", "b/textos"), SMALL, tmp_path / "out", 1, tmp_path)
    ids = [row["id"] for row in rows(tmp_path / "out")]
    assert len(set(ids)) == len(ids) == 14


def test_named_works_are_held_out_and_never_trained_on(tmp_path: Path) -> None:
    here = folder_of_texts(tmp_path / "a")
    facts = collect(corpus("textos", held_out=("sub/obra 1.txt", "obra 2.txt")), SMALL, tmp_path / "out", 1, here)
    assert {row["source"] for row in rows(tmp_path / "out", "held_out")} == {"sub/obra 1.txt", "obra 2.txt"}
    assert len(rows(tmp_path / "out")) == 5
    assert (facts["documents_out"], facts["held_out_documents"]) == (7, 2)


def test_a_held_out_name_that_is_nowhere_gets_a_guess(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="obra 3"):
        collect(
            corpus("textos", held_out=("sub/obra3.txt",)), SMALL, tmp_path / "o", 1, folder_of_texts(tmp_path / "a")
        )


def test_a_share_of_many_documents_is_held_out_whole(tmp_path: Path) -> None:
    facts = collect(
        corpus("world", held_out=0.2), WorldSettings(documents=1000, people=10), tmp_path / "o", 1, tmp_path
    )
    kept, held = rows(tmp_path / "o"), rows(tmp_path / "o", "held_out")
    assert facts["documents_out"] == len(kept) + len(held) == 1000
    assert len(held) == pytest.approx(200, abs=50)
    assert {json.loads(row["meta"])["planted"] for row in held} == {"none"}
    assert not {row["id"] for row in kept} & {row["id"] for row in held}


def test_a_small_share_of_some_documents_holds_out_one_at_least(tmp_path: Path) -> None:
    """By chance no hash may fall into the share; an evaluation without text would be no evaluation."""
    few = WorldSettings(documents=30, people=8, duplicates=0, near_duplicates=0, noise=0)
    facts = collect(corpus("world", held_out=0.001), few, tmp_path / "o", 1, tmp_path)
    (held,) = rows(tmp_path / "o", "held_out")
    assert (facts["held_out_documents"], facts["documents_out"]) == (1, 30)
    assert held["content_hash"] < min(row["content_hash"] for row in rows(tmp_path / "o"))


def test_no_planted_document_is_the_one_held_out(tmp_path: Path) -> None:
    few = WorldSettings(documents=30, people=8, duplicates=0.3, near_duplicates=0.3, noise=0.3)
    collect(corpus("world", held_out=0.001), few, tmp_path / "o", 1, tmp_path)
    assert [json.loads(row["meta"])["planted"] for row in rows(tmp_path / "o", "held_out")] == ["none"]


def test_accented_names_are_held_out_however_the_machine_spells_them(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for name in ("trac\u0327\u0303o.txt", "outro.txt"):
        (tmp_path / "t" / name).write_text("Um texto que basta.", encoding="utf-8")
    name = unicodedata.normalize("NFC", "trac\u0327\u0303o.txt")
    facts = collect(corpus("t", held_out=(name,)), SMALL, tmp_path / "o", 1, tmp_path)
    assert facts["held_out_documents"] == 1


def test_of_few_documents_the_tails_are_held_out(tmp_path: Path) -> None:
    (tmp_path / "textos").mkdir()
    text = "\n\n".join(f"Parágrafo {number}, com o seu tanto de palavras e um fim." for number in range(100))
    (tmp_path / "textos" / "livro.txt").write_text(text, encoding="utf-8")
    facts = collect(corpus("textos", held_out=0.1), SMALL, tmp_path / "o", 1, tmp_path)
    (head,), (tail,) = rows(tmp_path / "o"), rows(tmp_path / "o", "held_out")
    assert head["text"] + tail["text"] == text
    assert tail["text"].startswith("Parágrafo")
    assert len(tail["text"]) / len(text) == pytest.approx(0.1, abs=0.05)
    assert facts["held_out_method"] == "tails"
    assert tail_cut("curto demais", 0.5) is None


def test_the_probability_of_a_whole_document_is_not_told_of_its_part(tmp_path: Path) -> None:
    few = WorldSettings(documents=15, people=8, duplicates=0, near_duplicates=0, noise=0)
    collect(corpus("world", held_out=0.45), few, tmp_path / "o", 1, tmp_path)
    parts = [row for part in ("training", "held_out") for row in rows(tmp_path / "o", part)]
    tails = {row["id"].removesuffix("-tail") for row in parts if row["id"].endswith("-tail")}
    assert tails
    assert all(("log_probability" in json.loads(row["meta"])) == (row["id"][:24] not in tails) for row in parts)


def test_what_was_set_aside_is_told_once_with_the_first_place(tmp_path: Path) -> None:
    here = folder_of_texts(tmp_path / "a")
    (here / "textos" / "quebrado.jsonl").write_text('{"text": "bom"}\n{\n{\n', encoding="utf-8")
    heard: list[events.Event] = []
    with events.listening(heard.append):
        facts = collect(corpus("textos"), SMALL, tmp_path / "o", 1, here)
    warnings = [event.values for event in heard if event.kind == "warning.set_aside"]
    assert [(row["count"], row["first"]) for row in warnings] == [(2, "quebrado.jsonl:2")]
    assert facts["removed_by_rule"] == {"broken_json": 2}
    assert len(list(read_rows(tmp_path / "o", "removed"))) == 2


def test_a_source_that_gives_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "vazio.jsonl").write_text('{"x": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"vazio\.jsonl:1"):
        collect(corpus("vazio.jsonl"), SMALL, tmp_path / "o", 1, tmp_path)


def test_the_stages_count_alike(tmp_path: Path) -> None:
    world = WorldSettings(documents=400, people=10, noise=0.1)
    first = collect(corpus("world", held_out=0.1), world, tmp_path / "a", 1, tmp_path)
    second = clean(CleanSettings(), tmp_path / "a", tmp_path / "b")
    third = deduplicate(DeduplicateSettings(), tmp_path / "b", tmp_path / "c")
    assert first["documents_out"] == second["documents_in"] == 400
    assert first["bytes_out"] == second["bytes_in"]
    assert second["documents_out"] == third["documents_in"]
    assert third["documents_out"] == third["documents_in"] - sum(third["removed_by_rule"].values())
    assert third["held_out_documents"] == len(rows(tmp_path / "c", "held_out"))


def folder_of_many(folder: Path) -> Path:
    """Forty files, one broken line among them, of which a bundle takes a few."""
    (folder / "muitos").mkdir(parents=True)
    for number in range(40):
        lines = [f'{{"text": "{number}.{line} Uma linha como as outras, mas não igual."}}' for line in range(20)]
        lines += ["{"] if number == 30 else []
        (folder / "muitos" / f"{number:02d}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def sorted_rows(folder: Path) -> list[dict[str, Any]]:
    return sorted((row for part in ("training", "held_out", "removed") for row in rows(folder, part)), key=str)


@pytest.mark.parametrize("processes", [1, 2])
def test_bundles_give_the_rows_of_one_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    here = folder_of_texts(folder_of_many(tmp_path / "a"))
    asked = corpus("muitos", "textos", "world", held_out=0.1)
    whole = collect(asked, SMALL, tmp_path / "whole", 1, here)
    assert len(list((tmp_path / "whole" / "training").iterdir())) == 1
    monkeypatch.setattr(collecting, "BUNDLE_BYTES", 10_000)
    monkeypatch.setattr(shards, "WORTH_PROCESSES", 0)
    monkeypatch.setattr("treino.environment.processors", lambda: processes)
    assert collect(asked, SMALL, tmp_path / "bundles", 1, here) == whole
    assert len(list((tmp_path / "bundles" / "training").iterdir())) > 5
    assert sorted_rows(tmp_path / "bundles") == sorted_rows(tmp_path / "whole")


def test_an_interrupted_reading_goes_on_at_the_next_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, asked = folder_of_many(tmp_path / "a"), corpus("muitos", held_out=0.1)
    monkeypatch.setattr(collecting, "BUNDLE_BYTES", 10_000)
    whole = collect(asked, SMALL, tmp_path / "whole", 1, here)
    read: list[int] = []
    really = Gathering.work

    def work(self: Gathering, item: int) -> Iterator[int | str]:
        read.append(item)
        for number, answer in enumerate(really(self, item)):
            if read == [0, 1, 2, 3] and number == 0:
                raise KeyboardInterrupt
            yield answer

    monkeypatch.setattr(Gathering, "work", work)
    with pytest.raises(KeyboardInterrupt):
        collect(asked, SMALL, tmp_path / "o", 1, here)
    read.clear()
    assert collect(asked, SMALL, tmp_path / "o", 1, here) == whole
    assert read[0] == 3
    assert contents(tmp_path / "o") == contents(tmp_path / "whole")


def contents(folder: Path) -> dict[str, str]:
    """Digests of the files with documents."""
    return {path.relative_to(folder).as_posix(): files.sha256_file(path) for path in folder.glob("*/*.parquet")}


@pytest.mark.parametrize("share", [0.1, 0.0001])
def test_what_is_held_out_of_few_documents_does_not_depend_on_bundles_nor_on_interruptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Tails of nine documents, or of 800 the one whose hash comes nearest; an interruption between is not seen."""
    here = folder_of_many(tmp_path / "a") if share < 0.1 else tmp_path / "a"
    if share == 0.1:
        (here / "muitos").mkdir(parents=True)
        for number in range(9):
            (here / "muitos" / f"{number}.txt").write_text(f"O texto {number} não acaba. " * 200, encoding="utf-8")
    asked = corpus("muitos", held_out=share)
    whole = collect(asked, SMALL, tmp_path / "whole", 1, here)
    assert whole["held_out_documents"] == (9 if share == 0.1 else 1)
    monkeypatch.setattr(collecting, "BUNDLE_BYTES", 10_000)
    with monkeypatch.context() as broken:
        broken.setattr("treino.corpus.held_out.measured", lambda folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            collect(asked, SMALL, tmp_path / "o", 1, here)
    assert collect(asked, SMALL, tmp_path / "o", 1, here) == whole
    assert sorted_rows(tmp_path / "o") == sorted_rows(tmp_path / "whole")

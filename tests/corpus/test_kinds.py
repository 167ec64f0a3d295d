"""Every kind of source file, in every compression and encoding, also under a wrong name and within archives."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import kinds
from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import read_source
from treino.recipe import SourceSettings, WorldSettings

TEXTS = [
    "O gato subiu no telhado da casa amarela e ficou lá em cima a tarde inteira, olhando a rua vazia e o céu sem nuvens.",
    "A menina não viu, “que pena!”, disse a avó, e as duas voltaram para a cozinha, onde o café já esfriava sobre a mesa.",
    "No dia seguinte o padeiro contou a todos que o gato tinha descido sozinho, sem ajuda de ninguém, quando teve fome.",
]
ONE = {".txt", ".html", ".epub", ".pdf"}
"""Kinds that are one document each."""


def read(path: Path, **settings: Any) -> tuple[list[RawDocument], dict[str, int]]:
    problems = Problems()
    source = SourceSettings(path=path.name, **settings)
    return list(read_source(source, WorldSettings(), path.parent, 1, problems)), problems.counts


def plain(documents: list[RawDocument]) -> list[str]:
    """Texts with their white space evened, as cleaning does."""
    return [" ".join(document.text.split()) for document in documents]


@pytest.mark.parametrize("ending", kinds.PACKERS)
@pytest.mark.parametrize("kind", kinds.MAKERS)
def test_every_kind_gives_its_texts_in_every_compression(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"arquivo é{kind}{ending}"
    path.write_bytes(kinds.PACKERS[ending](kinds.MAKERS[kind](TEXTS)))
    documents, problems = read(path)
    found = plain(documents)
    assert problems == {}
    if kind in ONE:
        (only,) = found
        places = [only.find(text) for text in TEXTS]
        assert places == sorted(places) and places[0] >= 0
        assert "Sobre nós" not in only and "Sumário" not in only
    else:
        assert [text.removeprefix("Um título ") for text in found] == TEXTS


@pytest.mark.parametrize("wrong", [".txt", ".jsonl", ".pdf", ".zip"])
@pytest.mark.parametrize("kind", [".parquet", ".pdf", ".epub", ".warc", ".zip", ".xml", ".txt"])
def test_a_wrong_ending_is_seen_through(tmp_path: Path, kind: str, wrong: str) -> None:
    if (kind, wrong) == (".txt", ".jsonl"):
        pytest.skip("text in a file of JSON lines is lines that are not JSON")
    path = tmp_path / f"a{wrong}"
    path.write_bytes(kinds.MAKERS[kind](TEXTS))
    documents, problems = read(path)
    assert problems == {}
    assert all(text in " ".join(plain(documents)) for text in TEXTS)


def test_archives_within_archives_up_to_a_depth(tmp_path: Path) -> None:
    content = kinds.archive({"c.txt": b"no fundo", "livro.epub": kinds.epub(["o livro"])})
    for level in range(6):
        (tmp_path / f"{level}.zip").write_bytes(content)
        documents, problems = read(tmp_path / f"{level}.zip")
        if level < 4:
            assert plain(documents) == ["no fundo", "o livro"]
            assert problems == {}
        else:
            assert (documents, problems) == ([], {"nested_too_deep": 1})
        content = kinds.archive({"b.zip": content})
    assert documents == []


def test_names_in_archives_are_ids(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(kinds.archive({"x/é.jsonl": kinds.json_lines(TEXTS), ".oculto.txt": b"n"}))
    documents, _ = read(tmp_path / "a.zip")
    assert [(document.name, document.row) for document in documents] == [("a.zip/x/é.jsonl", row) for row in (1, 2, 3)]


def test_a_damaged_member_leaves_the_others(tmp_path: Path) -> None:
    whole = bytearray(kinds.archive({f"{name}.txt": f"texto {name} {name * 40}".encode() for name in "abc"}))
    place = whole.find(b"b.txt") + len("b.txt") + 4
    whole[place] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(whole)
    documents, problems = read(tmp_path / "a.zip")
    assert [document.name for document in documents if "b" not in document.name[6:]] == ["a.zip/a.txt", "a.zip/c.txt"]
    assert problems.get("damaged") == 1


def test_an_archive_that_breaks_off_gives_what_stands_before(tmp_path: Path) -> None:
    texts = [f"texto número {number} " * 30 for number in range(50)]
    whole = kinds.zipped(texts)
    (tmp_path / "a.zip").write_bytes(whole[: len(whole) // 2])
    documents, problems = read(tmp_path / "a.zip")
    assert [document.text for document in documents] == texts[: len(documents)]
    assert len(documents) > 10
    assert problems == {"truncated": 1}


def test_a_bomb_in_an_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from treino.corpus.sources import archives

    monkeypatch.setattr(archives, "FREE_BYTES", 100_000)
    bomb = kinds.archive({"a.txt": b"bom", "b.txt": b" " * 30_000_000, "c.txt": b"depois"})
    (tmp_path / "a.zip").write_bytes(bomb)
    documents, problems = read(tmp_path / "a.zip")
    assert plain(documents) == ["bom"]
    assert problems == {"expands_without_bound": 1}


def test_a_damaged_group_of_rows_leaves_the_others(tmp_path: Path) -> None:
    texts = [f"linha {number**7 % 999_983} {number}" for number in range(1000)]
    data = bytearray(kinds.parquet(texts))
    place = data.find(b"linha", len(data) // 2)
    data[place - 60 : place] = bytes(60)
    (tmp_path / "a.parquet").write_bytes(data)
    documents, problems = read(tmp_path / "a.parquet")
    assert problems == {"damaged": 1}
    assert len(documents) >= 800
    assert {document.text for document in documents} <= set(texts)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize("kind", [".txt", ".csv", ".jsonl", ".html"])
def test_encodings_without_a_mark(tmp_path: Path, kind: str, encoding: str) -> None:
    texts = [text.replace("“", '"').replace("”", '"') for text in TEXTS]
    content = kinds.MAKERS[kind](texts).decode()
    (tmp_path / f"a{kind}").write_bytes(content.encode(encoding))
    documents, problems = read(tmp_path / f"a{kind}")
    assert all(text in " ".join(plain(documents)) for text in texts)
    assert problems == {}


def test_a_few_zeros_do_not_make_a_text_binary(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(kinds.json_lines(TEXTS).replace(b"gato", b"ga\0to"))
    documents, problems = read(tmp_path / "a.jsonl")
    assert (plain(documents), problems) == (TEXTS, {})


def test_a_long_line_in_utf_16_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from treino.corpus.sources import raw

    monkeypatch.setattr(raw, "LARGEST_LINE", 1000)
    lines = ['{"text": "um"}', f'{{"text": "{"x" * 5000}"}}', '{"text": "dois"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-16")
    documents, problems = read(tmp_path / "a.jsonl")
    assert (plain(documents), problems) == (["um", "dois"], {"line_too_long": 1})

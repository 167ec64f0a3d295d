"""Sources: every kind and compression, and broken ones that never stop or spoil the rest."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
import zstandard

from treino.corpus.sources import raw
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import kind_of, read_source, source_files
from treino.errors import DataError
from treino.recipe import SourceSettings, WorldSettings

TEXTS = ["O gato subiu no telhado.", 'A menina não viu; "que pena!", disse.', "linha um\nlinha dois, após o café"]
PACK = {"": lambda data: data, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


def jsonl(texts: list[str] = TEXTS) -> bytes:
    return "".join(json.dumps({"n": 1, "text": text}, ensure_ascii=False) + "\n" for text in texts).encode()


def table(texts: list[str] = TEXTS, delimiter: str = ",") -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter)
    writer.writerows([["id", "texto"], *([number, text] for number, text in enumerate(texts))])
    return buffer.getvalue().encode()


def read(path: Path, text: str = "") -> tuple[list[str], dict[str, int], list[str]]:
    """Texts of a source, its problems by rule, and their places."""
    problems = Problems()
    source = SourceSettings(path=path.name, text=text)
    rows = list(read_source(source, WorldSettings(), path.parent, 1, problems))
    return [row.text for row in rows], problems.counts, [row["detail"] for row in problems.rows]


@pytest.mark.parametrize("ending", PACK)
@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
def test_every_kind_in_every_compression(tmp_path: Path, kind: str, ending: str) -> None:
    content = {"txt": TEXTS[2].encode(), "jsonl": jsonl(), "csv": table()}[kind]
    path = tmp_path / "pasta à parte" / f"arquivo é.{kind}{ending}"
    path.parent.mkdir()
    path.write_bytes(PACK[ending](content))
    texts, problems, _ = read(path)
    assert texts == ([TEXTS[2]] if kind == "txt" else TEXTS)
    assert problems == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl"])
def test_encodings_are_recognised(tmp_path: Path, kind: str, encoding: str) -> None:
    content = {"txt": "não é ação", "csv": "texto\nnão é ação\n", "jsonl": '{"text": "não é ação"}\n'}[kind]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content.encode(encoding))
    assert read(path)[0] == ["não é ação"]


def test_lines_of_another_encoding_do_not_spoil_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "ação"}\n'.encode() + '{"text": "não"}\n'.encode("latin-1") + '{"text": "é"}\n'.encode())
    assert read(path)[0] == ["ação", "não", "é"]


def test_broken_lines_are_named_and_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "um"}\n{"text": \n[1]\n{"outro": 1}\n\n{"text": "dois"}\n', encoding="utf-8")
    texts, problems, places = read(path)
    assert texts == ["um", "dois"]
    assert problems == {"broken_json": 1, "not_an_object": 1, "no_text": 1}
    assert places == ["a.jsonl:2", "a.jsonl:3", "a.jsonl:4"]


def test_broken_rows_of_a_table_are_named_and_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('id;texto\n1;bom\n2;a;b\n3;\n4;"nunca fecha\n5;fim\n', encoding="utf-8")
    texts, problems, places = read(path)
    assert texts == ["bom", "fim"]
    assert problems == {"wrong_number_of_columns": 1, "no_text": 1, "quote_never_closed": 1}
    assert places == ["a.csv:3", "a.csv:4", "a.csv:5"]


def test_the_column_is_found_or_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("resposta,pergunta\num,dois\n", encoding="utf-8")
    assert read(path, "pergunta")[0] == ["dois"]
    with pytest.raises(DataError, match=r"resposta, pergunta") as error:
        read(path)
    assert error.value.where == "a.csv:1"


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_what_stands_before_a_break_is_kept(tmp_path: Path, kind: str, ending: str) -> None:
    # Numbers that do not compress well, so that half of the file holds about half of the text.
    texts = [f"documento {number * 7919 % 100_003} {number**5 % 999_983}" for number in range(60_000)]
    content = jsonl(texts) if kind == "jsonl" else "\n".join(texts).encode()
    packed = PACK[ending](content)
    (tmp_path / f"a.{kind}{ending}").write_bytes(packed[: len(packed) // 2])
    found, problems, places = read(tmp_path / f"a.{kind}{ending}")
    assert set(problems) <= {"truncated", "damaged", "broken_json"}
    assert problems.get("truncated", 0) + problems.get("damaged", 0) == 1
    assert places[-1].startswith(f"a.{kind}{ending}")
    if kind == "jsonl":
        assert found == texts[: len(found)]
        assert len(found) > 10_000
    else:
        assert len(found[0]) > 100_000
        assert "\n".join(texts).startswith(found[0][:-1])


def test_a_file_that_cannot_be_read_or_used_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a.txt").write_text("bom", encoding="utf-8")
    (folder / "b.txt").write_bytes(b"\x00\x01\x02")
    (folder / "c.txt").write_bytes(b"")
    (folder / "d.txt").write_text("proibido", encoding="utf-8")
    (folder / "e.txt").write_text("também bom", encoding="utf-8")
    (folder / ".oculto.txt").write_text("não", encoding="utf-8")
    (folder / "figura.png").write_bytes(b"\x89PNG")
    really = open

    def refusing(path, *arguments, **named):  # type: ignore[no-untyped-def]
        if Path(path).name == "d.txt":
            raise PermissionError(13, "denied")
        return really(path, *arguments, **named)

    monkeypatch.setattr(raw, "open", refusing, raising=False)
    texts, problems, places = read(folder)
    assert texts == ["bom", "também bom"]
    assert problems == {"binary": 1, "empty": 1, "unreadable": 1}
    assert places == ["b.txt", "c.txt", "d.txt"]


def test_a_bomb_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "FREE_BYTES", 100_000)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "um"}\n' + b" " * 20_000_000))
    texts, problems, _ = read(tmp_path / "a.jsonl.gz")
    assert texts == ["um"]
    assert problems == {"expands_without_bound": 1}


def test_a_line_without_end_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "LARGEST_LINE", 1000)
    long = json.dumps({"text": "x" * 5000})
    (tmp_path / "a.jsonl").write_text(f'{{"text": "um"}}\n{long}\n{{"text": "dois"}}\n', encoding="utf-8")
    texts, problems, places = read(tmp_path / "a.jsonl")
    assert texts == ["um", "dois"]
    assert (problems, places) == ({"line_too_long": 1}, ["a.jsonl:2"])


def test_a_text_file_too_large_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "LARGEST_TEXT", 1000)
    (tmp_path / "a.txt").write_text("x" * 2000, encoding="utf-8")
    assert read(tmp_path / "a.txt")[:2] == ([], {"too_large": 1})


def test_names_do_not_depend_on_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/um.txt", "a/dois.txt", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("texto", encoding="utf-8")
    source = SourceSettings(path=".")
    names = [name for name, _ in source_files(source, tmp_path)]
    really = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: reversed(list(really(self, pattern))))
    assert [name for name, _ in source_files(source, tmp_path)] == names == ["a/dois.txt", "b/um.txt", "c.txt"]


def test_kinds_go_by_the_ending() -> None:
    kinds = [kind_of(Path(name)) for name in ("a.TXT", "a.b.jsonl.GZ", "a.csv.zst", "a.gz", "a.pdf", "a")]
    assert kinds == ["text", "json", "csv", None, None, None]

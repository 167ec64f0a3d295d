"""Sources: every kind and compression, and broken ones that never stop or spoil the rest."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import zstandard

from treino.corpus.sources import raw
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import _distinct, _readable, kind_of, read_source, source_files
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


def test_a_line_in_another_encoding_does_not_spoil_a_text(tmp_path: Path) -> None:
    lines = ["ação e razão", "não é aqui", "coração à toa"]
    (tmp_path / "a.txt").write_bytes(b"\n".join(line.encode(("utf-8", "latin-1")[line == lines[1]]) for line in lines))
    assert read(tmp_path / "a.txt") == (["\n".join(lines)], {}, [])


def test_half_a_character_at_a_break_goes(tmp_path: Path) -> None:
    assert raw.decode("coração é".encode()[:-1], whole=False) == "coração "
    assert raw.decode("coração é".encode("latin-1"), whole=False) == "coração é"


@pytest.mark.parametrize("kind", ["txt", "jsonl", "csv"])
@pytest.mark.parametrize(("content", "rule"), [(b"", "empty"), (b" \n\n", "empty"), (b"\x00\x01\n\x02", "binary")])
def test_a_file_with_nothing_in_it_is_named_once(tmp_path: Path, kind: str, content: bytes, rule: str) -> None:
    (tmp_path / f"a.{kind}").write_bytes(content)
    assert read(tmp_path / f"a.{kind}") == ([], {rule: 1}, [f"a.{kind}"])


def test_what_json_allows_and_text_does_not(tmp_path: Path) -> None:
    """Half a surrogate pair becomes a replacement character; a number of 5,000 digits costs its own line."""
    digits = '{"text": "b", "n": ' + "1" * 5000 + "}"
    (tmp_path / "a.jsonl").write_text(f'{{"text": "a \\ud800 é"}}\n{digits}\n{{"text": "c"}}\n', encoding="utf-8")
    assert read(tmp_path / "a.jsonl") == (["a \ufffd é", "c"], {"broken_json": 1}, ["a.jsonl:2"])


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        ('1,tv de 32" nova\n2,tela de 40" boa\n3,fim\n', ['tv de 32" nova', 'tela de 40" boa', "fim"]),
        ("1,antes\u2028depois\n2,x\x0cy\n", ["antes\u2028depois", "x\x0cy"]),
        ('1,"um\ndois, ""três"""\n2,fim\n', ['um\ndois, "três"', "fim"]),
        ('1,"' + "linha\n" * 3000 + '"\n2,fim\n', ["linha\n" * 3000, "fim"]),
    ],
)
def test_quotes_and_ends_of_lines_in_a_table(tmp_path: Path, rows: str, texts: list[str]) -> None:
    """Inches are no quotation, only line feeds end rows, a quoted field may span many lines."""
    (tmp_path / "a.csv").write_bytes(f"id,texto\n{rows}".encode())
    assert read(tmp_path / "a.csv") == (texts, {}, [])


def test_a_quote_never_closed_loses_one_row_though_a_later_row_has_quotes(tmp_path: Path) -> None:
    rows = ['1,"nunca fecha', *(f"{number},linha {number}" for number in range(2, 500)), '500,"fim, sim"']
    (tmp_path / "a.csv").write_text("id,texto\n" + "\n".join(rows) + "\n", encoding="utf-8")
    texts, problems, places = read(tmp_path / "a.csv")
    assert texts == [*(f"linha {number}" for number in range(2, 500)), "fim, sim"]
    assert (problems, places) == ({"quote_never_closed": 1}, ["a.csv:2"])


def test_a_table_without_text_leaves_the_rest_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "livro.txt").write_text("bom", encoding="utf-8")
    (folder / "catalogo.csv").write_text("autor,ano\nMachado,1899\n", encoding="utf-8")
    assert read(folder) == (["bom"], {"no_text_column": 1}, ["catalogo.csv:1"])


def test_names_that_are_not_utf_8_become_readable(tmp_path: Path) -> None:
    """Archives from old machines; the file system may refuse such a name, the function may not."""
    assert _readable("cora\udce7\udce3o.txt") == "coração.txt"
    assert _readable("e\u0301.txt") == "é.txt"
    assert [name for name, _ in _distinct([("é", Path("a")), ("é", Path("b")), ("f", Path("c"))])] == ["é", "é#2", "f"]


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_zstd_frames_that_break_off_are_noticed_whatever_they_state(tmp_path: Path, cut: float) -> None:
    """A stream does not state its size, and of two frames the first may be whole: the library takes both for the end."""
    stream = zstandard.ZstdCompressor().compressobj()
    half = jsonl([f"documento {number**7 % 999_983}" for number in range(20_000)])
    whole = zstandard.compress(half) + stream.compress(half) + stream.flush()
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(whole)
    assert read(path)[0] == [f"documento {number**7 % 999_983}" for number in range(20_000)] * 2
    path.write_bytes(whole[: int(len(whole) * cut)])
    texts, problems, _ = read(path)
    assert problems == {"truncated": 1}
    assert len(texts) / 40_000 == pytest.approx(cut, abs=0.2)


@pytest.mark.parametrize("place", range(200, 1600, 200))
def test_a_changed_byte_in_a_gz_never_stops_the_rest(tmp_path: Path, place: int) -> None:
    """The bytes may decode to nonsense, to nothing, or break the decoder itself (zlib.error)."""
    packed = bytearray(gzip.compress(jsonl([f"documento {number**7 % 999_983}" for number in range(400)])))
    packed[place] ^= 0xFF
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a.jsonl.gz").write_bytes(packed)
    (folder / "b.txt").write_text("bom", encoding="utf-8")
    texts, problems, _ = read(folder)
    assert texts[-1] == "bom"
    assert problems.get("damaged", 0) + problems.get("truncated", 0) == 1


def test_reading_holds_a_file_about_once(tmp_path: Path) -> None:
    """A text is gathered in one buffer, not copied anew with each portion; a table is never held at all."""
    text = ("Uma linha de um livro muito comprido.\n" * 500_000).encode()
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text, 1))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"texto\n" + text, 1))
    problems = Problems()
    assert peak(lambda: raw.read_text(tmp_path / "a.txt.gz", problems, "a")) < 4.5 * len(text)
    rows = read_source(SourceSettings(path="b.csv.gz"), WorldSettings(), tmp_path, 1, problems)
    assert peak(lambda: next(islice(rows, 100_000, None))) < 2_000_000


def peak(work: Callable[[], object]) -> int:
    """Most bytes that Python held at once for a piece of work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_bomb_takes_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(raw, "FREE_BYTES", 1_000_000)
    monkeypatch.setattr(raw, "LARGEST_LINE", 1_000_000)
    (tmp_path / f"a.jsonl{ending}").write_bytes(PACK[ending](b'{"text": "um"}\n' + b"0" * 300_000_000))
    assert peak(lambda: read(tmp_path / f"a.jsonl{ending}")) < 80_000_000


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
    kinds = [kind_of(Path(name)) for name in ("a.TXT", "a.b.jsonl.GZ", "a.csv.zst", "a.xml.bz2", "a.gz", "a.png", "a")]
    assert kinds == ["text", "json", "csv", "wikipedia", None, None, None]

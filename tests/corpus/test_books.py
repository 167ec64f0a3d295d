"""Books: cover sheets, chapters in order, pages that become running text, and parsers that die without taking the run along."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import kinds
from treino.corpus.clean import clean_text
from treino.corpus.sources import isolated
from treino.corpus.sources.books import running_text, without_gutenberg
from treino.corpus.sources.raw import Problems, Unreadable
from treino.corpus.sources.read import read_source
from treino.recipe import CleanSettings, SourceSettings, WorldSettings

SHEET = """The Project Gutenberg eBook of Dom Casmurro

This eBook is for the use of anyone anywhere. Title: not this one

Title: Dom Casmurro
Author: Machado de Assis
Release Date: October 15, 2017 [EBook #55752]
Language: Portuguese

*** START OF {the} PROJECT GUTENBERG EBOOK DOM CASMURRO ***

Produced by Alguém and
outros voluntários

DOM CASMURRO

*** não é o fim ***
Uma noite destas, vindo da cidade.

{end}

Updated editions will replace the previous one.
"""


@pytest.mark.parametrize("the", ["THE", "THIS"])
@pytest.mark.parametrize(
    "end", ["*** END OF THE PROJECT GUTENBERG EBOOK X ***", "End of the Project Gutenberg EBook of X", ""]
)
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_gutenbergs_sheets_go_and_are_read(the: str, end: str, line: str) -> None:
    text, meta = without_gutenberg(SHEET.format(the=the, end=end).replace("\n", line))
    assert text.startswith("DOM CASMURRO\n\n*** não é o fim ***\nUma noite destas, vindo da cidade.")
    assert ("Updated editions" in text) is (end == "")
    assert meta == {
        "title": "Dom Casmurro", "author": "Machado de Assis", "date": "2017-10-15",
        "language": "Portuguese",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["Um texto.\r\nOutro.", "I read it on Project Gutenberg.\n*** END OF ALL ***\nFim."])
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert without_gutenberg(text) == (text, {})


def read(path: Path) -> tuple[list[Any], Problems]:
    problems = Problems()
    return list(read_source(SourceSettings(path=path.name), WorldSettings(), path.parent, 1, problems)), problems


def test_an_epub_comes_in_the_order_of_its_spine_with_verse_and_speech(tmp_path: Path) -> None:
    chapters = ["Capítulo I\nO verso primeiro\nO verso segundo", "— Vens? — perguntou.\n— Não vou.", "Fim & <acabou>."]
    (tmp_path / "a.epub").write_bytes(kinds.epub(chapters))
    (document,), problems = read(tmp_path / "a.epub")
    assert [line.strip() for line in document.text.split("\n") if line.strip()] == "\n".join(chapters).split("\n")
    assert document.meta == {"kind": "epub", "title": "O livro", "author": "Ninguém", "language": "pt"}
    assert problems.counts == {}


def test_an_epub_without_its_package_comes_by_the_names_of_its_pages(tmp_path: Path) -> None:
    pages = {f"{n}.xhtml": f"<html><body><p>página {n}&nbsp;aqui</p></body></html>".encode() for n in (2, 1, 3)}
    (tmp_path / "a.epub").write_bytes(kinds.archive({"mimetype": b"application/epub+zip", **pages}))
    (document,), _ = read(tmp_path / "a.epub")
    assert document.text.split() == ["página", "1", "aqui", "página", "2", "aqui", "página", "3", "aqui"]


def test_an_encrypted_epub_is_named(tmp_path: Path) -> None:
    told = b'<encryption><EncryptedData><CipherReference URI="OEBPS/c.xhtml"/></EncryptedData></encryption>'
    (tmp_path / "a.epub").write_bytes(
        kinds.archive({"mimetype": b"application/epub+zip", "META-INF/encryption.xml": told})
    )
    documents, problems = read(tmp_path / "a.epub")
    assert (documents, problems.counts) == ([], {"encrypted": 1})


PROSE = (
    "Uma noite destas, vindo da cidade para o Engenho Novo, encontrei no trem da Central um rapaz aqui do bairro, que eu "
    "conheço de vista e de chapéu. Cumprimentou-me, sentou-se ao pé de mim, falou da lua e dos ministros, e acabou recitando "
    "versos. A viagem era curta, e os versos pode ser que não fossem inteiramente maus. Sucedeu, porém, que, como eu estava "
    "cansado, fechei os olhos três ou quatro vezes; tanto bastou para que ele interrompesse a leitura."
)


def wrapped(text: str, width: int = 60) -> list[str]:
    """Lines of a width, words divided where they do not fit."""
    lines, line = [], ""
    for word in text.split():
        if len(line) + 1 + len(word) > width and len(word) > 7 and word.isalpha():
            lines.append(f"{line} {word[:4]}-")
            line = word[4:]
        elif len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def test_pages_of_a_pdf_become_running_text(tmp_path: Path) -> None:
    """Running heads (left and right ones differ), page numbers and divided words, also from page to page."""
    lines = wrapped(" ".join([PROSE] * 12))
    height = next(number for number in range(6, 20) if lines[number - 1].endswith("-"))
    leaves = [lines[start : start + height] for start in range(0, len(lines), height)]
    heads = ["DOM CASMURRO", "Machado de Assis"]
    pages = [[f"{heads[place % 2]}  {place + 11}", *leaf, "", f"– {place + 11} –"] for place, leaf in enumerate(leaves)]
    assert leaves[0][-1].endswith("-"), "a word is divided between two pages"
    (tmp_path / "a.pdf").write_bytes(kinds.pdf(pages))
    (document,), problems = read(tmp_path / "a.pdf")
    text, _ = clean_text(document.text, CleanSettings())
    assert problems.counts == {}
    assert text == " ".join([PROSE] * 12)


def test_what_only_looks_like_a_head_or_a_number_stays() -> None:
    poem = [
        ["I", "Amor é fogo", "que arde sem se ver"],
        ["II", "é ferida que dói", "e não se sente"],
        ["III", "é um", "contentamento"],
    ]
    assert running_text(["\n".join(page) for page in poem]).split("\n") == [line for page in poem for line in page]
    years = [["O ano", "texto", "1889"], ["outra", "coisa", "1922"], ["e mais", "esta", "7"]]
    assert "1889" in running_text(["\n".join(page) for page in years])
    twice = [["— Sim.", "a"], ["b", "c"], ["— Sim.", "d"]]
    assert running_text(["\n".join(page) for page in twice]).count("— Sim.") == 2


def test_a_ligature_is_its_letters() -> None:
    assert running_text(["a \ufb01gura o\ufb03cial do pala\ufffevra final"]) == "a figura official do palavra\nfinal"


def test_words_in_capitals_are_divided_too_and_a_dash_is_no_division() -> None:
    text = running_text(["a CONSTITUI-\nÇÃO diz que FOI-\nme dado e Rio-\nSão Paulo ali -\nou aqui"])
    assert text.split("\n")[0] == "a CONSTITUIÇÃO"
    assert all(part in text for part in ("FOI-me", "Rio-\nSão Paulo", "ali -\nou"))


def test_small_roman_numbers_count_pages() -> None:
    pages = [f"linha {word}\n{number}" for word, number in zip("abcd", ("vi", "vii", "viii", "ix"), strict=True)]
    assert running_text(pages) == "linha a\nlinha b\nlinha c\nlinha d"


def test_a_pdf_without_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(kinds.pdf([[], []]))
    documents, problems = read(tmp_path / "a.pdf")
    assert (documents, problems.counts) == ([], {"pdf_without_text": 1})


def test_a_parser_that_dies_is_told_of_and_started_again(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(kinds.pdf([[f"página {number} " * 20] * 50 for number in range(40)]))  # more than a pipe holds
    pieces = isolated.stream("pdf", path=str(path))
    next(pieces)
    pieces.gi_frame.f_locals["child"]._process.kill()  # type: ignore[attr-defined]
    with pytest.raises(Unreadable, match="crashes_the_parser"):
        list(pieces)
    assert len(list(isolated.stream("pdf", path=str(path)))) == 41


def test_a_parser_that_takes_too_long_is_ended() -> None:
    with pytest.raises(Unreadable, match="takes_too_long"):
        isolated.one("page", kinds.page([PROSE] * 3000), seconds=0.05)
    assert b"Engenho Novo" in isolated.one("page", kinds.page([PROSE]))


def test_a_page_that_crashes_the_parser_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pdf").write_bytes(kinds.pdf([[f"página número {number} do livro"] for number in "abcdef"]))
    really = isolated.stream

    def crashing(task: str, **arguments: Any) -> Iterator[bytes]:
        for place, piece in enumerate(really(task, **arguments), arguments.get("first", 0) - 1):
            if place == 2 and arguments["first"] == 0:
                raise Unreadable("crashes_the_parser")
            yield piece

    monkeypatch.setattr(isolated, "stream", crashing)
    (document,), problems = read(tmp_path / "a.pdf")
    assert [f"número {number}" in document.text for number in "abcdef"] == [True, True, False, True, True, True]
    assert problems.counts == {"crashes_the_parser": 1}
    assert problems.rows[0]["detail"] == "a.pdf:3"

"""HTML pages: the main text, nothing of what is around it, and nothing left out that is text."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import kinds
from treino.corpus.sources import isolated
from treino.corpus.sources.pages import decode_page, is_html, read_page
from treino.corpus.sources.raw import Problems, Unreadable
from treino.corpus.sources.read import read_source
from treino.recipe import SourceSettings, WorldSettings


def prose(name: str, count: int) -> list[str]:
    return [
        f"No parágrafo {number} de {name} conta-se que o barco saiu cedo do porto, que o vento virou ao meio-dia, e que seis "
        f"pescadores, sem rádio e sem carta, remaram até a ilha, onde a gente de {name} os esperava com lanternas acesas e pão."
        for number in range(count)
    ]


def paragraphs(texts: list[str]) -> str:
    return "".join(f"<p>{text}</p>\n" for text in texts)


TEASERS = "".join(
    f'<li><a href="/{n}">Outra notícia, a de número {n}, que não tem nada com esta e só quer que se clique nela</a></li>'
    for n in range(30)
)
COMMENTS = "".join(
    f'<div class="comment"><p>Comentário {n}: {" ".join(["não concordo"] * 20)}.</p></div>' for n in range(5)
)


@pytest.mark.parametrize("fast", [False, True])
def test_menus_teasers_and_feet_are_left_out(fast: bool) -> None:
    source = (
        f"<html><head><title>T</title><script>var x = 'não é texto';</script></head><body><nav><ul>{TEASERS}</ul></nav>"
        f"<main><article><h1>O título</h1>{paragraphs(prose('cá', 8))}</article></main><aside><ul>{TEASERS}</ul></aside>"
        "<footer>Todos os direitos reservados</footer></body></html>"
    )
    text = read_page(source, fast).text
    assert all(paragraph in text for paragraph in prose("cá", 8))
    assert not any(around in text for around in ("Outra notícia", "direitos reservados", "não é texto"))


def test_comments_are_left_out() -> None:
    article = f"<article><h1>O título</h1>{paragraphs(prose('cá', 12))}</article>"
    source = f"<html><body>{article}<section id='comments' class='comments'>{COMMENTS}</section></body></html>"
    text = read_page(source).text
    assert prose("cá", 12)[11] in text
    assert "Comentário" not in text


def test_a_page_of_several_parts_keeps_them_all() -> None:
    """The first part that looks like the text is not all of it: so the Constitution lost its transitional provisions."""
    parts = [paragraphs(prose(name, 12)) for name in ("cá", "lá", "acolá")]
    body = "".join(f'<div class="box"><div id="content" class="texto">{part}</div></div>' for part in parts)
    text = read_page(f"<html><body><nav><ul>{TEASERS}</ul></nav>{body}</body></html>").text
    places = [text.find(prose(name, 12)[number]) for name in ("cá", "lá", "acolá") for number in range(12)]
    assert places == sorted(places) and places[0] >= 0
    assert "Outra notícia" not in text


def test_a_tiny_page_keeps_its_one_sentence() -> None:
    assert read_page("<html><body><p>Só isto.</p></body></html>").text.strip() == "Só isto."


@pytest.mark.parametrize(
    ("data", "told", "text"),
    [
        ('<meta charset="iso-8859-1">ação'.encode(), "", "ação"),  # a wrong head
        ("ação".encode(), "iso-8859-1", "ação"),  # a wrong server
        ('<meta charset="utf-8">ação'.encode("cp1252"), "utf-8", "ação"),
        (
            '<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">привет'.encode("cp1251"),
            "",
            "привет",
        ),
        ("“ação”".encode("cp1252"), "latin-1", "“ação”"),
        ("ação".encode("utf-16"), "", "ação"),
        ("ação".encode("cp1252"), "no-such-code", "ação"),
    ],
)
def test_declared_encodings_count_only_where_they_can_be_right(data: bytes, told: str, text: str) -> None:
    assert decode_page(data, told).endswith(text)


def test_text_that_is_named_a_page_is_text(tmp_path: Path) -> None:
    assert not is_html("Um texto com 3 < 4 e x<y.")
    (tmp_path / "a.html").write_text("Um texto com 3 < 4\n\n  e x<y.", encoding="utf-8")
    (document,) = read_source(SourceSettings(path="a.html"), WorldSettings(), tmp_path, 1, Problems())
    assert document.text == "Um texto com 3 < 4\n\n  e x<y."


def test_what_defeats_one_parser_is_given_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    really = isolated.one

    def failing(task: str, payload: bytes, seconds: float, fast: bool, url: str) -> bytes:
        if not fast:
            raise Unreadable("takes_too_long")
        return really(task, payload, seconds, fast=fast, url=url)

    monkeypatch.setattr(isolated, "one", failing)
    assert "Um parágrafo." in read_page("<html><body><p>Um parágrafo.</p></body></html>").text


@pytest.mark.parametrize(
    "part", ["<div>", "<table><tr><td>", "<b>", "<a href='", "<!--", "<script>", "&#x", "<p ", "</div>"]
)
def test_pages_made_to_take_long_are_read_or_named(part: str) -> None:
    source = f"<html><body><p>Um parágrafo.</p>{part * (20_000 // len(part))}"
    try:
        assert read_page(source).text is not None
    except Unreadable as error:
        assert str(error) in ("takes_too_long", "crashes_the_parser", "damaged", "too_large")
    assert "outro" in read_page("<html><body><p>Um outro.</p></body></html>").text


def test_files_side_by_side_come_in_order(tmp_path: Path) -> None:
    """A page named as such that is a table is read as one, in its place."""
    for number in range(12):
        (tmp_path / f"{number:02d}.html").write_bytes(kinds.page(prose(str(number), 2)))
    (tmp_path / "05.html").write_bytes(kinds.parquet(["da tabela", "e outra"]))
    (tmp_path / "07.html").write_bytes(b"\x00\x01\x02" * 50)
    problems = Problems()
    found = list(read_source(SourceSettings(path=str(tmp_path)), WorldSettings(), Path(), 1, problems))
    assert [document.name[:2] for document in found] == [
        "00",
        "01",
        "02",
        "03",
        "04",
        "05",
        "05",
        "06",
        "08",
        "09",
        "10",
        "11",
    ]
    assert problems.counts == {"binary": 1}

"""Wikipedia's dumps: articles as a reader reads them, and pages that are broken or made to take long."""

from __future__ import annotations

import bz2
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import kinds
from treino.corpus.sources import wikipedia
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import read_source
from treino.corpus.sources.wikitext import is_redirect, plain
from treino.recipe import SourceSettings, WorldSettings

CASES = {
    "'''Ouro Preto''' é um [[município]] [[Brasil|brasileiro]].": "Ouro Preto é um município brasileiro.",
    "Antes.{{Info/Cidade|nome=A|mapa=[[Ficheiro:x.png]]|b={{c|{{d}}}}}} Depois.": "Antes. Depois.",
    "{|class=x\n|-\n| a || {{b}}\n{|\n| dentro\n|}\n|}\nTexto.": "Texto.",
    "[[Ficheiro:F.jpg|thumb|Legenda com [[link]] e [http://x.y z]]]Texto.": "Texto.",
    "[[File:F.jpg|left]][[Imagem:a.png]][[Image:b.png]][[Arquivo:c]]Text.": "Text.",
    "Fim.\n[[Categoria:Cidades]]\n[[Category:Towns|x]]\n[[en:Ouro Preto]][[zh-min-nan:X]]": "Fim.",
    "Ver [[:Categoria:Rios|os rios]] e [[:en:River]].": "Ver os rios e en:River.",
    "[[Mercúrio (planeta)|]] e [[Lua]]s": "Mercúrio e Luas",
    "Um fato<ref name=a>{{citar livro|t=x}} [[y]]</ref>, dois<ref name=a/>.": "Um fato, dois.",
    "Chama-se ''[http://a.b o site]'' [http://c.d].": "Chama-se o site.",
    "Nome ({{lang-fr|Ville}}, {{IPA|x}}) antigo ( ; ).": "Nome (Ville) antigo.",
    "Área de {{convert|1245|km2|sqmi}}, {{fmtn|70000}} hab. e {{lang|la|urbs}}.": "Área de 1245 km2, 70000 hab. e urbs.",
    "{{formatnum:1234}} e {{nowrap|5 kg}}{{snd}}{{c.|1900}}": "1234 e 5 kg – c. 1900",
    "{{Quote|Viver é lutar.|Gonçalves}}": "Viver é lutar.",
    "<nowiki>[[fica]] ''assim''</nowiki> &amp; a&nbsp;b": "[[fica]] ''assim'' & a\xa0b",
    "a<br>b<br />c<!-- d\ne -->f<math>x^{2}</math>g": "a\nb\ncfg",
    "<gallery>\nA.jpg|x\n</gallery>Texto<sup>2</sup> __NOTOC__": "Texto2",
    "* um\n** dois\n# três\n:; quatro\n----\nfim": "um\ndois\ntrês\nquatro\nfim",
    "<poem>\nverso um\nverso dois\n</poem>": "verso um\nverso dois",
    "A\n== B ==\n=== C ===\n== D ==\nx\n== Ver também ==\n* [[x]]\n=== y ===\nz\n== E ==\nfim": "A\n\nD\n\nx\n\nE\n\nfim",
    "A\n== References ==\n{{reflist}}\n== External links ==\n* [http://x y]": "A",
    "Sobra ]] aqui }} e {{ali": "Sobra  aqui  e ali",
    "Fecha {{mal|[[a]}} bem": "Fecha  bem",
    "{{Info\n|nome = A\n|mapa = [[Ficheiro:x.png]]\n\nTexto do [[b|artigo]].": "Info\n\nTexto do artigo.",
    "Antes.\n{| class=x\n|-\n! a\n| b\n\nDepois da tabela aberta.": "Antes.\n\nDepois da tabela aberta.",
}


@pytest.mark.parametrize("wikitext", CASES)
def test_what_a_reader_reads_stays(wikitext: str) -> None:
    lines = [" ".join(line.split(" ")) for line in plain(wikitext).split("\n")]
    told = "\n".join(lines)
    while "\n\n\n" in told:
        told = told.replace("\n\n\n", "\n\n")
    assert told == CASES[wikitext]


HARD = [
    "[[", "{{", "]]", "}}", "<ref>", "<ref name=", "[http://", "[http://a b ", "= ", "'", "{|\n", "(,", "(", "<!--", "<nowiki>",
    "__", "{{a|", "[[a|", "&", "<", " ", "\t", "{{{", "[[a", "*", "| ", "==\n", "(;", " ,",
]  # fmt: skip


@pytest.mark.parametrize("part", HARD)
def test_no_text_takes_long(part: str) -> None:
    started = time.process_time()
    plain("x" + part * (200_000 // len(part)) + "x]]}}</ref>")
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["#REDIRECT [[A]]", " #redirecionamento[[B]]", "#Redirect: [[C]]"])
def test_redirects_of_old_dumps(text: str) -> None:
    assert is_redirect(text)


def read(path: Path) -> tuple[list[tuple[int, str, str]], dict[str, int]]:
    problems = Problems()
    found = read_source(SourceSettings(path=path.name), WorldSettings(), path.parent, 1, problems)
    return [(document.row, document.meta["title"], document.text) for document in found], problems.counts


TEXTS = [f"O artigo {number} fala de outra coisa." for number in range(200)]


def test_a_dump_gives_its_articles(tmp_path: Path) -> None:
    (tmp_path / "a.xml.bz2").write_bytes(bz2.compress(kinds.dump(TEXTS[:100])) + bz2.compress(kinds.dump(TEXTS[100:])))
    articles, problems = read(tmp_path / "a.xml.bz2")
    assert [text for _, _, text in articles] == TEXTS
    assert articles[1][:2] == (2, "Artigo 2")
    assert problems == {}


def test_a_broken_page_costs_itself(tmp_path: Path) -> None:
    data = kinds.dump(TEXTS)
    cut = data.index(b"</page>", data.index(b"artigo 50 "))  # 50 has no end: 51 begins in it
    data = data[:cut] + data[cut + len("</page>") :]
    data = data.replace(b"artigo 70 ", b"artigo < ").replace(b"artigo 90 ", b"artigo \xff ")
    (tmp_path / "a.xml").write_bytes(data)
    articles, problems = read(tmp_path / "a.xml")
    found = [text for _, _, text in articles]
    assert [text for text in TEXTS if text not in found] == [TEXTS[50], TEXTS[70], TEXTS[90]]
    assert TEXTS[90].replace("90", "\ufffd") in found
    assert problems == {"broken_xml": 1}


def test_a_dump_that_breaks_off_and_one_that_is_none(tmp_path: Path) -> None:
    packed = bz2.compress(kinds.dump([f"{text} {number**9}" for number, text in enumerate(TEXTS * 20)]), 1)
    (tmp_path / "a.xml.bz2").write_bytes(packed[: len(packed) // 2])
    articles, problems = read(tmp_path / "a.xml.bz2")
    assert len(articles) > 300
    assert problems == {"truncated": 1}
    (tmp_path / "b.xml").write_text("<rss><item>x</item></rss>", encoding="utf-8")
    assert read(tmp_path / "b.xml") == ([], {"not_a_dump": 1})


def test_a_page_without_end_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wikipedia, "LARGEST_PAGE", 100_000)
    data = b"<mediawiki><page>" + b"x" * 2_000_000 + b"</page>" + kinds.dump(TEXTS[:3])
    (tmp_path / "a.xml").write_bytes(data)
    articles, problems = read(tmp_path / "a.xml")
    assert [text for _, _, text in articles] == TEXTS[:3]
    assert problems == {"too_large": 1}

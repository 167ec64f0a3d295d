"""Boilerplate: lines that the pages of a site share, against a slow count; copies are left to deduplication."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
from tests.corpus.filtering import page, rows_of

from treino.corpus.boilerplate import ALWAYS, FEWEST, SHARE, Boilerplate, repeated_lines, site_of
from treino.corpus.clean import clean
from treino.corpus.documents import read_rows, write_rows
from treino.recipe import CleanSettings

MENU = ["Início | Contato", "© A Vila, todos os direitos reservados", "Assine nosso boletim"]


def _site(name: str, count: int, menu: list[str], first: int = 0) -> tuple[list[str], list[str]]:
    texts = ["\n".join([menu[0], page(first + number, 2), *menu[1:]]) for number in range(count)]
    return texts, [f"{name}/{number}.html" for number in range(count)]


def _write(folder: Path, rows: pa.RecordBatch) -> Path:
    listed = rows.to_pylist()
    write_rows(folder / "training", listed[::2])
    write_rows(folder / "held_out", listed[1::2])
    return folder


def test_the_lines_are_those_of_a_slow_count(tmp_path: Path) -> None:
    """Two sites and one too small to tell; a menu, a line on some pages, and copies of a page that count once."""
    one, names = _site("um", 30, MENU)
    one[:3] = [text + "\nRara" for text in one[:3]]
    two, others = _site("dois", 12, ["Só aqui", "Rodapé"], 50)
    small, few = _site("três", 5, MENU, 80)
    copies, copied = [one[7]] * 20, [f"um/copia{number}.html" for number in range(20)]
    texts, sources = one + two + small + copies, names + others + few + copied
    found = repeated_lines(_write(tmp_path, rows_of(texts, sources=sources)), "web")
    counts: dict[str, Counter[str]] = {}
    sizes: Counter[str] = Counter()
    seen = set()
    for text, source in zip(texts, sources, strict=True):
        if text not in seen:
            seen.add(text)
            folder = source.split("/")[0]
            sizes[folder] += 1
            counts.setdefault(folder, Counter()).update({line.strip() for line in text.split("\n")} - {""})
    wanted = {
        site: {line for line, count in lines.items() if count >= max(FEWEST, min(SHARE * sizes[site], ALWAYS))}
        for site, lines in counts.items()
    }
    assert {site: set(lines) for site, lines in found.items()} == {
        site: lines for site, lines in wanted.items() if lines
    }
    assert found == {"um": frozenset(MENU), "dois": frozenset(["Só aqui", "Rodapé"])}
    assert repeated_lines(_write(tmp_path / "books", rows_of(texts, "book", sources=sources)), "web") == {}


def test_the_menu_goes_and_the_page_stays() -> None:
    texts, sources = _site("um", 4, MENU)
    outcome = Boilerplate({"um": frozenset(MENU)})(rows_of(texts, sources=sources))
    assert outcome.rows["text"].to_pylist() == [page(number, 2) for number in range(4)]
    assert [(row["rule"], row["detail"]) for row in outcome.record] == [("boilerplate", f"3: {MENU[0]}")] * 4
    elsewhere = Boilerplate({"um": frozenset(MENU)})(rows_of(texts, sources=["dois/1.html"] * 4))
    assert elsewhere.rows["text"].to_pylist() == texts


def test_a_page_whose_text_is_all_over_the_site_is_a_copy() -> None:
    text = page(1, 4)
    shared = frozenset(text.split("\n"))
    outcome = Boilerplate({"site": shared})(rows_of([text + "\nNovidade."]))
    assert outcome.rows["text"].to_pylist() == [text + "\nNovidade."]


def test_pages_of_one_host_are_a_site() -> None:
    assert site_of("x", '{"kind": "web", "url": "https://vila.org/a/b"}') == "vila.org"
    assert site_of("https://vila.org/c", "{}") == "vila.org"
    assert site_of("pasta/sub/arquivo.html", '{"kind": "html"}') == "pasta/sub"


def test_clean_takes_menus_out_of_pages_and_says_so(tmp_path: Path) -> None:
    texts, sources = _site("um", 24, MENU)
    documents = _write(tmp_path / "documents", rows_of(texts, sources=sources))
    facts = clean(CleanSettings(), documents, tmp_path / "out")
    assert facts["changed_by_rule"]["boilerplate"] == 24
    kept = [row["text"] for part in ("training", "held_out") for row in read_rows(tmp_path / "out", part)]
    assert sorted(kept) == sorted(page(number, 2) for number in range(24))
    left = clean(CleanSettings(boilerplate="none"), documents, tmp_path / "none")
    assert "boilerplate" not in left["changed_by_rule"]

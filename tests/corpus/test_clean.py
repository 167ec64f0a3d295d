"""Cleaning: each rule alone, cleaning twice is cleaning once, and an account of every change."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ftfy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from treino.corpus.clean import FTFY, clean, clean_text, controls, fix_encoding, white_space
from treino.corpus.documents import DOCUMENTS, content_hash, read_rows, write_rows
from treino.errors import DataError
from treino.recipe import CleanSettings

SETTINGS = CleanSettings()
PORTUGUESE = st.text(
    alphabet="aeiouãõáéíóúâêôçÇÃbcdfglmnprstv ABC.,;:!?—-–“”‘’«»…\n\t&<>'\"0123456789ªº€", max_size=120
)
MOJIBAKE = PORTUGUESE.map(lambda text: text.encode("utf-8").decode("cp1252", "replace"))


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=120), PORTUGUESE, MOJIBAKE))
@example("nÃ£o Ã© possÃ­vel")
@example("&amp;amp;lt;")
@example("Â\x1f\x91")
@example("a\r\n\r\n\r\nb \x0c c\u2028d")
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once, _ = clean_text(text, SETTINGS)
    assert clean_text(once, SETTINGS) == (once, [])


@settings(max_examples=200, deadline=None)
@given(MOJIBAKE)
def test_the_short_cut_misses_no_broken_portuguese(text: str) -> None:
    """`fix_encoding` asks ftfy only where something looks suspicious; what ftfy would mend must look so."""
    assert fix_encoding(text) == ftfy.fix_text(unicodedata.normalize("NFC", text), FTFY)


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("O cÃ£o nÃ£o dormiu", "O cão não dormiu"),
        ("SÃO PAULO e coração", "SÃO PAULO e coração"),
        ("a avo\u0301 e o ac\u0327o", "a avó e o aço"),
        ("Tom &amp; Jerry &eacute; bom", "Tom & Jerry é bom"),
        ("“aspas” e ‘simples’ ficam", "“aspas” e ‘simples’ ficam"),
        ("ﬁm e Ａ ﬁcam", "ﬁm e Ａ ﬁcam"),
    ],
)
def test_encodings_are_mended_and_typography_stays(broken: str, mended: str) -> None:
    assert fix_encoding(broken) == mended


def test_controls_and_white_space() -> None:
    assert controls("a\x07b\u200bc\ufeff\xad") == "abc"
    assert controls("um\r\ndois\rtrês\x0cquatro") == "um\ndois\ntrês\n\nquatro"
    assert white_space("  um \t dois\u00a0três  \n\n\n\n quatro \n") == "um dois três\n\nquatro"


def row(number: int, text: str) -> dict[str, Any]:
    plain = {"source": f"s:{number}", "language": "pt", "licence": "", "weight": 1.0, "meta": "{}"}
    return {"id": f"d{number}", "text": text, "content_hash": content_hash(text), **plain}


def cleaned(folder: Path, training: list[str], held_out: list[str], **changes: Any) -> dict[str, Any]:
    for part, texts in (("training", training), ("held_out", held_out)):
        write_rows(folder / "in" / part, [row(number, text) for number, text in enumerate(texts)], DOCUMENTS)
    return clean(SETTINGS.model_copy(update=changes), folder / "in", folder / "out")


def test_what_was_changed_or_removed_is_kept_with_its_rule(tmp_path: Path) -> None:
    good = "Um texto bom que não muda em nada."
    facts = cleaned(
        tmp_path,
        [good, "curto", "nÃ£o Ã© assim que se faz\u200b, menino"],
        ["   e\u0301 a  avó   quem  sabe   fazer pão   "],
    )
    assert [row["text"] for row in read_rows(tmp_path / "out", "training")] == [good, "não é assim que se faz, menino"]
    removed = {row["id"]: row for row in read_rows(tmp_path / "out", "removed")}
    assert removed["d1"]["rule"] == "too_short"
    assert removed["d1"]["before"] == "curto"
    assert removed["d2"]["rule"] == "changed"
    assert set(removed["d2"]["detail"].split(", ")) == {"fix_encoding", "controls"}
    assert "nÃ£o" in removed["d2"]["before"]
    assert "não é assim" in removed["d2"]["after"]
    assert facts["documents_in"] == facts["documents_out"] + sum(facts["removed_by_rule"].values()) == 4
    assert facts["changed_by_rule"]["white_space"] == 1
    kept = next(read_rows(tmp_path / "out", "held_out"))
    assert kept["content_hash"] == content_hash(kept["text"])


def test_rules_can_be_switched_off(tmp_path: Path) -> None:
    facts = cleaned(tmp_path, ["nÃ£o se mexe nisto aqui"], [], fix_encoding=False, unwrap=False)
    assert facts["changed_by_rule"] == {}


def test_no_text_left_is_an_error_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="minimum_characters"):
        cleaned(tmp_path, ["a", "b"], ["c"])


def test_settings_need_nothing_but_their_fields() -> None:
    plain = SimpleNamespace(fix_encoding=True, unwrap=False, minimum_characters=1)
    assert clean_text("nÃ£o", plain) == ("não", ["fix_encoding"])  # type: ignore[arg-type]

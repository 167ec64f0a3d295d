"""Cleaning: each rule alone, cleaning twice is cleaning once, and an account of every change."""

from __future__ import annotations

import time
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
from treino.corpus.world.documents import generate_document, world_document
from treino.corpus.world.facts import World
from treino.errors import DataError
from treino.recipe import CleanSettings, WorldSettings

SETTINGS = CleanSettings()
PORTUGUESE = st.text(
    alphabet="aeiouãõáéíóúâêôçÇÃbcdfglmnprstv ABC.,;:!?—-–“”‘’«»…\n\t&<>'\"0123456789ªº€", max_size=120
)
SIDE_BY_SIDE = st.text(alphabet="áàâãçéêíóõúüñÁÀÂÃÇÉÊÍÓÕÚÜÑºª°–—“”‘’«»…•§ aSz.'", max_size=12)
"""Usual characters in unusual neighbourhoods, by which ftfy knows misread bytes."""
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
@given(st.one_of(PORTUGUESE, SIDE_BY_SIDE, MOJIBAKE, st.text(max_size=60)))
@example("Ã ")
@example("”é")
@example("Ãª\nÃ€")
def test_the_short_cut_gives_what_ftfy_gives(text: str) -> None:
    """`fix_encoding` asks ftfy only for lines that look suspicious; what ftfy would mend must look so."""
    lines = unicodedata.normalize("NFC", text).split("\n")
    assert fix_encoding(text) == "\n".join(ftfy.fix_text(line, FTFY) for line in lines)


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


def test_every_document_that_changed_is_recorded_and_no_other(tmp_path: Path) -> None:
    texts = [
        "Tudo em ordem, nada a fazer aqui.",
        "dois  espaços bem no meio desta linha",
        "e\u0301 a avo\u0301 de todos nós",
    ]
    facts = cleaned(tmp_path, texts, [])
    kept = {row["id"]: row["text"] for row in read_rows(tmp_path / "out", "training")}
    record = {row["id"]: row for row in read_rows(tmp_path / "out", "removed")}
    assert record.keys() == {number for number, text in kept.items() if text != texts[int(number[1:])]} == {"d1", "d2"}
    assert record["d2"]["detail"] == "normal_form"
    assert all(row["before"] in texts[int(number[1:])] for number, row in record.items())
    assert all(row["after"] in kept[number] for number, row in record.items())
    assert facts["changed_by_rule"] == {"white_space": 1, "normal_form": 1}


def test_accents_have_one_form_whatever_is_switched_off() -> None:
    settings = SETTINGS.model_copy(update={"fix_encoding": False, "unwrap": False})
    assert clean_text("avo\u0301", settings) == ("avó", ["normal_form"])


def test_damaged_documents_of_the_world_are_restored() -> None:
    """All planted damage is undone; hard wraps from `FEWEST_LINES` lines on, for fewer lines tell nothing."""
    world = World.build(WorldSettings(documents=600, people=20, noise=0.5, duplicates=0, near_duplicates=0), 3)
    for index in range(600):
        document, original = world_document(world, index), generate_document(world, index).text
        assert clean_text(original, SETTINGS) == (original, [])
        if document.text.count("\n") not in (1, 2):
            assert clean_text(document.text, SETTINGS)[0] == original


def test_cleaning_has_no_step_that_is_slow() -> None:
    """Half a megabyte, every line broken, in 5 s (measured: .7 s): nothing is quadratic in the number of lines."""
    text = "\n".join(f"“É a linha {number}, com   aspas e nÃ£o sei que mais" for number in range(10_000))
    start = time.process_time()
    clean_text(text, SETTINGS)
    assert time.process_time() - start < 5


def test_rules_can_be_switched_off(tmp_path: Path) -> None:
    facts = cleaned(tmp_path, ["nÃ£o se mexe nisto aqui"], [], fix_encoding=False, unwrap=False)
    assert facts["changed_by_rule"] == {}


def test_no_text_left_is_an_error_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="minimum_characters"):
        cleaned(tmp_path, ["a", "b"], ["c"])


def test_settings_need_nothing_but_their_fields() -> None:
    plain = SimpleNamespace(fix_encoding=True, unwrap=False, minimum_characters=1)
    assert clean_text("nÃ£o", plain) == ("não", ["fix_encoding"])  # type: ignore[arg-type]

"""Documents on disk: the schema and its version, bounded parts and batches, and what the record of a change shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from treino import files
from treino.corpus import documents
from treino.corpus.documents import (
    DOCUMENTS,
    EXCERPT,
    REMOVED,
    Writer,
    content_hash,
    iterate_texts,
    part_files,
    read_documents,
    read_rows,
    removed_row,
    write_rows,
)
from treino.errors import DataError


def row(number: int, text: str) -> dict[str, Any]:
    plain = {"source": f"s:{number}", "language": "pt", "licence": "", "weight": 1.0, "meta": "{}"}
    return {"id": f"d{number:05d}", "text": text, "content_hash": content_hash(text), **plain}


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [row(number, f"texto à parte {number}\n\n𝄞") for number in range(5000)]
    assert write_rows(tmp_path / "training", rows) == 5000
    assert list(read_rows(tmp_path, "training")) == rows
    assert list(iterate_texts(tmp_path, "training"))[4999] == ("d04999", rows[4999]["text"])
    assert list(read_rows(tmp_path, "held_out")) == []


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / name / "training", [row(number, "texto") for number in range(50)])
    assert files.sha256_file(tmp_path / "a/training/part-00000.parquet") == files.sha256_file(
        tmp_path / "b/training/part-00000.parquet"
    )


@pytest.mark.parametrize("version", ["2", "0", None])
def test_documents_of_another_schema_are_refused(tmp_path: Path, version: str | None) -> None:
    write_rows(tmp_path / "training", [row(1, "texto")])
    path = tmp_path / "training" / "part-00000.parquet"
    table = pq.read_table(path).replace_schema_metadata({"treino.documents": version} if version else {})
    pq.write_table(table, path)
    with pytest.raises(DataError, match=f"format {version or '[?]'}") as error:
        list(read_rows(tmp_path, "training"))
    assert path.name in str(error.value)


@pytest.mark.parametrize("schema", [DOCUMENTS, REMOVED])
def test_a_part_is_written_before_it_grows_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: pa.Schema
) -> None:
    """Counted are all strings of a row: the record of changes has no text, and would grow without end."""
    monkeypatch.setattr(documents, "PART_BYTES", 10_000)
    most = 0
    with Writer(tmp_path / "training", schema) as writer:
        for number in range(2000):
            writer.add(
                row(number, "x" * 100) if schema is DOCUMENTS else removed_row(row(number, "x" * 100), "too_short")
            )
            most = max(most, len(writer.rows))
    assert most < 100
    assert writer.count == 2000 == sum(pq.read_metadata(path).num_rows for path in part_files(tmp_path, "training"))


def test_reading_holds_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "BATCH_ROWS", 64)
    write_rows(tmp_path / "training", [row(number, "texto") for number in range(1000)])
    sizes = [batch.num_rows for batch in read_documents(tmp_path, "training", ["id"])]
    assert sum(sizes) == 1000
    assert max(sizes) <= 64


def test_an_interrupted_writer_leaves_no_part(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Writer(tmp_path / "training", DOCUMENTS) as writer:
        writer.add(row(1, "texto"))
        raise KeyboardInterrupt
    assert not part_files(tmp_path, "training")


def test_a_record_shows_the_first_difference_and_no_more_than_an_excerpt() -> None:
    before = "a" * 1000 + "NÃ£o" + "b" * 1000
    shown = removed_row(row(1, before), "changed", "fix_encoding", before.replace("Ã£", "ã"))
    assert "aNÃ£ob" in shown["before"]
    assert "aNãob" in shown["after"]
    assert max(len(shown["before"]), len(shown["after"])) <= EXCERPT
    assert removed_row(row(1, "curto"), "too_short", "5")["before"] == "curto"


def test_one_text_in_two_normal_forms_is_one_content() -> None:
    assert content_hash("avó") == content_hash("avo\u0301") != content_hash("avô")

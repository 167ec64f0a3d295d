"""Golden digests over the logical rows of the text stages: their outputs do not change unnoticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from treino import files
from treino.corpus.clean import clean
from treino.corpus.collect import collect
from treino.corpus.decontaminate.decontaminate import decontaminate
from treino.corpus.deduplicate.deduplicate import deduplicate
from treino.corpus.documents import read_rows
from treino.recipe import (
    CleanSettings,
    CorpusSettings,
    DecontaminateSettings,
    DeduplicateSettings,
    SourceSettings,
    WorldSettings,
)

GOLDEN: dict[str, dict[str, str]] = {
    "world": {
        "collect": "37b9c72bf444f6ca0c4cdf8c9ccc4b1ae4631362d9705b6775820162256a147e",
        "clean": "8873e569e08c5f6f14ddf60ae414e145003b38dc5fcbdb113002416a76dfdb9f",
        "deduplicate": "3ccdc490cb45911470b210d75cf555585b08007ade08658ce4f79dec67f8ac8e",
        "decontaminate": "f34113d7e6806b90e4860e73a61a451d2828f6b52ea0ddf1b69d9dea1d8ee328",
    },
    "texts": {
        "collect": "9580eadba9c2097efde2659c1e62797c9c6dedc780faa9e60f206da830a7e502",
        "clean": "a1de92fe9be1ed2fcfbad06bcb2b3a2b5e65e184d9bad4ec5af406319dbf822c",
        "deduplicate": "5687e3ba018a3a6ff6c5fccc15dd3c0ecadedd54773fa451bd0adb0aed04ab5b",
        "decontaminate": "c6d765f39d16afe76c96a2e3de8a6540e9dfe1ea0c16bef5c84343f272716f74",
    },
}
CORPORA = {
    "world": CorpusSettings(sources=(SourceSettings(path="world"),), held_out=0.1),
    "texts": CorpusSettings(sources=(SourceSettings(path="textos"),), held_out=("prosa.txt",)),
}
WORLD = WorldSettings(documents=200, people=10, duplicates=0.05, near_duplicates=0.05, noise=0.2)
WRAPPED = """Uma noite destas, vindo da cidade para o bairro, encontrei no trem um rapaz que eu
conheço de vista e de chapéu. Cumprimentou-me, sentou-se ao pé de mim, falou da lua e
dos ministros, e acabou recitando versos. A viagem era curta, e os versos pode ser que
não fossem inteiramente maus."""
LINES = """{"text": "Primeira linha boa, sem dúvida."}
{
{"text": "Segunda linha boa, sem dúvida."}
{"text": "SEGUNDA linha boa, sem dúvida."}
"""


def folder_of_texts(folder: Path) -> Path:
    """A little of everything: wrapped prose, verse, two encodings, a table, broken lines, a copy, a text too short."""
    (folder / "textos" / "à parte").mkdir(parents=True)
    for name, content in {
        "prosa.txt": WRAPPED.encode(),
        "à parte/cópia.txt": WRAPPED.upper().encode(),
        "verso.txt": "Minha terra tem palmeiras,\nOnde canta o sabiá;".encode("latin-1"),
        "estragado.txt": "NÃ£o Ã© assim, \u200bmenino.  Venha  cá.".encode(),
        "curto.txt": b"oi",
        "nfd.txt": "A avo\u0301 voltou de la\u0301 ontem.".encode(),
        "linhas.jsonl": LINES.encode(),
        "tabela.csv": b'id;texto\n1;"Um texto em\nduas linhas."\n2;a;b\n',
    }.items():
        (folder / "textos" / name).write_bytes(content)
    (folder / "perguntas.txt").write_text("Onde canta o sabiá\nQuem é?\n", encoding="utf-8")
    return folder


def rows_digest(folder: Path) -> str:
    """SHA-256 of the rows of all parts: sorted, in canonical JSON, whatever the files look like."""
    rows = [[part, logical(row)] for part in ("training", "held_out", "removed") for row in read_rows(folder, part)]
    return files.digest(sorted(rows, key=json.dumps))


def logical(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its probability in few enough digits, for logarithms differ in the last one between machines."""
    if "meta" not in row:
        return row
    meta = json.loads(row["meta"])
    rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in meta.items()}
    return row | {"meta": rounded}


@pytest.mark.parametrize("source", GOLDEN)
def test_golden_rows(tmp_path: Path, source: str) -> None:
    base = folder_of_texts(tmp_path / "x")
    collect(CORPORA[source], WORLD, tmp_path / "collect", 7, base)
    clean(CleanSettings(), tmp_path / "collect", tmp_path / "clean")
    deduplicate(DeduplicateSettings(), tmp_path / "clean", tmp_path / "deduplicate")
    asked = DecontaminateSettings(against=("perguntas.txt",))
    decontaminate(asked, tmp_path / "deduplicate", tmp_path / "decontaminate", base=base)
    for stage, known in GOLDEN[source].items():
        assert rows_digest(tmp_path / stage) == known, (
            f"the output of {stage} changed: if that is meant, raise the version of {stage} (the second argument of its "
            "Stage in src/treino/pipeline/stages.py), then write the new digest here"
        )


def test_the_little_of_everything_meets_the_rules(tmp_path: Path) -> None:
    """A golden digest says nothing of a rule that its texts never meet."""
    collect(CORPORA["texts"], WORLD, tmp_path / "a", 7, folder_of_texts(tmp_path / "x"))
    facts = clean(CleanSettings(), tmp_path / "a", tmp_path / "b")
    last = deduplicate(DeduplicateSettings(), tmp_path / "b", tmp_path / "c")
    assert facts["changed_by_rule"].keys() == {"normal_form", "fix_encoding", "controls", "white_space", "unwrap"}
    assert facts["removed_by_rule"] == {"too_short": 1}
    assert last["removed_by_rule"] == {"also_held_out": 1, "duplicate": 1}

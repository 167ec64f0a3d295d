"""The tokenise stage: what lies on disk, what is kept for validation, and what is never opened."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from treino.corpus.documents import DOCUMENTS, content_hash, write_rows
from treino.errors import DataError
from treino.recipe import TokenSettings
from treino.tokens.shards import open_shard
from treino.tokens.tokenise import tokenise as run_stage
from treino.tokens.tokenizer import Tokenizer, train_tokenizer


def row(number: int, text: str) -> dict[str, Any]:
    plain = {"source": "s", "language": "pt", "licence": "", "weight": 1.0, "meta": "{}"}
    return {"id": f"d{number:05d}", "text": text, "content_hash": content_hash(text), **plain}


def documents(folder: Path, training: list[str], held_out: list[str] = ()) -> Path:  # type: ignore[assignment]
    for part, texts in (("training", training), ("held_out", list(held_out))):
        write_rows(folder / part, [row(number, text) for number, text in enumerate(texts)], DOCUMENTS)
    return folder


def tokenise(settings: TokenSettings, source: Path, output: Path, seed: int) -> dict[str, Any]:
    output.mkdir()
    return run_stage(settings, source, output, seed)


def sentences(count: int) -> list[str]:
    return [f"O gato número {number} dorme no telhado da casa {number % 7}, à noite." for number in range(count)]


def texts_of(output: Path, part: str) -> list[str]:
    tokenizer, shard = Tokenizer.load(output), open_shard(output, part)
    return [tokenizer.decode(shard.document(index).tolist()) for index in range(len(shard))]


def test_whole_documents_are_split_and_nothing_is_lost(tmp_path: Path) -> None:
    texts = sentences(200)
    facts = tokenise(
        TokenSettings(vocabulary=300, validation=0.1), documents(tmp_path / "in", texts), tmp_path / "o", 1
    )
    training, validation = texts_of(tmp_path / "o", "training"), texts_of(tmp_path / "o", "validation")
    assert sorted(training + validation) == sorted(texts)
    assert not set(training) & set(validation)
    assert facts["training_tokens"] + facts["validation_tokens"] == sum(
        len(Tokenizer.load(tmp_path / "o").encode(text)) + 1 for text in texts
    )
    share = facts["validation_tokens"] / (facts["training_tokens"] + facts["validation_tokens"])
    assert share == pytest.approx(0.1, abs=0.01)
    assert (facts["documents_in"], facts["training_documents"]) == (200, len(training))
    record = json.loads((tmp_path / "o" / "tokens.json").read_text(encoding="utf-8"))
    assert record["parts"]["training"]["bytes"] == sum(len(text.encode()) for text in training)


def test_each_document_ends_with_the_end_token_and_offsets_say_where(tmp_path: Path) -> None:
    texts = sentences(30)
    tokenise(TokenSettings(vocabulary=300), documents(tmp_path / "in", texts), tmp_path / "o", 1)
    shard = open_shard(tmp_path / "o", "training")
    ends = shard.offsets[1:] - 1
    assert set(shard.tokens[ends].tolist()) == {0}
    assert int((shard.tokens == 0).sum()) == len(shard)
    assert shard.tokens.dtype == np.dtype("<u2")


@pytest.mark.parametrize("texts", [sentences(1), sentences(5), [" ".join(sentences(400)), *sentences(25)]])
def test_of_few_or_long_documents_the_tails_are_kept(texts: list[str], tmp_path: Path) -> None:
    settings = TokenSettings(vocabulary=300, validation=0.1)
    facts = tokenise(settings, documents(tmp_path / "in", texts), tmp_path / "o", 1)
    training, validation = texts_of(tmp_path / "o", "training"), texts_of(tmp_path / "o", "validation")
    assert len(training) == len(texts)
    whole = {head + tail for head in training for tail in validation}
    assert set(texts) <= whole | set(training)
    assert facts["validation_tokens"] / facts["training_tokens"] < 0.15


def test_no_validation_where_none_is_asked_for(tmp_path: Path) -> None:
    facts = tokenise(
        TokenSettings(vocabulary=300, validation=0.0), documents(tmp_path / "in", sentences(40)), tmp_path / "o", 1
    )
    assert facts["validation_tokens"] == 0
    assert len(open_shard(tmp_path / "o", "validation")) == 0


def test_held_out_text_changes_nothing(tmp_path: Path) -> None:
    with_words = documents(tmp_path / "a", sentences(40), ["palavras xilofone xilofone xilofone nunca vistas"] * 9)
    tokenise(TokenSettings(vocabulary=400), with_words, tmp_path / "x", 1)
    tokenise(TokenSettings(vocabulary=400), documents(tmp_path / "b", sentences(40)), tmp_path / "y", 1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "y").iterdir()
    }


def test_the_seed_chooses_the_validation_part(tmp_path: Path) -> None:
    source = documents(tmp_path / "in", sentences(100))
    chosen = []
    for seed in (1, 1, 2):
        folder = tmp_path / f"o{len(chosen)}"
        tokenise(TokenSettings(vocabulary=300, validation=0.1), source, folder, seed)
        chosen.append(texts_of(folder, "validation"))
    assert chosen[0] == chosen[1] != chosen[2]


def test_words_count_what_they_do_not_know(tmp_path: Path) -> None:
    settings = TokenSettings(kind="words", vocabulary=12, lowercase=True)
    facts = tokenise(settings, documents(tmp_path / "in", sentences(50)), tmp_path / "o", 1)
    assert facts["vocabulary"] == 12
    assert facts["unknown_tokens"] > 0


def test_no_text_is_an_error_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text is left"):
        tokenise(TokenSettings(vocabulary=300), documents(tmp_path / "in", []), tmp_path / "o", 1)


@pytest.mark.parametrize("name", ["training.bin", "training.offsets.bin"])
def test_a_shard_of_another_size_is_named(tmp_path: Path, name: str) -> None:
    tokenise(TokenSettings(vocabulary=300), documents(tmp_path / "in", sentences(30)), tmp_path / "o", 1)
    path = tmp_path / "o" / name
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match=name):
        open_shard(tmp_path / "o", "training")


GOLDEN = "7f10a49e631afa89fa1194fe6e0baa75ef13cd14e9e2b59b9381ddeda701ad39"


def test_golden_digest(tmp_path: Path) -> None:
    """Where this fails on purpose, raise the version of the stage `tokenise` in pipeline/stages.py, then the digest here."""
    tokenise(
        TokenSettings(vocabulary=300, validation=0.1), documents(tmp_path / "in", sentences(60)), tmp_path / "o", 1
    )
    digest = hashlib.sha256()
    for path in sorted((tmp_path / "o").iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    assert digest.hexdigest() == GOLDEN


def test_documents_begin_with_the_token_of_the_model_that_goes_on(tmp_path: Path) -> None:
    own = train_tokenizer(iter(sentences(50)), TokenSettings(vocabulary=300))
    text = own.inner.to_str().replace("<|endoftext|>", "</s>").replace("<|pad|>", "<s>")
    (tmp_path / "base").mkdir()
    type(own.inner).from_str(text).save(str(tmp_path / "base" / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "base" / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "o").mkdir()
    source = documents(tmp_path / "in", sentences(50))
    run_stage(TokenSettings(validation=0.1), source, tmp_path / "o", 1, base=tmp_path / "base")
    begin, end = (Tokenizer.load(tmp_path / "base").inner.token_to_id(name) for name in ("<s>", "</s>"))
    for part in ("training", "validation"):
        shard = open_shard(tmp_path / "o", part)
        assert (shard.first_input, shard.end_of_text) == (begin, end) and begin != end

"""Tokenising a documents folder, beside the batch encoding of `tokenizers` alone and tiktoken's, over one vocabulary.

    python benchmarks/corpus.py tokenise --data FOLDER [--megabytes 32] [--pairs 5] [--vocabulary 8192]

Treino reads Parquet, encodes, and writes the shard; `tokenizers` (`encode_batch`) and tiktoken (`encode_ordinary_batch`, where
it is installed) encode the same texts, which are in memory already. All have the processors that this process may use, and
take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from near import documents, sentences
from treino import environment
from treino.corpus.documents import content_hash, write_rows
from treino.recipe import TokenSettings
from treino.tokens.shards import write_part
from treino.tokens.tokenise import encode_documents
from treino.tokens.tokenizer import Tokenizer, train_tokenizer


def ours(tokenizer: Tokenizer, folder: Path) -> int:
    """Encode the documents of a folder into a shard; returns the tokens."""
    rows, _ids, _sizes = encode_documents(tokenizer, folder)
    with tempfile.TemporaryDirectory() as output:
        write_part(Path(output), "training", rows, tokenizer.end_of_text, "uint16")
    return sum(map(len, rows))


def tiktoken_encoding(tokenizer: Tokenizer) -> object | None:
    """The same byte-level vocabulary as an encoding of tiktoken's; None where that is not installed."""
    try:
        import tiktoken
    except ImportError:
        return None
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet(), key=ord)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelt = {chr(byte): byte for byte in plain}
    others = [byte for byte in range(256) if byte not in plain]
    spelt |= {chr(256 + place): byte for place, byte in enumerate(others)}
    assert set(spelt) == set(letters)
    vocabulary = tokenizer.inner.get_vocab(with_added_tokens=False)
    known = {
        bytes(spelt[sign] for sign in name): number for name, number in vocabulary.items() if set(name) <= set(spelt)
    }
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    return tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=known, special_tokens={})


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="corpus.py tokenise", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=32)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--vocabulary", type=int, default=8192)
    asked = parser.parse_args(words)
    texts = list(documents(sentences(asked.data), asked.megabytes))
    size = sum(len(text.encode()) for text in texts) / 1e6
    tokenizer = train_tokenizer(iter(texts[:4000]), TokenSettings(vocabulary=asked.vocabulary))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = {"source": "benchmark", "language": "pt", "licence": "", "weight": 1.0, "meta": "{}"}
        rows = (
            {"id": f"{n:08d}", "text": text, "content_hash": content_hash(text)} | empty for n, text in enumerate(texts)
        )
        write_rows(folder / "training", rows)
        encoding = tiktoken_encoding(tokenizer)
        work: dict[str, Callable[[], object]] = {
            "treino, Parquet to shard": lambda: ours(tokenizer, folder),
            "tokenizers, encode_batch": lambda: tokenizer.inner.encode_batch(texts, add_special_tokens=False),
        }
        if encoding:
            threads = environment.processors()
            work["tiktoken"] = lambda: encoding.encode_ordinary_batch(texts, num_threads=threads)  # type: ignore[attr-defined]
        taken: dict[str, list[float]] = {title: [] for title in work}
        for _ in range(asked.pairs):
            for title, one in work.items():
                started = time.perf_counter()
                one()
                taken[title].append(time.perf_counter() - started)
    print(f"{len(texts)} documents, {size:.1f} MB, vocabulary {tokenizer.size}, {environment.processors()} processors")
    for title, seconds in taken.items():
        print(f"{title:28} {size / statistics.median(seconds):6.2f} MB/s")
    first, second, *_ = taken.values()
    ratios = [theirs / mine for mine, theirs in zip(first, second, strict=True)]
    print(f"treino : tokenizers = {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")

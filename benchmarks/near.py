"""Near-deduplication end to end, beside datatrove's MinHash on the same text; truth beside all pairs of a subset.

    python benchmarks/corpus.py near --data FOLDER [--megabytes 64] [--pairs 3] [--datatrove PYTHON]

FOLDER holds .txt files; their sentences, drawn anew, make documents of a stated length, of which a stated share are exact and
near copies. datatrove runs in the interpreter of an environment of its own (`pip install datatrove[processing]`).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from treino import environment
from treino.corpus.deduplicate.deduplicate import deduplicate
from treino.corpus.documents import content_hash, read_rows, write_rows
from treino.recipe import DeduplicateSettings

SENTENCE = re.compile(r"(?<=[.!?])\s+")
EXACT, NEAR = 0.1, 0.1
"""Shares of copies among the documents."""
WORDS = 300
CHANGED = 0.015
"""Share of the words that a near copy has changed: five times that many 5-grams, so a similarity of about .86."""


def sentences(data: Path) -> list[str]:
    """The sentences of all .txt files below a folder, white space evened."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in sorted(data.rglob("*.txt")))
    found = (" ".join(sentence.split()) for text in texts for sentence in SENTENCE.split(text))
    return [sentence for sentence in found if 20 < len(sentence) < 400]


def documents(pool: list[str], megabytes: float, words: int = WORDS, seed: int = 1) -> Iterator[str]:
    """Documents of about so many words until there are so many MB of UTF-8."""
    draw, made, size = random.Random(seed), [], 0
    while size < megabytes * 1e6:
        kind = draw.random() if made else 1.0
        if kind < EXACT + NEAR:
            text = draw.choice(made)
            if kind < NEAR:
                changed = text.split(" ")
                for _ in range(max(1, round(len(changed) * CHANGED))):
                    changed[draw.randrange(len(changed))] = draw.choice(("também", "ainda", "sempre", "talvez"))
                text = " ".join(changed)
        else:
            lines, count = [], 0
            while count < words:
                lines.append(draw.choice(pool))
                count += len(lines[-1].split())
            text = "\n".join(" ".join(lines[start : start + 4]) for start in range(0, len(lines), 4))
            made.append(text)
        size += len(text.encode())
        yield text


def write(folder: Path, texts: Iterator[str]) -> float:
    """A documents folder of Treino's and the same as JSON lines, in two files; returns MB of text."""
    size = 0
    (folder / "lines").mkdir(parents=True)
    with open(folder / "lines" / "0.jsonl", "w") as first, open(folder / "lines" / "1.jsonl", "w") as second:

        def rows() -> Iterator[dict[str, object]]:
            nonlocal size
            for number, text in enumerate(texts):
                size += len(text.encode())
                name = f"{number * 2654435761 % 2**32:08x}{number:016x}"
                (first, second)[number % 2].write(json.dumps({"text": text, "id": name}, ensure_ascii=False) + "\n")
                plain = {"source": "bench", "language": "pt", "licence": "", "weight": 1.0, "meta": "{}"}
                yield {"id": name, "text": text, "content_hash": content_hash(text), **plain}

        write_rows(folder / "documents" / "training", rows())  # type: ignore[arg-type]
    write_rows(folder / "documents" / "held_out", [])
    return size / 1e6


def treino_seconds(folder: Path, output: Path) -> tuple[float, int]:
    """Wall-clock seconds of the whole stage in this process, and documents that stay."""
    settings = DeduplicateSettings(paragraphs=False)
    started = time.perf_counter()
    facts = deduplicate(settings, folder / "documents", output)
    return time.perf_counter() - started, facts["documents_out"]


DATATROVE = """
import sys, time, glob, json
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupSignature, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.typeshelper import Languages

source, work, workers = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = MinhashConfig(hash_config=HashConfig(precision=64), n_grams=5)

def go(steps, name, tasks, depends=None):
    LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=workers, logging_dir=f"{work}/logs/{name}",
                          start_method="spawn").run()

if __name__ == "__main__":
    started = time.perf_counter()
    reader = JsonlReader(source)
    language = Languages.portuguese
    go([reader, MinhashDedupSignature(f"{work}/signatures", config=config, language=language)], "signatures", workers)
    go([MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config)], "buckets", config.num_buckets)
    go([MinhashDedupCluster(f"{work}/buckets", f"{work}/remove", config=config)], "cluster", 1)
    go([reader, MinhashDedupFilter(f"{work}/remove"), JsonlWriter(f"{work}/out", compression=None)], "filter", workers)
    seconds = time.perf_counter() - started
    kept = sum(1 for path in glob.glob(f"{work}/out/*.jsonl") for _ in open(path))
    print(json.dumps({"seconds": seconds, "kept": kept}))
"""


def datatrove_seconds(python: str, folder: Path, work: Path) -> tuple[float, int]:
    """Wall-clock seconds of datatrove's four passes with as many workers as processors, and documents that stay."""
    script = work / "peer.py"
    work.mkdir()
    script.write_text(DATATROVE)
    command = [python, str(script), str(folder / "lines"), str(work), str(environment.processors())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return told["seconds"], told["kept"]


def main(arguments: list[str]) -> None:
    """Compare, and print MB/s of each; one line a pair, then medians; then the growth over 1×, 4× and 16×."""
    parser = argparse.ArgumentParser(prog="corpus.py near")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=32)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--datatrove", help="the interpreter of an environment with datatrove")
    parser.add_argument("--growth", action="store_true", help="1×, 4×, 16× instead of the comparison")
    options = parser.parse_args(arguments)
    cores = environment.processors()
    pool = sentences(options.data)
    if not pool:
        sys.exit(f"no .txt file with sentences in {options.data}: nothing to measure")
    with tempfile.TemporaryDirectory(prefix="near-") as temporary:
        folder = Path(temporary)
        if options.growth:
            return _growth(pool, options.megabytes, folder, cores)
        size = write(folder, documents(pool, options.megabytes))
        count = sum(1 for _ in read_rows(folder / "documents", "training", ["id"]))
        print(f"{size:.1f} MB, {count} documents of about {WORDS} words, {cores} cores")
        print(f"{EXACT:.0%} of them are exact copies, {NEAR:.0%} near ones")
        rates: dict[str, list[float]] = {"treino": [], "datatrove": []}
        for pair in range(options.pairs):
            seconds, kept = treino_seconds(folder, folder / f"treino{pair}")
            rates["treino"].append(size / seconds)
            line = f"pair {pair + 1}: treino {size / seconds:.1f} MB/s ({kept} kept)"
            if options.datatrove:
                other, kept_there = datatrove_seconds(options.datatrove, folder, folder / f"datatrove{pair}")
                rates["datatrove"].append(size / other)
                line += f", datatrove {size / other:.2f} MB/s ({kept_there} kept), ratio {other / seconds:.1f}"
            print(line, flush=True)
        for name, found in rates.items():
            if found:
                rate = statistics.median(found)
                print(f"{name}: median {rate:.2f} MB/s of wall-clock, {rate / cores:.2f} per core")
    return None


def _growth(pool: list[str], megabytes: float, folder: Path, cores: int) -> None:
    """Milliseconds per MB at 1×, 4× and 16× the text, the median of three turns each, in turns."""
    sizes = {factor: write(folder / f"{factor}", documents(pool, factor * megabytes)) for factor in (1, 4, 16)}
    times: dict[int, list[float]] = {factor: [] for factor in sizes}
    for turn in range(3):
        for factor, size in sizes.items():
            times[factor].append(treino_seconds(folder / f"{factor}", folder / f"{factor}-{turn}")[0] / size * 1e3)
    base = statistics.median(times[1])
    for factor, found in times.items():
        middle = statistics.median(found)
        rate = 1e3 / middle / cores
        print(
            f"{factor:2d}× ({sizes[factor]:.0f} MB): {middle:.1f} ms/MB, {rate:.1f} MB/s per core, {middle / base - 1:+.0%}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])

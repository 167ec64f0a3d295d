"""Speed of clean + language + quality, beside datatrove's mending and quality filters on the same text.

    python benchmarks/corpus.py filters --data FOLDER [--megabytes 64] [--words 500] [--pairs 3] [--datatrove PYTHON]

FOLDER holds .txt files; stretches of them, of a stated number of words, are the documents (the same stretch never twice in
one round, cut elsewhere in the next). Wall-clock of everything from Parquet to Parquet (datatrove: from JSON lines to JSON
lines), divided by the processors; runs of both take turns. The processor time of each step is told beside it: on a busy
machine it says more.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from treino import environment, files
from treino.corpus import documents as on_disk
from treino.corpus.clean import Clean
from treino.corpus.documents import content_hash, read_rows, write_rows
from treino.corpus.filters.language import Language
from treino.corpus.filters.quality import Quality
from treino.corpus.shards import STEPS, Step, apply
from treino.recipe import CleanSettings

SHARDS = 8
"""Parts that the documents are written in, so that every processor has some to do."""

DATATROVE = Path(__file__).parent / "contenders" / "datatrove_filters.py"


def stretches(data: Path, megabytes: float, words: int) -> Iterator[str]:
    """Stretches of about so many words from all .txt files below a folder, whole lines, until there are so many MB."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(data.rglob("*.txt"))]
    size, shift = 0, 0
    while size < megabytes * 1e6:
        for text in texts:
            lines = text.split("\n")[shift:]
            chosen: list[str] = []
            count = 0
            for line in lines:
                chosen.append(line)
                count += len(line.split())
                if count >= words:
                    yield "\n".join(chosen)
                    size += len("\n".join(chosen).encode())
                    chosen, count = [], 0
                    if size >= megabytes * 1e6:
                        return
        shift += 7


def write_documents(texts: list[str], folder: Path) -> int:
    """The texts as pages, in Parquet parts and in JSON lines of the same parts; returns their bytes."""
    size = sum(len(text.encode()) for text in texts)
    on_disk.PART_BYTES = size // SHARDS
    rows = [
        {
            "id": f"{number:08d}",
            "text": text,
            "source": f"site/{number}",
            "content_hash": content_hash(text),
            "language": "pt",
            "licence": "",
            "weight": 1.0,
            "meta": '{"kind": "web"}',
        }
        for number, text in enumerate(texts)
    ]
    write_rows(folder / "parquet/training", rows)
    write_rows(folder / "parquet/held_out", [])
    (folder / "json").mkdir()
    for shard in range(SHARDS):
        with (folder / f"json/{shard}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"id": row["id"], "text": row["text"]}) + "\n" for row in rows[shard::SHARDS])
    return size


def own(folder: Path, steps: list[Step]) -> tuple[float, set[str], dict[str, float]]:
    """Seconds, the ids that stay, and the processor seconds of each step, over all processes."""
    output = folder / "own"
    started = time.perf_counter()
    apply(steps, folder / "parquet", output, "filter")
    seconds = time.perf_counter() - started
    kept = {row["id"] for row in read_rows(output, "training", ["id"])}
    spent = {account["step"]: account["seconds"] for account in files.read_json(output / STEPS)}
    shutil.rmtree(output)
    return seconds, kept, spent


def datatrove(python: str, folder: Path, workers: int) -> tuple[float, set[str]]:
    """Seconds, and the ids that stay."""
    output = folder / "datatrove"
    command = [python, str(DATATROVE), str(folder / "json"), str(output), str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    shutil.rmtree(output)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"], set(answer["kept"])


def main(arguments: list[str]) -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=64)
    parser.add_argument("--words", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--datatrove", default="", help="the interpreter of an environment that has it")
    options = parser.parse_args(arguments)
    if not options.data.is_dir():
        sys.exit(f"skipped: there is no folder {options.data}")
    steps: list[Step] = [Clean(CleanSettings()), Language(("pt",)), Quality("web")]
    cores = environment.processors()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = list(stretches(options.data, options.megabytes, options.words))
        megabytes = write_documents(texts, folder) / 1e6
        print(f"{len(texts)} documents, {megabytes:.1f} MB, {options.words} words each, {cores} processors")
        rates: dict[str, list[float]] = {}
        for _ in range(options.pairs):
            seconds, kept, spent = own(folder, steps)
            rates.setdefault("treino", []).append(megabytes / seconds / cores)
            for step, busy in (spent | {"steps": sum(spent.values())}).items():
                rates.setdefault(f"  {step}, processor time", []).append(megabytes / busy)
            if options.datatrove:
                seconds, others = datatrove(options.datatrove, folder, cores)
                rates.setdefault("datatrove", []).append(megabytes / seconds / cores)
                print(f"kept: {len(kept)} by treino, {len(others)} by datatrove, {len(kept & others)} by both")
        for contender, values in rates.items():
            spread = f"{min(values):.2f}–{max(values):.2f}"
            print(f"{contender:28} {statistics.median(values):6.2f} MB/s per core ({spread})")


if __name__ == "__main__":
    main(sys.argv[1:])

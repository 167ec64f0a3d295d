"""Memory and time of the document stages as the corpus grows: 1×, 4×, 16× the text, and 3 GB.

    python benchmarks/corpus_growth.py [--data DIR] [--megabytes 190 750 3000] [--stages collect clean ...]

The text is JSON lines of documents of about 2 kB, made of runs of four to eight words from the texts in DIR (of the embedded
world without it), so that no two documents share a longer one. Each size runs in a process of its own, from raw text through
all stages that make documents. Measured are the largest sum of the resident memory of all its processes, looked at ten times
a second (pages that processes share count for each), and for each stage the sum of what each process held at most, wall and
processor seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

FILE_BYTES = 50_000_000
DOCUMENT_BYTES = 2_000
LIMIT = 1.5e9
WITHIN = 0.15


def words(data: Path | None) -> list[str]:
    """Words to make documents of, each with the white space behind it."""
    if data:
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(data.rglob("*.txt"))]
    else:
        from treino.corpus.world.documents import generate_document
        from treino.corpus.world.facts import World
        from treino.recipe import WorldSettings

        world = World.build(WorldSettings(documents=20_000), 0)
        texts = [generate_document(world, number).text for number in range(20_000)]
    return [word for text in texts for word in re.findall(r"\S+\s*", text + "\n\n")]


def write_text(pool: list[str], megabytes: float, folder: Path) -> tuple[int, int]:
    """JSON lines with so much text; returns documents and bytes of text."""
    draw = random.Random(7)
    documents = size = 0
    while size < megabytes * 1e6:
        with open(folder / f"{size // FILE_BYTES:05d}.jsonl", "w", encoding="utf-8") as file:
            written = 0
            while written < FILE_BYTES and size < megabytes * 1e6:
                text = _document(pool, draw)
                file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                bytes_of_text = len(text.encode())
                written, size, documents = written + bytes_of_text, size + bytes_of_text, documents + 1
    return documents, size


def _document(pool: list[str], draw: random.Random) -> str:
    parts, length = [], 0
    while length < DOCUMENT_BYTES:
        first, count = draw.randrange(len(pool)), draw.randrange(4, 9)
        parts += pool[first : first + count]
        length += sum(map(len, parts[-count:]))
    return "".join(parts)


def child(source: str, runs: str, stages: list[str]) -> None:
    """Run the document stages; one JSON line for each with its seconds and memory."""
    import treino
    from treino import events
    from treino.pipeline.corpus_stages import CORPUS

    pipeline = tuple(stage for stage in CORPUS if stage.name in stages)
    spent = [sum(os.times()[:4])]

    def listener(event: events.Event) -> None:
        if event.kind == "stage.finished":
            spent.append(sum(os.times()[:4]))

    recipe = {"name": "growth", "corpus": {"sources": [source]}}
    made = treino.run(recipe, runs=runs, pipeline=pipeline, listener=listener).artefacts
    for number, (name, artefact) in enumerate(made.items()):
        row = {"wall": artefact.record["seconds"], "cpu": spent[number + 1] - spent[number]}
        print(json.dumps({"stage": name, "peak": artefact.record["peak_memory"]} | row))


def measure(source: Path, runs: Path, stages: list[str]) -> tuple[list[dict], float]:
    """Rows of the child, and the largest memory of its tree of processes."""
    command = [sys.executable, __file__, "--child", str(source), str(runs), "--stages", *stages]
    peak = 0.0
    with tempfile.TemporaryFile("w+") as told:
        started = subprocess.Popen(command, stdout=told)
        process = psutil.Process(started.pid)
        while started.poll() is None:
            peak = max(peak, _memory(process))
            time.sleep(0.1)
        if started.returncode:
            sys.exit(f"the stages ended with exit code {started.returncode}")
        told.seek(0)
        return [json.loads(line) for line in told], peak


def _memory(process: psutil.Process) -> float:
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[190, 750, 3000])
    parser.add_argument(
        "--stages", nargs="+", default=["collect", "clean", "filter", "deduplicate", "decontaminate", "order"]
    )
    parser.add_argument("--child", nargs=2, metavar=("SOURCE", "RUNS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.stages)
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    )
    pool = words(options.data)
    rates: list[float] = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "text"
            source.mkdir()
            documents, size = write_text(pool, megabytes, source)
            rows, peak = measure(source, Path(folder) / "runs", options.stages)
        print(f"{size / 1e6:.0f} MB, {documents} documents: peak {peak / 1e6:.0f} MB")
        for row in rows:
            speeds = [f"{size / 1e6 / max(row[name], 1e-9):.1f} MB/s {name}" for name in ("wall", "cpu")]
            print(f"  {row['stage']:<14} {row['wall']:7.1f} s  {', '.join(speeds)}, {row['peak'] / 1e6:.0f} MB at most")
        rates.append(1e6 * sum(row["cpu"] for row in rows) / size)
        print(
            f"  together {rates[-1]:.3f} processor seconds a MB, {rates[-1] / rates[0] - 1:+.0%} against the smallest",
            flush=True,
        )
        if peak > LIMIT:
            sys.exit(f"more than {LIMIT / 1e6:.0f} MB of memory")
    if max(rates) > (1 + WITHIN) * min(rates):
        sys.exit(f"the time for a MB differs by more than {WITHIN:.0%}")


if __name__ == "__main__":
    main()

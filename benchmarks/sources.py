"""Sources under stress and on real text: two thousand damaged files and lines of a gigabyte; the Constitution and Machado.

    python benchmarks/sources.py damaged [--files N] [--seed S]
    python benchmarks/sources.py huge
    python benchmarks/sources.py constitution --data DIR     DIR holds `constituicao`, six versions as HTML
    python benchmarks/sources.py machado --data DIR          DIR holds `machado`, 116 hard-wrapped texts

`make proof` runs the first two, and the others where it has the data.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import fuzzing  # noqa: E402  (it lies among the tests, which use it on a sample)
from treino.corpus.clean import clean_text  # noqa: E402
from treino.corpus.sources.document import RawDocument  # noqa: E402
from treino.corpus.sources.raw import Problems  # noqa: E402
from treino.corpus.sources.read import read_source  # noqa: E402
from treino.recipe import CleanSettings, SourceSettings, WorldSettings  # noqa: E402

FILES = 2000
HUGE = 1_000_000_000
MOST_MEMORY = 2_000_000_000
MOST_SECONDS = 120.0


def damaged(folder: Path, files: int = FILES, seed: int = 1) -> tuple[str, bool]:
    """What damaged files of every kind among whole ones gave, and whether the promise of `fuzzing` was kept."""
    started = time.monotonic()
    found = fuzzing.run(folder, files, seed)
    seconds = time.monotonic() - started
    rules = ", ".join(f"{name} {count}" for name, count in found.rules.most_common())
    told = (
        f"{found.files} damaged files among {len(fuzzing.kinds.MAKERS) * -(-files // 50)} whole ones: "
        f"{found.documents} documents, {len(found.broken)} promises broken, {seconds:.0f} s, "
        f"slowest {found.slowest:.1f} s; {rules}"
    )
    return "; ".join([told, *found.broken[:5]]), not found.broken


def huge(folder: Path) -> tuple[str, bool]:
    """A line of a gigabyte under every name, plain and compressed, beside a good document: time and memory."""
    line = folder / "line"
    with open(line, "wb") as file:
        for _ in range(HUGE // 10_000_000):
            file.write(b"palavra e " * 1_000_000)
    names = [f"a{kind}" for kind in (*fuzzing.kinds.MAKERS, ".md")] + ["b.jsonl.gz", "c.txt.gz"]
    told, met = [], True
    for name in names:
        place = folder / name.replace(".", "-")
        place.mkdir()
        (place / "bom.txt").write_text("Um bom documento.", encoding="utf-8")
        if name.endswith(".gz"):
            with gzip.open(place / name, "wb", 1) as packed:
                for _ in range(HUGE // 10_000_000):
                    packed.write(b"palavra e " * 1_000_000)
        else:
            (place / name).hardlink_to(line)
        texts, problems, seconds, peak = _watched(place)
        good = "Um bom documento." in texts and (len(texts) > 1 or bool(problems))
        met = met and good and seconds < MOST_SECONDS and peak < MOST_MEMORY
        rules = ", ".join(problems) or f"{len(texts)} documents"
        told.append(f"{name} {rules} ({seconds:.1f} s, {peak / 1e9:.2f} GB)")
    return "; ".join(told), met


def _watched(place: Path) -> tuple[list[str], dict[str, int], float, int]:
    """Texts of a folder, its problems, seconds, and the most resident memory of this process and its children."""
    peak, over = [0], threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not over.wait(0.05):
            try:
                peak[0] = max(peak[0], sum(one.memory_info().rss for one in [me, *me.children(recursive=True)]))
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    started, problems = time.monotonic(), Problems()
    texts = [document.text[:100] for document in _read(place, problems)]
    over.set()
    watcher.join()
    return texts, problems.counts, time.monotonic() - started, peak[0]


def _read(path: Path, problems: Problems) -> Iterator[RawDocument]:
    return read_source(SourceSettings(path=str(path)), WorldSettings(), Path(), 1, problems)


def constitution(data: Path) -> tuple[str, bool]:
    """The six versions: every article there and in order, accents whole, nothing of the pages' menus."""
    told, met = [], True
    problems = Problems()
    for document in _read(data / "constituicao", problems):
        text, _ = clean_text(document.text, CleanSettings())
        numbers = [int(number) for number in re.findall(r"^Art\. ?(\d+)", text, re.MULTILINE)]
        falls = [place for place, (one, two) in enumerate(pairwise(numbers), 1) if two < one]
        parts = [numbers[: falls[0]], numbers[falls[0] :]] if falls else [numbers]
        whole = all(set(part) == set(range(1, max(part) + 1)) for part in parts)
        clean = not re.search(r"Ã[^\sA-Z]|\ufffd|NavGlobal|Fale com o Senado|<\w+", text)
        met = met and len(falls) == 1 and whole and clean
        told.append(f"{document.name[:8]} {len(text)} characters, articles 1–{parts[0][-1]} and 1–{parts[-1][-1]}")
    return "; ".join(told) + f"; set aside {problems.counts or 'nothing'}", met and len(
        told
    ) == 6 and not problems.counts


def machado(data: Path) -> tuple[str, bool]:
    """Words of the works that are lost between the files and cleaned text, and what they are."""
    files = sorted((data / "machado").rglob("*.txt"))
    before, after = Counter[str](), Counter[str]()
    problems = Problems()
    for path in files:
        before.update(_words(path.read_bytes().decode("utf-8", "replace")))
    documents = 0
    for document in _read(data / "machado", problems):
        documents += 1
        after.update(_words(clean_text(document.text, CleanSettings())[0]))
    lost, gained = before - after, after - before
    share = sum(lost.values()) / sum(before.values())
    told = (
        f"{documents} of {len(files)} works, {sum(before.values())} words: {sum(lost.values())} lost ({share:.4%}), "
        f"{sum(gained.values())} new; lost most {lost.most_common(12)}, new {gained.most_common(12)}"
    )
    return f"{told}; set aside {problems.counts or 'nothing'}", share < 0.001 and documents == len(files)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("damaged", "huge", "constitution", "machado"))
    parser.add_argument("--data", type=Path, help="folder of the real text")
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="treino-sources-") as folder:
        if chosen.what == "damaged":
            told, met = damaged(Path(folder), chosen.files, chosen.seed)
        elif chosen.what == "huge":
            told, met = huge(Path(folder))
        elif chosen.data is None:
            parser.error("needs --data DIR")
        else:
            told, met = {"constitution": constitution, "machado": machado}[chosen.what](chosen.data)
    print(told)
    print("met" if met else "NOT MET")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

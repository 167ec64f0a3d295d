"""The labelled texts of the benchmarks as JSON lines, as a recipe reads them.

python benchmarks/labelled.py told-br --data DIR > told-br.jsonl
python benchmarks/labelled.py movie-polarity --data DIR > movie-polarity.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from few_labels import rows_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("told-br", "movie-polarity"))
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    if not (asked.data / asked.name).is_dir():
        sys.exit(f"skipped: there is no folder {asked.data / asked.name}")
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    for text, label in rows_of(asked.name, asked.data):
        print(json.dumps({"text": text, "label": label}, ensure_ascii=False))


if __name__ == "__main__":
    main()

"""A pilot's extrapolation beside the whole comparison: does what it foretold hold what was then measured?

    python benchmarks/pilot.py RECIPE [--time 2min] [--methods frozen,full,...] [--set TABLE.NAME=VALUE ...]

For each method macro-F1 on the test rows and the seconds of the training: the pilot's interval (95 %), what the whole training
gave, and whether the one holds the other. The pilot has seen parts of the training rows and the validation rows, no test row.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

FIGURES = ("macro_f1", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--time", default="2min")
    parser.add_argument("--methods", default="")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="TABLE.NAME=VALUE")
    parser.add_argument("--runs", type=Path, help="keep the runs here, and take those that are there already")
    asked = parser.parse_args()

    import treino

    with tempfile.TemporaryDirectory(prefix="treino-pilot-") as temporary:
        given = {"overrides": asked.changes, "runs": asked.runs or Path(temporary)}
        methods = [name for name in asked.methods.split(",") if name]
        foretold = treino.compare(asked.recipe, methods, pilot_time=asked.time, **given)
        rows = [row["method"] for row in foretold["rows"] if not row["refused"]]
        measured = {row["method"]: row for row in treino.compare(asked.recipe, rows, **given)["rows"]}
    print("| method | figure | points | rows | foretold | 95 % | measured | held |\n|---|---|---|---|---|---|---|---|")
    held = 0
    for row in foretold["rows"]:
        if row["refused"]:
            continue
        most = max(point["rows"] for point in row["points"])
        for name in FIGURES:
            told, found = row[name], measured[row["method"]][name]
            value = found["mean"] if isinstance(found, dict) else found
            inside = told["low"] <= value <= told["high"]
            held += inside
            cells = f"{told['mean']:.3g} | {told['low']:.3g} … {told['high']:.3g} | {value:.3g} | {'yes' if inside else 'no'}"
            print(f"| {row['method']} | {name} | {len(row['points'])} | {most} of {row['rows']} | {cells} |")
    print(f"\n{held} of {len(FIGURES) * len(rows)} held")


if __name__ == "__main__":
    main()

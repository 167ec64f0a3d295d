"""The lowest loss on the characters of tinyshakespeare that a training reaches within an hour.

    python benchmarks/lowest_loss.py FILE [--minutes 60] [--tune NAME=VALUE ...]

FILE is tinyshakespeare's `input.txt`. The first 90 % are learnt from and the rest judges, by the mean cross-entropy over the
full validation split in rows side by side. The settings were chosen with `--tune`, which learns from the first 85 % and judges
by the 5 % after them, so that the text that is reported chose none of them. The number of steps is what the minutes hold at
the speed of the first steps; the time counts from the start of the process, all looks included.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from time_to_loss import Scene, characters

RECIPE: dict[str, Any] = {
    "width": 256,
    "layers": 6,
    "heads": 4,
    "context": 256,
    "batch": 32,
    "learning_rate": 3e-3,
    "optimiser": "muon",
    "schedule": "wsd",
    "decay": 0.6,
    "dropout": 0.2,
}
TRIED, RESERVED = 20, 0.03
"""Steps that measure the speed, and the share of the time that is kept for looks and noise."""

LOOKS = 20


def main() -> None:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=0, help="take so many steps, whatever the time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tune", nargs="*", metavar="NAME=VALUE", help="other settings, judged inside the first 90 %%")
    asked = parser.parse_args()
    if not asked.file.is_file():
        sys.exit(f"skipped: {asked.file} is not there (tinyshakespeare's input.txt)")
    learnt, judged, kinds = characters(asked.file)
    recipe = dict(RECIPE)
    if asked.tune is not None:
        cut = int(len(learnt) * 85 / 90)
        learnt, judged = learnt[:cut], learnt[cut:]
        recipe |= {name: json.loads(value) for name, _, value in (item.partition("=") for item in asked.tune)}
    recipe["steps"] = asked.steps or _steps(recipe, (learnt, judged, kinds), 60 * asked.minutes, started)
    print(json.dumps(recipe | {"seed": asked.seed, "characters": len(learnt), "judged": len(judged)}), flush=True)
    scene, losses = Scene(learnt, judged, kinds, recipe, asked.seed), []
    every = max(1, recipe["steps"] // LOOKS)
    for step in range(1, recipe["steps"] + 1):
        loss, _ = scene.take(step - 1)
        if step % every == 0 or step == recipe["steps"]:
            losses.append(scene.look())
            told = f"step {step}: training {float(loss):.4f}, validation {losses[-1]:.4f}"
            print(f"{told}, {time.monotonic() - started:.0f} s", flush=True)
    print(f"lowest {min(losses):.4f}, last {losses[-1]:.4f}, {scene.parameters} parameters")


def _steps(recipe: dict[str, Any], texts: tuple[list[int], list[int], int], seconds: float, started: float) -> int:
    """Steps that the time left holds, by the speed of a few on weights that are thrown away."""
    scene = Scene(*texts, recipe | {"steps": 1000}, seed=0)
    for step in range(TRIED):
        if step == TRIED // 4:
            begun = time.monotonic()
        scene.take(step)[0].item()
    each = (time.monotonic() - begun) / (TRIED - TRIED // 4)
    return int((seconds * (1 - RESERVED) - (time.monotonic() - started)) / each)


if __name__ == "__main__":
    main()

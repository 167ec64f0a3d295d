"""What a curriculum does to a training of one budget: `python benchmarks/curriculum.py [--difficulty readability] …`.

Without a curriculum, easy first, hard first, and chance with the same pacing, on the embedded town or on texts of one's own
(`--data`): equal model, steps and seeds, so that the order alone differs. Prints the validation loss at the middle and at the
end. Mind the last column: in the first hundreds of steps seeds differ by more than orders do.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean

import treino
from treino.pipeline.corpus_stages import corpus_of
from treino.pipeline.stages import PRETRAINING
from treino.recipe.load import load_recipe

ARMS = {
    "no curriculum": {},
    "easy first": {"direction": "easy_first"},
    "hard first": {"direction": "hard_first"},
    "random": {"direction": "random"},
}


def main() -> None:
    """See the module."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, help="folder of texts, instead of the town")
    options.add_argument("--difficulty", default="readability")
    options.add_argument("--pacing", default="linear")
    options.add_argument("--budget", default="2M tokens")
    options.add_argument("--seeds", type=int, default=4)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as runs:
        for arm, more in ARMS.items():
            found = [losses(given, more, seed, Path(runs)) for seed in range(1, given.seeds + 1)]
            middle, end = (mean(column) for column in zip(*found, strict=True))
            each = ", ".join(f"{last:.4f}" for _, last in found)
            print(
                f"{arm:<14} validation loss at half of the steps {middle:.4f}, at the end {end:.4f} ({each})",
                flush=True,
            )


def losses(given: argparse.Namespace, more: dict[str, str], seed: int, runs: Path) -> tuple[float, float]:
    """Validation loss in the middle and at the end of a training."""
    order = {"difficulty": given.difficulty, "pacing": given.pacing} | more if more else {}
    recipe = load_recipe(
        {
            "name": "curriculum",
            "seed": seed,
            "corpus": {"sources": [str(given.data.resolve())] if given.data else ["world"]},
            "pretrain": {"budget": given.budget, "precision": "float32", "validate_every": 0, "sample_prompt": ""},
            "order": order,
        }
    )
    pipeline = (*corpus_of(recipe.recipe), *PRETRAINING[:2])
    run = treino.run(recipe, runs=runs, pipeline=pipeline)
    looks = json.loads((run.artefacts["pretrain"].folder / "records" / "validation.json").read_text(encoding="utf-8"))
    return looks[len(looks) // 2]["loss"], looks[-1]["loss"]


if __name__ == "__main__":
    main()

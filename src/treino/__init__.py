"""Treino: a language model from raw text to one that talks, on a laptop. Public names are loaded when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "advise",
    "build_corpus",
    "compare",
    "generate",
    "load",
    "load_classifier",
    "plan",
    "predict",
    "run",
]

if TYPE_CHECKING:
    from treino.pipeline.api import build_corpus, generate, load, load_classifier, predict, run
    from treino.pipeline.comparison import compare
    from treino.planning.advise import advise
    from treino.planning.plan import plan

ELSEWHERE = {"advise": "planning.advise", "compare": "pipeline.comparison", "plan": "planning.plan"}
"""Public names that do not stand in `treino.pipeline.api`, and the modules where they do."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'treino' has no attribute {name!r}")
    return getattr(importlib.import_module(f"treino.{ELSEWHERE.get(name, 'pipeline.api')}"), name)

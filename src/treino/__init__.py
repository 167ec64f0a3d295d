"""Treino: a language model from raw text to one that talks, on a laptop. Public names are loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "build_corpus", "generate", "load", "load_classifier", "predict", "run"]

if TYPE_CHECKING:
    from treino.pipeline.api import build_corpus, generate, load, load_classifier, predict, run


def __getattr__(name: str) -> Any:
    if name in __all__:
        from treino.pipeline import api

        return getattr(api, name)
    raise AttributeError(f"module 'treino' has no attribute {name!r}")

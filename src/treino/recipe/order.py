"""Settings of the order of the documents: how often each is read, and from easy to hard or not."""

from __future__ import annotations

from typing import Literal

from treino.messages import N_
from treino.recipe.base import Settings, setting


class OrderSettings(Settings):
    """[order]: how often and in which order the documents are read. Weights stand with the sources."""

    upsampling: float = setting(
        0.0,
        N_(
            "a document found n times is read n to this power times an epoch (0: once; 1: as often as it was found); the "
            "number of copies says how many thought it worth keeping"
        ),
        ge=0,
        le=1,
    )
    most_repeats: float = setting(
        4.0, N_("most times an epoch that up-sampling lets a document be read: beyond four, repeats teach little"), ge=1
    )
    difficulty: Literal["none", "length", "compression", "readability", "loss"] = setting(
        "none",
        N_(
            'what makes a document hard: "length" in words, "compression" (text that packs badly), "readability" (Flesch), '
            'the "loss" of a model; "none": no curriculum'
        ),
        beginner=True,
    )
    model: str = setting("", N_('run or model folder whose loss is the difficulty, with difficulty = "loss"'))
    direction: Literal["easy_first", "hard_first", "random"] = setting(
        "easy_first", N_("how the pool grows; the reverse, and chance with the same pacing, are the controls")
    )
    pacing: Literal["linear", "steps"] = setting("linear", N_("how the pool of documents that may be read grows"))
    steps: int = setting(4, N_('levels of the pacing "steps"'), ge=1, le=1000)
    start: float = setting(0.1, N_("share of the text, by tokens, that the pool begins with"), gt=0, le=1)
    until: float = setting(0.5, N_("share of the training after which the whole text is in the pool"), gt=0, le=1)
    buckets: int = setting(20, N_("groups of like difficulty, in which chance rules"), ge=1, le=1000)

"""Settings of the stages that compare documents: deduplicate (with each other) and decontaminate (with what judges)."""

from __future__ import annotations

from typing import Literal

from treino.messages import N_
from treino.recipe.base import Settings, setting


class DeduplicateSettings(Settings):
    """[deduplicate]: which copies go."""

    exact: bool = setting(True, N_("remove documents that are equal but for case and white space"))
    near: bool = setting(True, N_("remove documents of 50 words or more that are nearly equal to one that stays"))
    threshold: float = setting(
        0.8, N_("share of common five-word sequences from which two documents are nearly equal (Jaccard)"), ge=0.5, le=1
    )
    paragraphs: bool = setting(True, N_("remove paragraphs of 50 words or more that stand in another document, too"))
    keep: Literal["longest", "newest", "first"] = setting(
        "longest", N_("which copy stays: the longest, the newest by its date, or the first in the order of the sources")
    )


class DecontaminateSettings(Settings):
    """[decontaminate]: what the evaluation asks must not stand in the training text."""

    own: bool = setting(
        True,
        N_("compare with what this run itself is judged by: held-out text, labelled test rows, the town's questions"),
    )
    against: tuple[str, ...] = setting(
        (), N_("files of evaluation items to compare with: .txt (an item a line), .jsonl, .json or .csv")
    )
    drop: Literal["document", "paragraph", "nothing"] = setting(
        "document",
        N_("what goes where an item is found: the whole document, its paragraph, or nothing (it is only recorded)"),
    )

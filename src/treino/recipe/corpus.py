"""Settings of the stages that make documents: collect, clean, and of the embedded world."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from treino.messages import N_
from treino.recipe.base import Settings, setting


class SourceSettings(Settings):
    """One source of documents: a path, or lines written in the recipe itself; a bare string is the path alone."""

    path: str = setting("", N_('a file, a folder, https://..., hf://..., or "world" for the embedded town'))
    lines: tuple[str, ...] = setting((), N_("documents written here, one each, instead of a path"))
    weight: float = setting(1.0, N_("how often an epoch reads its documents: 2 twice, 0.5 every other one"), gt=0)
    language: str = setting("pt", N_("language of its documents"))
    licence: str = setting("", N_("licence of its documents, carried to the model card"))
    text: str = setting("", N_("column or key that holds the text (empty: found by its name)"))
    fast: bool = setting(False, N_("take the text of HTML pages the fast way, with a little more of what is around it"))
    depth: int = setting(3, N_("links that a page of a web site may be away from the first one"), ge=0, le=100)
    pages: int = setting(1000, N_("pages that are taken from a web site"), ge=1, le=10_000_000)
    megabytes: int = setting(200, N_("megabytes that are taken from a web site"), ge=1, le=1_000_000)
    sites: tuple[str, ...] = setting((), N_("other hosts that the links of a web site may lead to"))
    allow_private: bool = setting(
        False, N_("let a web site be a machine of your own network; otherwise such addresses are refused")
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> SourceSettings:
        if bool(self.path) == bool(self.lines):
            raise PydanticCustomError("source", "a path or lines")
        return self


def _source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _sources(value: Any) -> Any:
    return (value,) if isinstance(value, str | dict) else value


Source = Annotated[SourceSettings, BeforeValidator(_source)]


class CorpusSettings(Settings):
    """[corpus]: where documents come from, and which are kept away from training to judge the model."""

    sources: Annotated[tuple[Source, ...], BeforeValidator(_sources)] = setting(
        (SourceSettings(path="world"),),
        N_('files, folders, "world" (the embedded town), or "labels" (the texts of the labelled training rows)'),
        beginner=True,
        min_length=1,
    )
    held_out: Annotated[float, Field(ge=0, lt=1)] | tuple[str, ...] = setting(
        0.05, N_("share of the documents, or names of files, that only the evaluation reads"), beginner=True
    )


class WorldSettings(Settings):
    """[world]: the embedded town whose truth is known."""

    documents: int = setting(20000, N_("how many documents the town tells"), beginner=True, ge=10, le=10_000_000)
    people: int = setting(40, N_("how many people live there"), ge=4, le=60)
    duplicates: float = setting(
        0.02, N_("share of exact copies planted, to measure what deduplication finds"), ge=0, le=0.5
    )
    near_duplicates: float = setting(0.02, N_("share of slightly changed copies planted"), ge=0, le=0.5)
    noise: float = setting(
        0.01, N_("share of documents damaged on purpose, to measure what cleaning mends"), ge=0, le=0.5
    )
    toxic: float = setting(0.0, N_("share of rude lines planted; none unless asked"), ge=0, le=0.5)
    personal_data: float = setting(
        0.0, N_("share of documents with invented personal data planted; none unless asked"), ge=0, le=0.5
    )
    gender_bias: float = setting(0.0, N_("how strongly a trade goes with a gender (0 none, 1 always)"), ge=0, le=1)


class CleanSettings(Settings):
    """[clean]: what makes a text fit to learn from."""

    fix_encoding: bool = setting(True, N_('mend text that was decoded wrongly ("nÃ£o" becomes "não")'))
    unwrap: bool = setting(True, N_("join the lines of paragraphs that were wrapped at a fixed width"))
    minimum_characters: int = setting(20, N_("shorter documents are removed"), beginner=True, ge=0)
    boilerplate: Literal["web", "all", "none"] = setting(
        "web",
        N_('take out lines that many pages of a site share: of "web" pages, of "all" documents by folder, or "none"'),
    )

"""Settings of the filter stage: which documents are fit to learn from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from treino.messages import N_
from treino.recipe.base import Settings, setting


def _languages(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class FilterSettings(Settings):
    """[filter]: language, quality, personal data and toxicity of the documents."""

    languages: Annotated[tuple[str, ...], BeforeValidator(_languages)] = setting(
        (), N_('languages to keep, such as ["pt"]; the others go, by paragraph in mixed texts (empty: all stay)')
    )
    quality: Literal["web", "all", "none"] = setting(
        "web",
        N_('which texts the rules of C4, Gopher and FineWeb-2 judge: "web" (pages, HTML and WARC), "all" or "none"'),
    )
    personal_data: Literal["mask", "drop", "keep"] = setting(
        "mask",
        N_('e-mail, CPF, CNPJ, telephone, CEP, Pix keys and cards: "mask" them, "drop" such documents, or "keep"'),
    )
    toxicity: Literal["tag", "drop", "keep"] = setting(
        "tag",
        N_('insults and obscenities: "tag" documents that hold some, "drop" those full of them, or "keep" unlooked'),
    )
    toxicity_rows: str = setting(
        "",
        N_(
            "table of texts labelled 1 (toxic) or 0, to train the judge of toxicity from (empty: a list of terms judges)"
        ),
    )

"""Continued pretraining: a model that is there already goes on with the recipe's corpus, in its own words and shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from treino import files
from treino.pipeline.adopt import copy_model, model_at, model_digests
from treino.pipeline.run_folder import RUN, RunFolder
from treino.pipeline.stage import Pipeline, Stage, Work, insert
from treino.pipeline.store import Artefact
from treino.recipe.load import LoadedRecipe

BASE, MODEL, KEPT = "base", "model", "kept"
KEY = "pretrain.base"
HELD_OUT = "held_out.npz"


def _tokens_of(loaded: LoadedRecipe) -> Artefact | None:
    """The tokens that the base model was pretrained on, where it is a run's that has them."""
    folder = loaded.base / loaded.recipe.pretrain.base
    if not (folder / RUN).is_file():
        return None
    return RunFolder(folder.resolve().parent, folder.resolve().name).artefacts().get("tokenise")


def _reads(loaded: LoadedRecipe) -> Any:
    tokens = _tokens_of(loaded)
    digests = model_digests(model_at(loaded, KEY, loaded.recipe.pretrain.base))
    return digests | ({"tokens": tokens.digest} if tokens else {})


def _adopt(work: Work) -> dict[str, Any]:
    """Copy the base model into the store, and its held-out text as token ids, where that is known."""
    from treino.evaluation.forgetting import held_out_documents

    facts = copy_model(model_at(work.loaded, KEY, work.loaded.recipe.pretrain.base), work.output)
    tokens = _tokens_of(work.loaded)
    documents = held_out_documents(tokens.folder) if tokens else []
    if documents:
        ends = np.cumsum([len(document) for document in documents])
        np.savez(work.output / HELD_OUT, ids=np.concatenate(documents), ends=ends)
    return facts | {"held_out_documents": len(documents)}


def _held_out(folder: Path) -> list[np.ndarray]:
    path = folder / HELD_OUT
    if not path.is_file():
        return []
    with np.load(path, allow_pickle=False) as stored:
        return np.split(stored["ids"], stored["ends"][:-1])


def _keep(work: Work) -> dict[str, Any]:
    """Loss (nats a token) on the base model's held-out text before and after; None where that is not known."""
    from treino.evaluation.loss import mean_loss
    from treino.models.folder import load_model

    documents = _held_out(work.inputs[BASE])
    losses: list[float | None] = [None, None]
    for number, kind in enumerate((BASE, MODEL) if documents else ()):
        model, tokenizer = load_model(work.inputs[kind] / "model")
        losses[number] = mean_loss(model, documents, tokenizer)
    facts = {"before": losses[0], "after": losses[1], "documents": len(documents)}
    files.write_json(work.output / "kept.json", facts)
    return facts


def continued(pretraining: Pipeline) -> Pipeline:
    """The stages of a pretraining for one that starts from a model."""
    stages = tuple(
        replace(stage, consumes=(*stage.consumes, BASE), version=stage.version + (stage.name == "tokenise"))
        if stage.name in ("tokenise", "pretrain")
        else stage
        for stage in pretraining
    )
    keep = Stage("keep", 1, (BASE, MODEL), (KEPT,), lambda loaded, _: None, _keep)
    return (
        Stage("adopt", 1, (), (BASE,), lambda loaded, _: "base", _adopt, reads=_reads),
        *insert(stages, keep, after="pretrain"),
    )

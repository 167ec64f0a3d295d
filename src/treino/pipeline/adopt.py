"""A model brought along instead of one pretrained here: a model folder, or the model of a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from treino import files
from treino.errors import DataError
from treino.messages import N_
from treino.models.hub import fetch, is_hub_name
from treino.pipeline.run_folder import RUN, RunFolder, language_model
from treino.pipeline.stage import Work
from treino.recipe.load import LoadedRecipe

COUNTED = (".json", ".safetensors", ".txt", ".model", ".jinja")
"""Endings of the files that make a model; the card may be replaced later, and other formats of the weights are not read."""


def adopt(work: Work) -> dict[str, Any]:
    """Copy the base model of a fine-tuning into the store."""
    return copy_model(model_at(work.loaded, "finetune.base", work.loaded.recipe.finetune.base), work.output)


def copy_model(source: Path, output: Path) -> dict[str, Any]:
    """Copy a model's folder to `output/model`, after reading it once to see that it is whole; returns its facts."""
    from treino.models.folder import look_through

    facts = look_through(source)
    target = files.make_private(output / "model")
    for name in _counted(source):
        shutil.copyfile(source / name, target / name)
    return facts


def base_digests(loaded: LoadedRecipe) -> dict[str, str]:
    """Digests of the base model's files by name."""
    return model_digests(model_at(loaded, "finetune.base", loaded.recipe.finetune.base))


def model_digests(folder: Path) -> dict[str, str]:
    """Digests of a model's files by name."""
    return {name: files.sha256_file(folder / name) for name in _counted(folder)}


def model_at(loaded: LoadedRecipe, key: str, name: str) -> Path:
    """The model folder that a setting names: itself, the language model of a run's folder, or a model of the hub."""
    folder = loaded.base / name
    if (folder / RUN).is_file():
        run = RunFolder(folder.resolve().parent, folder.resolve().name)
        return _whole(loaded, key, language_model(run.artefacts()))
    if (folder / "config.json").is_file():
        return _whole(loaded, key, folder)
    if is_hub_name(name):
        return fetch(name)
    raise DataError(
        N_("there is no model in {path}"),
        where=loaded.title,
        fix=N_("{key} is the folder of a run or of a model with its config.json, or owner/name@revision of the hub"),
        path=str(folder),
        key=key,
    )


def _whole(loaded: LoadedRecipe, key: str, folder: Path) -> Path:
    """The folder; refused where a part of the model is an adapter beside layers in 4 bits, which would be left behind."""
    if (folder / "adapter").is_dir():
        raise DataError(
            N_("{path} is a model in 4 bits beside its adapter, which cannot be trained on"),
            where=loaded.title,
            fix=N_("{key} is its base model, or a model that was tuned without finetune.stream"),
            path=str(folder),
            key=key,
        )
    return folder


def _counted(folder: Path) -> list[str]:
    return [name for name in files.list_files(folder) if "/" not in name and name.endswith(COUNTED)]

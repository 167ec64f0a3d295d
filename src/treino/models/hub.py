"""A model of the Hugging Face hub, by its name and a pinned revision: `owner/name@revision`.

Only the configuration, the tokenizer and safetensors weights are fetched: no pickle, no code. A commit that was fetched
before is read from the cache without a network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from treino import files
from treino.errors import DataError, TreinoError, UsageError, reason_of
from treino.hub import COMMIT, check_size
from treino.messages import N_

NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)@(?P<revision>[\w.-]+)")
WANTED = re.compile(r"[\w.-]+\.json|model(-\d+-of-\d+)?\.safetensors|chat_template\.jinja")
"""Files that are fetched, of those at the top of a repository."""


def is_hub_name(name: str | Path) -> bool:
    """Whether a name is of the form `owner/name@revision`, which no path is taken for that leads to something."""
    return NAME.fullmatch(str(name)) is not None and not Path(name).exists()


def fetch(name: str) -> Path:
    """Folder of a model of the hub in the hub's cache.

    Raises:
        UsageError: where huggingface_hub is not installed.
        DataError: where the model is not there or cannot be reached, or has no safetensors.
        DoesNotFit: for more than `treino.hub.MOST_BYTES`.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(
            N_("{name} is a model of the hub, and huggingface_hub is not installed"),
            fix=N_("install it (pip install huggingface_hub), or give the path of a folder that holds the model"),
            name=name,
        ) from None
    found = NAME.fullmatch(name)
    assert found
    try:
        return _fetch(huggingface_hub, name, found["repository"], found["revision"])
    except TreinoError:
        raise
    except Exception as error:  # whatever the network and the library raise: it is told, with what to do
        raise DataError(
            N_("{name} could not be fetched from the hub: {reason}"),
            fix=N_("check name, revision and network, or give the path of a folder that holds the model"),
            name=name,
            reason=reason_of(error),
        ) from None


def _fetch(hub: Any, name: str, repository: str, revision: str) -> Path:
    if COMMIT.fullmatch(revision) and (cached := _cached(hub, repository, revision)):
        return cached
    told = hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
    sizes = {item.rfilename: item.size or 0 for item in told.siblings if WANTED.fullmatch(item.rfilename)}
    if not any(file.endswith(".safetensors") for file in sizes):
        raise DataError(
            N_("{name} has no safetensors on the hub; a pickle may run code when it is read, and is not fetched"),
            name=name,
        )
    check_size(name, sizes.values(), N_("fetch it yourself and give the path of its folder"))
    return Path(hub.snapshot_download(repository, revision=told.sha, allow_patterns=sorted(sizes)))


def _cached(hub: Any, repository: str, commit: str) -> Path | None:
    """The folder of a commit in the cache, if all its weights are there."""
    from treino.models.weights import INDEX, WEIGHTS  # brings torch along, which a name of a run does not need

    try:
        folder = Path(hub.snapshot_download(repository, revision=commit, local_files_only=True))
    except (OSError, ValueError):  # nothing of it is in the cache
        return None
    shards = files.read_json(folder / INDEX)["weight_map"].values() if (folder / INDEX).is_file() else ()
    weights = set(shards) or {WEIGHTS}
    whole = all((folder / file).is_file() for file in ("config.json", *weights))
    return folder if whole else None

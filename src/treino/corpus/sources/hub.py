"""A data set of the Hugging Face hub at a pinned revision: `hf://owner/name@revision`, or a folder or file in it.

Only files that a source can be are fetched, no code. Without a network, a commit that was fetched before is read from the
cache.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from treino.errors import DataError, TreinoError, UsageError, reason_of
from treino.hub import COMMIT, check_size
from treino.messages import N_

NAME = re.compile(
    r"hf://(?:datasets/)?(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)@(?P<revision>[\w.-]+)(?:/(?P<inner>[^\\]+))?"
)


def is_hub_name(path: str) -> bool:
    """Whether a source is a data set of the hub."""
    return path.startswith("hf://")


def fetch(name: str) -> Path:
    """Folder or file of a data set in the hub's cache.

    Raises:
        UsageError: for a name without a revision, or where huggingface_hub is not installed.
        DataError: where the data set is not there or cannot be reached, or has no file that can be read.
        DoesNotFit: for more than `treino.hub.MOST_BYTES`.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise UsageError(
            N_("{name} does not say which data set of the hub, at which revision"),
            fix=N_("write hf://owner/name@revision, with a commit or a tag, so that it stays the same"),
            name=name,
        )
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(
            N_("{name} is a data set of the hub, and huggingface_hub is not installed"),
            fix=N_("install it (pip install huggingface_hub), or give the path of a folder that holds the files"),
            name=name,
        ) from None
    try:
        return _fetch(huggingface_hub, name, found["repository"], found["revision"], (found["inner"] or "").strip("/"))
    except TreinoError:
        raise
    except Exception as error:  # whatever the network and the library raise: it is told, with what to do
        if cached := _cached(huggingface_hub, found["repository"], found["revision"], found["inner"] or ""):
            return cached
        raise DataError(
            N_("{name} could not be fetched from the hub: {reason}"),
            fix=N_(
                "check name, revision and network; on a machine with network: hf download {repository} --repo-type dataset "
                "--local-dir data, then give the path of that folder"
            ),
            name=name,
            repository=found["repository"],
            reason=reason_of(error),
        ) from None


def _fetch(hub: Any, name: str, repository: str, revision: str, inner: str) -> Path:
    told = hub.HfApi().dataset_info(repository, revision=revision, files_metadata=True)
    sizes = {item.rfilename: item.size or 0 for item in told.siblings if _is_wanted(item.rfilename, inner)}
    if not sizes:
        raise DataError(
            N_("{name} holds no file that can be read"),
            fix=N_("look at its files on the hub, and name a folder or file of it"),
            name=name,
        )
    check_size(name, sizes.values(), N_("name a folder or file of it: {name}/..."))
    folder = hub.snapshot_download(repository, repo_type="dataset", revision=told.sha, allow_patterns=sorted(sizes))
    return Path(folder) / inner


def _is_wanted(file: str, inner: str) -> bool:
    from treino.corpus.sources.read import kind_of

    below = not inner or file == inner or file.startswith(f"{inner}/")
    return below and kind_of(Path(file)) is not None and not Path(file).name.lower().startswith("readme")


def _cached(hub: Any, repository: str, commit: str, inner: str) -> Path | None:
    """What was fetched of a commit before, if it has the files asked for; a name that is no commit may mean others now."""
    if not COMMIT.fullmatch(commit):
        return None
    try:
        folder = hub.snapshot_download(repository, repo_type="dataset", revision=commit, local_files_only=True)
    except (OSError, ValueError):  # nothing of it is in the cache
        return None
    place = Path(folder) / inner.strip("/")
    found = place.is_file() or any(_is_wanted(file.relative_to(folder).as_posix(), inner) for file in place.rglob("*"))
    return place if found else None

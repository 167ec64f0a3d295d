"""A data set of the hub: at a pinned revision, files that are sources only, and what to do without network or library."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from treino.corpus.sources import hub
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import read_source, source_digest
from treino.errors import DataError, DoesNotFit, UsageError
from treino.recipe import SourceSettings, WorldSettings

COMMIT = "c" * 40
SIZES = {"pt/a.jsonl": 20, "en/b.csv": 30, "carrega.py": 9, "README.md": 5, "pt/figura.png": 5}


class FakeHub:
    """Stands for huggingface_hub: what was asked of it, and a folder that it gives."""

    def __init__(self, folder: Path, sizes: dict[str, int], reachable: bool = True) -> None:
        self.folder, self.sizes, self.reachable = folder, sizes, reachable
        self.asked: list[Any] = []

    def HfApi(self) -> FakeHub:
        return self

    def dataset_info(self, repository: str, revision: str, files_metadata: bool) -> Any:
        if not self.reachable:
            raise ConnectionError("no network")
        siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in self.sizes.items()]
        return SimpleNamespace(sha=COMMIT, siblings=siblings)

    def snapshot_download(self, repository: str, **named: Any) -> str:
        self.asked.append((repository, named))
        if named.get("local_files_only") and not self.folder.exists():
            raise FileNotFoundError("not in the cache")
        return str(self.folder)


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    (folder / "pt").mkdir(parents=True)
    (folder / "pt" / "a.jsonl").write_text('{"text": "do conjunto"}\n', encoding="utf-8")
    return folder


@pytest.mark.parametrize("prefix", ["hf://", "hf://datasets/"])
@pytest.mark.parametrize(("inner", "wanted"), [("", ["en/b.csv", "pt/a.jsonl"]), ("/pt", ["pt/a.jsonl"])])
def test_only_sources_are_fetched_at_one_commit(
    monkeypatch: pytest.MonkeyPatch, cached: Path, prefix: str, inner: str, wanted: list[str]
) -> None:
    fake = FakeHub(cached, SIZES)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)  # type: ignore[arg-type]
    source = SourceSettings(path=f"{prefix}dona/conjunto@main{inner}")
    documents = list(read_source(source, WorldSettings(), Path(), 1, Problems()))
    assert [document.text for document in documents] == ["do conjunto"]
    assert fake.asked == [("dona/conjunto", {"repo_type": "dataset", "revision": COMMIT, "allow_patterns": wanted})]
    assert source_digest(source, Path()) == {}


def test_without_network_a_commit_comes_from_the_cache_or_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, cached: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(cached, SIZES, reachable=False))  # type: ignore[arg-type]
    assert hub.fetch(f"hf://dona/conjunto@{COMMIT}/pt") == cached / "pt"
    for name in (f"hf://dona/conjunto@{COMMIT}/en", "hf://dona/conjunto@main"):
        with pytest.raises(DataError, match="hf download dona/conjunto --repo-type dataset"):
            hub.fetch(name)


def test_what_cannot_be_had_is_refused_with_a_way_out(monkeypatch: pytest.MonkeyPatch, cached: Path) -> None:
    with pytest.raises(UsageError, match="owner/name@revision"):
        hub.fetch("hf://dona/conjunto")
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(cached, {"a.py": 1}))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no file that can be read"):
        hub.fetch("hf://dona/conjunto@v1")
    monkeypatch.setitem(sys.modules, "huggingface_hub", FakeHub(cached, {"a.csv": 10**12}))  # type: ignore[arg-type]
    with pytest.raises(DoesNotFit):
        hub.fetch("hf://dona/conjunto@v1")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match="pip install huggingface_hub"):
        hub.fetch("hf://dona/conjunto@v1")

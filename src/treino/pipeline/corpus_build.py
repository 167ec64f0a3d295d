"""A corpus on its own: the stages that make documents, run in a folder, and what they made laid out beside its data card.

```
DIR/README.md, card.json      the data card
DIR/training, held_out        Parquet parts of documents
DIR/removed                   what each step removed or changed, and why
DIR/order.parquet             how often and in which order documents are to be read, where that is not once and any
DIR/stages                    the stages' own folder: from here an interrupted build goes on
```
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino import environment, events, files, interruption
from treino.errors import UsageError
from treino.messages import N_
from treino.pipeline.corpus_facts import corpus_facts
from treino.pipeline.corpus_stages import DOCUMENTS, corpus_of
from treino.pipeline.lock import DecisionLock
from treino.pipeline.place import Cluster
from treino.pipeline.run_folder import RunFolder
from treino.pipeline.runner import Runner
from treino.pipeline.stage import Pipeline, producer
from treino.pipeline.store import Artefact
from treino.recipe.load import LoadedRecipe, load_recipe
from treino.recipe.new import to_toml

STAGES, NAME = "stages", "corpus"
CARD = "card.json"
PARTIAL = ".partial"


@dataclass(frozen=True)
class Corpus:
    """A finished corpus: its folder and what is known of it (`treino.report.facts.Corpus`)."""

    folder: Path
    facts: Mapping[str, Any]


def build_corpus(
    sources: Sequence[str],
    out: str | Path,
    recipe: str | Path | Mapping[str, Any] | None = None,
    *,
    overrides: Iterable[str] = (),
    listener: events.Listener | None = None,
    language: str | None = None,
    cluster: Cluster | None = None,
) -> Corpus:
    """Collect, clean, filter, deduplicate, decontaminate and order sources into a folder; what is ready is not done again.

    Args:
        sources: as in a recipe's `corpus.sources`; none: those of the recipe.
        out: the folder, new or of an earlier build.
        recipe: settings of the stages, as for `treino.run`; none: the defaults.
        overrides: settings as `table.name=value`, stronger than the recipe's.
        language: of the data card.
        cluster: the Ray cluster that does the work, instead of this machine's processors.

    Raises:
        TreinoError: with a sentence, the place and the fix.
    """
    environment.prepare()
    folder, language = Path(out), language or environment.language()
    loaded = _load(sources, recipe, tuple(overrides))
    _check_empty(folder)
    run = RunFolder(folder / STAGES, NAME)
    pipeline = corpus_of(loaded.recipe)
    if cluster:
        from treino.corpus.engine import use_ray

        use_ray(cluster.address)
    with _private(folder), interruption.catching(), run.exclusive(), contextlib.ExitStack() as hearing:
        hearing.enter_context(events.listening(run.record_event))
        if listener is not None:
            hearing.enter_context(events.listening(listener))
        artefacts = Runner(pipeline, loaded, run, DecisionLock(run.lock_path), language).run()
        facts = facts_of(artefacts, loaded)
        _lay_out(artefacts, pipeline, folder, facts, language)
    return Corpus(folder, facts)


@contextlib.contextmanager
def _private(folder: Path) -> Iterator[None]:
    """The folder, which only its owner may enter; gone again if nothing was put into it."""
    files.make_private(folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


def facts_of(artefacts: Mapping[str, Artefact], loaded: LoadedRecipe) -> dict[str, Any]:
    """Facts of a corpus from its artefacts."""
    records = [artefact.record | {"folder": str(artefact.folder)} for artefact in artefacts.values()]
    settings = loaded.recipe.model_dump(mode="json", by_alias=True)
    return corpus_facts(records, settings, examples=loaded.recipe.report.examples)


def _load(
    sources: Sequence[str], recipe: str | Path | Mapping[str, Any] | None, overrides: tuple[str, ...]
) -> LoadedRecipe:
    if not sources and recipe is None:
        raise UsageError(
            N_("there is nothing to build a corpus from"),
            fix=N_("name sources (files, folders, addresses), or a recipe that does: --recipe FILE"),
        )
    named = (f"corpus.sources={to_toml([_absolute(source) for source in sources])}",) if sources else ()
    return load_recipe({"name": NAME} if recipe is None else recipe, (*named, *overrides))


def _absolute(source: str) -> str:
    """A path as seen from anywhere; what is no path here (an address, a name of a data set, the embedded town) as it is."""
    is_path = Path(source).exists() or (os.sep in source and "://" not in source)
    return str(Path(source).resolve()) if is_path else source


def _check_empty(folder: Path) -> None:
    """Refuse a folder with something of somebody else's in it, which laying the corpus out might overwrite."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(N_("{path} is a file, not a folder"), where="--out", path=str(folder))
    if folder.exists() and any(folder.iterdir()) and not (folder / STAGES).is_dir():
        raise UsageError(
            N_("{path} is not empty, and holds no corpus that treino built"),
            where="--out",
            fix=N_("name a new folder"),
            path=str(folder),
        )


def _lay_out(
    artefacts: Mapping[str, Artefact], pipeline: Pipeline, folder: Path, facts: Mapping[str, Any], language: str
) -> None:
    """Put the last documents, the record of all steps and the card into the folder, each folder whole or not at all."""
    from treino.corpus.documents import PARTS
    from treino.corpus.order.table import ORDER
    from treino.report.data_card import data_card

    last = artefacts[producer(pipeline, len(pipeline), DOCUMENTS).name].folder
    partial = folder / PARTIAL
    files.remove_folder(partial)
    for part in PARTS:
        for path in sorted((last / part).iterdir()):
            files.link(path, files.make_private(partial / part) / path.name)
    for stage, artefact in artefacts.items():
        for path in sorted((artefact.folder / "removed").glob("*.parquet")):
            files.link(path, files.make_private(partial / "removed") / f"{stage}-{path.name}")
    for name in (*PARTS, "removed"):
        files.remove_folder(folder / name)
        files.publish_folder(files.make_private(partial / name), folder / name)
    order = artefacts["order"].folder / ORDER
    (folder / ORDER).unlink(missing_ok=True)
    if order.exists():
        files.link(order, folder / ORDER)
    files.remove_folder(partial)
    files.write_json(folder / CARD, facts)
    files.write_text(folder / "README.md", data_card(facts, language))

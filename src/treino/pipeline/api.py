"""The public API: `treino.run`, `treino.load`, `treino.generate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino import environment, events, files, interruption
from treino.errors import DataError
from treino.messages import N_
from treino.pipeline.lock import DecisionLock
from treino.pipeline.run_folder import RunFolder, find_run
from treino.pipeline.runner import Runner
from treino.pipeline.stage import Pipeline
from treino.pipeline.stages import STANDARD
from treino.pipeline.store import Artefact
from treino.recipe.load import LoadedRecipe, load_recipe


@dataclass(frozen=True)
class Run:
    """A finished run: where it is, what its stages found out, and its model."""

    name: str
    folder: Path
    artefacts: Mapping[str, Artefact]

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """What each stage reports, by stage name."""
        return {name: artefact.record["facts"] for name, artefact in self.artefacts.items()}

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each stage's output: equal recipes, locks and data give equal digests."""
        return {name: artefact.digest for name, artefact in self.artefacts.items()}

    @property
    def model_folder(self) -> Path:
        """The model as a Hugging Face folder (the LSTM: a folder of its own form)."""
        return _part(self.artefacts, "pretrain", "model")

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return _part(self.artefacts, "report", "report.html")

    @property
    def sample(self) -> dict[str, str] | None:
        """What the model said when its training ended: `prompt` and `text`."""
        return self.facts.get("pretrain", {}).get("sample")


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, ready to talk."""

    model: Any
    tokenizer: Any

    def stream(self, prompt: str, **options: Any) -> Iterator[str]:
        """Pieces of the continuation as they are made; options as in `treino.models.generation.generate`."""
        from treino.models.generation import generate as generate_pieces

        return generate_pieces(self.model, self.tokenizer, prompt, **options)

    def generate(self, prompt: str, **options: Any) -> str:
        """The prompt's continuation."""
        return "".join(self.stream(prompt, **options))

    def next_tokens(self, prompt: str, top: int = 5) -> list[tuple[str, float]]:
        """The `top` likeliest next tokens with their probabilities."""
        from treino.models.generation import next_token_probabilities

        return next_token_probabilities(self.model, self.tokenizer, prompt, top)


def run(
    recipe: str | Path | Mapping[str, Any] | LoadedRecipe | None = None,
    *,
    overrides: Iterable[str] = (),
    runs: str | Path | None = None,
    lock: str | Path | None = None,
    listener: events.Listener | None = None,
    pipeline: Pipeline = STANDARD,
    language: str | None = None,
) -> Run:
    """Run a recipe from raw text to a trained model; stages whose result is ready are not run again.

    Args:
        recipe: path of a TOML file, name of a ready recipe, dictionary of settings, or None for `quickstart`.
        overrides: settings as `table.name=value`, stronger than the recipe's.
        runs: folder for runs and artefacts; by default `TREINO_RUNS` or `./runs`.
        lock: lock file of another run whose measured decisions are taken over.
        listener: called with every event.
        pipeline: the stages; `treino.pipeline.stage.insert` adds one.
        language: of the report, `en` or `pt_BR`; by default the reader's.

    Raises:
        TreinoError: with a sentence, the place and the fix.
    """
    environment.prepare()
    loaded = recipe if isinstance(recipe, LoadedRecipe) else load_recipe(recipe, overrides)
    folder = RunFolder(Path(runs) if runs else environment.runs_folder(), loaded.recipe.name)
    with interruption.catching(), folder.exclusive(), events.listening(folder.record_event):
        if listener is None:
            artefacts = _run(pipeline, loaded, folder, lock, language)
        else:
            with events.listening(listener):
                artefacts = _run(pipeline, loaded, folder, lock, language)
    return Run(folder.name, folder.folder, artefacts)


def _run(
    pipeline: Pipeline, loaded: LoadedRecipe, folder: RunFolder, lock: str | Path | None, language: str | None
) -> dict[str, Artefact]:
    decisions = DecisionLock(folder.lock_path, Path(lock) if lock else None)
    artefacts = Runner(pipeline, loaded, folder, decisions, language or environment.language()).run()
    _write_card(artefacts)
    return artefacts


def _write_card(artefacts: Mapping[str, Artefact]) -> None:
    """Put the card of the report beside the weights: the one file of a finished artefact that may be replaced."""
    if "report" not in artefacts or "pretrain" not in artefacts:
        return
    card = (artefacts["report"].folder / "card.md").read_text(encoding="utf-8")
    target = artefacts["pretrain"].folder / "model" / "README.md"
    if not target.exists() or target.read_text(encoding="utf-8") != card:
        files.write_text(target, card)


def open_run(run: str | Path | None = None, *, runs: str | Path | None = None) -> Run:
    """A finished run by path, by name, or (None) the latest."""
    folder = find_run(Path(runs) if runs else environment.runs_folder(), run)
    return Run(folder.name, folder.folder, folder.artefacts())


def load(run: str | Path | None = None, *, runs: str | Path | None = None) -> LoadedModel:
    """The model of a run (path, name, or None for the latest), or of a model folder."""
    environment.prepare()
    from treino.models.folder import load_model

    if run is not None and (Path(run) / "config.json").is_file():
        return LoadedModel(*load_model(Path(run)))
    return LoadedModel(*load_model(open_run(run, runs=runs).model_folder))


def generate(prompt: str, run: str | Path | None = None, *, runs: str | Path | None = None, **options: Any) -> str:
    """Continue a prompt with the model of a run; options: tokens, temperature, top_k, top_p, greedy, seed, stop."""
    return load(run, runs=runs).generate(prompt, **options)


def _part(artefacts: Mapping[str, Artefact], stage: str, part: str) -> Path:
    if stage not in artefacts:
        raise DataError(N_("this run has no finished stage {stage}"), fix=N_("run it again: treino run"), stage=stage)
    return artefacts[stage].folder / part

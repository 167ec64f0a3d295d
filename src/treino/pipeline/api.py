"""The public API: `treino.run`, `treino.load`, `treino.generate`, `treino.predict`, `treino.build_corpus`."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treino import environment, events, files, interruption
from treino.errors import DataError, UsageError
from treino.messages import N_
from treino.pipeline.corpus_build import build_corpus as build_corpus
from treino.pipeline.lock import DecisionLock
from treino.pipeline.place import Cluster, Place, started_together
from treino.pipeline.run_folder import RUN, RunFolder, all_runs, brought_model, find_run, language_model, part_of
from treino.pipeline.runner import Runner
from treino.pipeline.stage import Pipeline
from treino.pipeline.stages import pipeline_of
from treino.pipeline.store import Artefact
from treino.recipe import CleanSettings
from treino.recipe.load import LoadedRecipe, load_recipe

MADE_MODEL = {"pretrain", "adopt"}
"""Stages of which one gives a run its language model."""


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
    def has_model(self) -> bool:
        """Whether a language model is in the run; a run that asks a remote one has none."""
        return bool(MADE_MODEL & self.artefacts.keys())

    @property
    def model_folder(self) -> Path:
        """The model as a Hugging Face folder (the LSTM: a folder of its own form)."""
        if "finetune" in self.artefacts and not self.has_model:
            raise DataError(
                N_("the run {name} asked a model elsewhere, and has none of its own"),
                fix=N_("name a run that trained one"),
                name=self.name,
            )
        return language_model(self.artefacts)

    @property
    def classifier_folder(self) -> Path | None:
        """The fine-tuned classifier's folder, where the recipe asked for one, and not for a remote model's answers."""
        made = "finetune" in self.artefacts and self.has_model
        return part_of(self.artefacts, "finetune", "model") if made else None

    @property
    def passed(self) -> bool | None:
        """Whether the test split (of a model that answers, the held-out conversations) passed the gate; None where the recipe
        sets no threshold.
        """
        return self.facts.get("judge", self.facts.get("chat", {})).get("passed")

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return part_of(self.artefacts, "report", "report.html")

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

    def answer(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Iterator[str]:
        """Pieces of the assistant's answer to messages {role, content}, up to the end of its turn; options as in `stream`."""
        from treino.models.generation import answer
        from treino.tokens.chat import Chat

        return answer(self.model, Chat(self.tokenizer, datetime.date.today()), messages, **options)

    def next_tokens(self, prompt: str, top: int = 5) -> list[tuple[str, float]]:
        """The `top` likeliest next tokens with their probabilities."""
        from treino.models.generation import next_token_probabilities

        return next_token_probabilities(self.model, self.tokenizer, prompt, top)


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier with its tokenizer, ready to name the classes of texts.

    `about`: how texts are made ready, {long_texts, clean}, as when it was trained.
    """

    model: Any
    tokenizer: Any
    about: Mapping[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers."""
        return self.model.labels

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """For each text {label, probability, probabilities (by class)}; None for a text too long, if those are dropped.

        Where texts may have several classes or none, `labels` are those that reach their thresholds, `label` is all of them in
        one string, and `probability` is None.
        """
        from treino.corpus.clean import clean_text
        from treino.models.classifier import predict as predict_pieces
        from treino.tokens.labelled import encode

        cleaning = CleanSettings(**self.about.get("clean", {}))
        cleaned = [clean_text(text, cleaning)[0] for text in texts]
        rule = self.about.get("long_texts", "cut")
        pieces = encode(cleaned, [0] * len(texts), self.tokenizer, context=self.model.body.longest_row, long_texts=rule)
        return [self._answer(chances) for chances in predict_pieces(self.model, pieces)]

    def _answer(self, chances: Any) -> dict[str, Any]:
        if chances[0] != chances[0]:
            return {"label": None, "probability": None, "probabilities": None}
        by_class = {label: float(chance) for label, chance in zip(self.labels, chances, strict=True)}
        if self.model.thresholds is not None:
            reached = zip(self.labels, chances, self.model.thresholds, strict=True)
            labels = [label for label, chance, threshold in reached if chance >= threshold]
            return {"label": ", ".join(labels), "labels": labels, "probability": None, "probabilities": by_class}
        best = int(chances.argmax())
        return {"label": self.labels[best], "probability": float(chances[best]), "probabilities": by_class}


def run(
    recipe: str | Path | Mapping[str, Any] | LoadedRecipe | None = None,
    *,
    overrides: Iterable[str] = (),
    runs: str | Path | None = None,
    lock: str | Path | None = None,
    listener: events.Listener | None = None,
    pipeline: Pipeline | None = None,
    language: str | None = None,
    ranks: int = 1,
    cluster: Cluster | None = None,
) -> Run:
    """Run a recipe from raw text to a trained model; stages whose result is ready are not run again.

    Under torchrun the first process calls this, and the others `treino.training.order.follow`.

    Args:
        recipe: path of a TOML file, name of a ready recipe, dictionary of settings, or None for `quickstart`.
        overrides: settings as `table.name=value`, stronger than the recipe's.
        runs: folder for runs and artefacts; by default `TREINO_RUNS` or `./runs`.
        lock: lock file of another run whose measured decisions are taken over.
        listener: called with every event.
        pipeline: the stages, by default those that the recipe asks for; `treino.pipeline.stage.insert` adds one.
        language: of the report, `en` or `pt_BR`; by default the reader's.
        ranks: processes that pretrain together, started here by torchrun.
        cluster: the Ray cluster that makes the documents, instead of this machine's processors.

    Raises:
        TreinoError: with a sentence, the place and the fix.
    """
    environment.prepare()
    loaded = recipe if isinstance(recipe, LoadedRecipe) else load_recipe(recipe, overrides)
    pipeline = pipeline or pipeline_of(loaded.recipe)
    folder = RunFolder(Path(runs) if runs else environment.runs_folder(), loaded.recipe.name)
    if cluster:
        from treino.corpus.engine import use_ray

        use_ray(cluster.address)
    _check_bases(loaded, folder)
    with started_together(ranks) as place:
        _check_place(place, pipeline, loaded)
        with interruption.catching(), folder.exclusive(), contextlib.ExitStack() as hearing:
            hearing.enter_context(events.listening(folder.record_event))
            if listener is not None:
                hearing.enter_context(events.listening(listener))
            decisions = DecisionLock(folder.lock_path, Path(lock) if lock else None, place.ranks)
            artefacts = Runner(pipeline, loaded, folder, decisions, language or environment.language(), place).run()
            _write_cards(artefacts)
    return Run(folder.name, folder.folder, artefacts)


def _check_bases(loaded: LoadedRecipe, folder: RunFolder) -> None:
    """Refuse a run that starts from itself: its record is written anew before the model that stands in it is asked for."""
    recipe, own = loaded.recipe, folder.folder
    bases = {
        "finetune.base": recipe.finetune.base,
        "pretrain.base": recipe.pretrain.base,
        "order.model": recipe.order.model,
    }
    for key, base in bases.items():
        if base and own.is_dir() and (loaded.base / base).is_dir() and own.samefile(loaded.base / base):
            raise UsageError(
                N_("{key} is this run's own folder, which the run would write over"),
                where=loaded.title,
                fix=N_("give this run another name: --set name=..."),
                key=key,
            )


def _check_place(place: Place, pipeline: Pipeline, loaded: LoadedRecipe) -> None:
    if place.ranks == 1:
        return
    if not any(stage.name == "pretrain" for stage in pipeline):
        raise UsageError(
            N_("this recipe pretrains nothing, and several processes share a pretraining alone"),
            fix=N_("run it in one process: without --on, and without torchrun"),
        )
    place.check(loaded.recipe)


def _write_cards(artefacts: Mapping[str, Artefact]) -> None:
    """Put the cards of the report beside the weights: the one file of a finished artefact that may be replaced."""
    if "report" not in artefacts:
        return
    for card, stage in (("card.md", "pretrain"), ("classifier.md", "finetune"), ("chat.md", "chat")):
        if stage not in artefacts or not (artefacts[stage].folder / "model").is_dir():
            continue
        text = (artefacts["report"].folder / card).read_text(encoding="utf-8")
        target = artefacts[stage].folder / "model" / "README.md"
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            files.write_text(target, text)


def open_run(run: str | Path | None = None, *, runs: str | Path | None = None) -> Run:
    """A finished run by path, by name, or (None) the one that finished last."""
    folder = find_run(Path(runs) if runs else environment.runs_folder(), run)
    return Run(folder.name, folder.folder, folder.artefacts())


def load(run: str | Path | None = None, *, runs: str | Path | None = None) -> LoadedModel:
    """The model of a run (path, name, or None for the latest), of a model folder, or (`owner/name@revision`) of the hub."""
    environment.prepare()
    from treino.models.folder import load_model

    brought = brought_model(run) if run is not None else None
    model, tokenizer = load_model(brought or open_run(run, runs=runs).model_folder)
    return LoadedModel(_where_it_answers(model), tokenizer)


def _where_it_answers(model: Any) -> Any:
    """The model on an NVIDIA GPU, if one is there: steps of one token are captured there; else on the processors."""
    from treino.models.device import choose

    device = choose().device
    return model.to(device) if device.type == "cuda" else model


def load_classifier(run: str | Path | None = None, *, runs: str | Path | None = None) -> LoadedClassifier:
    """The classifier of a run (path, name, or None for the latest run that has one), or of a model folder."""
    environment.prepare()
    from treino.models.classifier_folder import load_classifier as load_folder

    if run is not None and (brought := brought_model(run)):
        return LoadedClassifier(*load_folder(brought))
    folder = open_run(run, runs=runs).classifier_folder if run is not None else _latest_classifier(runs)
    if folder is None:
        raise DataError(
            N_("the run {name} has no classifier of its own"),
            fix=N_("give its recipe labelled texts ([labels] source = ...), or fine-tune its model: treino finetune"),
            name=str(run),
        )
    return LoadedClassifier(*load_folder(folder))


def _has_classifier(run: RunFolder) -> bool:
    stages = {row["name"] for row in run.look()["stages"]}
    return "finetune" in stages and bool(MADE_MODEL & stages)


def _latest_classifier(runs: str | Path | None) -> Path:
    folder = Path(runs) if runs else environment.runs_folder()
    tuned = [item for item in all_runs(folder) if _has_classifier(item)]
    if not tuned:
        raise DataError(
            N_("there is no run with a classifier in {runs} yet"), fix=N_("start with: treino run"), runs=str(folder)
        )
    newest = max(tuned, key=lambda item: (item.folder / RUN).stat().st_mtime)
    return part_of(newest.artefacts(), "finetune", "model")


def predict(
    texts: str | Sequence[str], run: str | Path | None = None, *, runs: str | Path | None = None
) -> list[dict[str, Any]]:
    """Classes of texts with their probabilities, by the classifier of a run."""
    return load_classifier(run, runs=runs).predict([texts] if isinstance(texts, str) else list(texts))


def generate(prompt: str, run: str | Path | None = None, *, runs: str | Path | None = None, **options: Any) -> str:
    """Continue a prompt with the model of a run; options: tokens, temperature, top_k, top_p, greedy, seed, stop."""
    return load(run, runs=runs).generate(prompt, **options)

"""The stage as a whole: a small random model judged on a small town, every figure held against one computed by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from treino import files
from treino.corpus import documents as documents_module
from treino.corpus.clean import clean
from treino.corpus.collect import collect
from treino.corpus.decontaminate.decontaminate import CONTAMINATED
from treino.corpus.deduplicate.deduplicate import deduplicate
from treino.corpus.documents import iterate_texts, read_rows, write_rows
from treino.corpus.world.documents import log_probability
from treino.corpus.world.facts import World
from treino.errors import MachineError
from treino.evaluation import compressor
from treino.evaluation.evaluate import evaluate, read_held_out
from treino.evaluation.loss import token_losses
from treino.evaluation.truthfulness import read_prompts
from treino.models.build import build_model
from treino.models.folder import load_model, save_model
from treino.recipe import CleanSettings, CorpusSettings, DeduplicateSettings, EvaluateSettings, ModelSettings
from treino.recipe import WorldSettings as Settings
from treino.report.facts import Evaluation, Truthfulness
from treino.report.judgement import verdict_on_baselines
from treino.tokens.tokenise import tokenise
from treino.tokens.tokenizer import Tokenizer

SEED = 6
WORLD = Settings(documents=220, people=6, duplicates=0.05, near_duplicates=0.05, noise=0.05)
QUICK = EvaluateSettings(sample_megabytes=0.02, bootstrap=100)
SUMS = 1e-5
"""Relative: a float32 loss for each token, added up in double precision."""


@dataclass(frozen=True)
class Town:
    """Folders of the stages before."""

    documents: Path
    truth: Path
    tokens: dict[str, Path]
    models: dict[str, Path]

    def judge(self, output: Path, *, kind: str = "bpe", architecture: str = "transformer", **changes: Any) -> Any:
        """Evaluate; `changes` are settings, or `documents`, `truth` and `contamination`."""
        given = {"documents": self.documents, "truth": self.truth} | {
            name: changes.pop(name) for name in ("documents", "truth") if name in changes
        }
        contamination = changes.pop("contamination", None)
        output.mkdir(parents=True, exist_ok=True)
        settings = QUICK.model_copy(update=changes)
        model = self.models[f"{kind}-{architecture}"]
        folders = (model, self.tokens[kind], given["documents"], given["truth"], output)
        return evaluate(settings, *folders, SEED, contamination)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    folder = tmp_path_factory.mktemp("cidade pequena, é")
    stages = {name: files.make_private(folder / name) for name in ("collected", "cleaned", "documents")}
    collect(CorpusSettings(held_out=0.2), WORLD, stages["collected"], SEED, folder)
    clean(CleanSettings(), stages["collected"], stages["cleaned"])
    deduplicate(DeduplicateSettings(), stages["cleaned"], stages["documents"])
    tokens, models = {}, {}
    for kind in ("bpe", "words"):
        tokens[kind] = files.make_private(folder / kind)
        settings: Any = SimpleNamespace(kind=kind, vocabulary=400, lowercase=False, validation=0.1)
        tokenise(settings, stages["documents"], tokens[kind], SEED)
        for architecture in ("transformer", "lstm"):
            models[f"{kind}-{architecture}"] = folder / f"{kind}-{architecture}"
            random_model(architecture, Tokenizer.load(tokens[kind]), models[f"{kind}-{architecture}"])
    return Town(stages["documents"], stages["collected"] / "truth", tokens, models)


def random_model(architecture: str, tokenizer: Tokenizer, folder: Path) -> None:
    """Its context is shorter than most documents."""
    torch.manual_seed(0)
    shape = {"width": 16, "layers": 1, "heads": 2, "kv_heads": 1, "feed_forward": 24, "embedding": 16, "context": 24}
    settings = ModelSettings(architecture=architecture, **shape)  # type: ignore[arg-type]
    save_model(build_model(settings, tokenizer.size), tokenizer, folder)


@pytest.fixture(scope="module")
def judged(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """The facts of a whole evaluation, made once for each architecture; checked to be what was written."""
    made: dict[str, dict[str, Any]] = {}

    def facts(architecture: str) -> dict[str, Any]:
        if architecture not in made:
            output = tmp_path_factory.mktemp(architecture)
            made[architecture] = town.judge(output, architecture=architecture)
            assert files.read_json(output / "evaluation.json") == made[architecture]
        return made[architecture]

    return facts


def held_out_texts(town: Town) -> list[str]:
    return [text for _, text in iterate_texts(town.documents, "held_out")]


def altered(town: Town, folder: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Path:
    """A documents folder with other held-out rows."""
    for part in ("training", "held_out"):
        rows = list(read_rows(town.documents, part))
        write_rows(folder / part, change(rows) if part == "held_out" else rows)
    return folder


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_facts_have_all_that_the_report_draws(
    judged: Callable[[str], dict[str, Any]], town: Town, architecture: str
) -> None:
    facts = judged(architecture)
    assert Evaluation.__annotations__.keys() - {"without_contaminated"} <= facts.keys()
    json.dumps(facts, allow_nan=False)
    assert facts["documents_in"] == facts["documents"] == len(held_out_texts(town)) >= 30
    assert facts["interval_over"] == "documents"
    assert [row["name"] for row in facts["baselines"]] == ["kneser_ney_3", "kneser_ney_5", "xz", "xz_after_training"]
    assert [row["group"] for row in facts["truthfulness"]] == ["stated", "derived", "control"]
    for row in facts["truthfulness"]:
        assert Truthfulness.__annotations__.keys() <= row.keys()
        assert row["model"]["low"] <= row["model"]["mean"] <= row["model"]["high"]
    assert sorted(facts["ahead_of"] + facts["behind"]) == sorted(row["name"] for row in facts["baselines"])
    assert verdict_on_baselines(facts) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_bits_per_byte_count_end_tokens_and_the_bytes_of_the_text(
    judged: Callable[[str], dict[str, Any]], town: Town, architecture: str
) -> None:
    facts, texts = judged(architecture), held_out_texts(town)
    model, tokenizer = load_model(town.models[f"bpe-{architecture}"])
    losses = token_losses(model, [np.array(tokenizer.encode(text)) for text in texts], tokenizer.end_of_text)
    nats, size = math.fsum(float(value) for row in losses for value in row), sum(len(text.encode()) for text in texts)
    assert facts["tokens"] == sum(len(tokenizer.encode(text)) + 1 for text in texts)
    assert facts["bytes"] == size
    assert facts["loss"] == pytest.approx(nats / facts["tokens"], rel=SUMS)
    assert facts["perplexity"] == pytest.approx(math.exp(facts["loss"]), rel=SUMS)
    interval = facts["bits_per_byte"]
    assert interval["mean"] == pytest.approx(nats / math.log(2) / size, rel=SUMS)
    assert interval["low"] < interval["mean"] < interval["high"]


def test_bytes_of_tokens_add_up_to_those_of_any_text(town: Town) -> None:
    tokenizer = Tokenizer.load(town.tokens["bpe"])
    sizes = tokenizer.token_bytes()
    for text in ("É à noite", "naïve — “não”\n\n\tfim", "日本語 🙂", "<|endoftext|> <|pad|>", "\x00\x7f", ""):
        assert sizes[np.array(tokenizer.encode(text), np.int64)].sum() == len(text.encode())
    assert sizes[tokenizer.end_of_text] == sizes[tokenizer.pad] == 0


def test_the_gap_to_the_generator_is_exact(judged: Callable[[str], dict[str, Any]], town: Town) -> None:
    """What cleaning left of every held-out document is still the text whose probability the generator stated."""
    facts, world, texts = judged("transformer"), World.build(WORLD, SEED), held_out_texts(town)
    logs = [log_probability(world, text) for text in texts]
    own = -math.fsum(logs) / math.log(2) / sum(len(text.encode()) for text in texts)
    assert facts["generator_bits_per_byte"] == pytest.approx(own)
    assert facts["model_bits_per_byte_there"] == pytest.approx(facts["bits_per_byte"]["mean"], rel=SUMS)
    assert facts["gap_to_generator"] == pytest.approx(facts["bits_per_byte"]["mean"] - own, rel=SUMS)
    assert facts["gap_to_generator"] > 0


def test_documents_that_the_generator_did_not_write_are_left_out_of_the_gap(
    judged: Callable[[str], dict[str, Any]], town: Town, tmp_path: Path
) -> None:
    """Near copies and damaged texts have no probability; documents of other sources have no such record."""

    def add(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        noise = json.dumps({"planted": "noise", "log_probability": None})
        metas = [noise, "{}", "", None]
        foreign = [{**rows[0], "id": f"x{n}", "text": "Outra coisa. " * 9, "meta": m} for n, m in enumerate(metas)]
        return [*foreign, *rows]

    facts = town.judge(tmp_path / "out", documents=altered(town, tmp_path / "more", add), compressor=False)
    before = judged("transformer")
    assert facts["documents"] == before["documents"] + 4
    for name in ("generator_bits_per_byte", "model_bits_per_byte_there", "gap_to_generator"):
        assert facts[name] == pytest.approx(before[name], rel=SUMS)
    assert facts["bits_per_byte"]["mean"] != pytest.approx(before["bits_per_byte"]["mean"], rel=1e-3)


def test_n_grams_are_given_all_training_tokens(judged: Callable[[str], dict[str, Any]], town: Town) -> None:
    """Validation documents among them: a 3-gram that was counted on the documents themselves has the same bits."""
    from treino.evaluation.ngram import KneserNey

    tokenizer = Tokenizer.load(town.tokens["bpe"])

    def flat(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = [[*ids, tokenizer.end_of_text] for ids in tokenizer.encode_batch(texts)]
        return np.concatenate(rows), np.cumsum([0, *map(len, rows)])

    training = [text for _, text in iterate_texts(town.documents, "training")]
    model = KneserNey.train(*flat(training), order=3, vocabulary=tokenizer.size)
    row, size = judged("transformer")["baselines"][0], judged("transformer")["bytes"]
    nats = -float(model.log_probabilities(*flat(held_out_texts(town))).sum())
    assert row["bits_per_byte"] == pytest.approx(nats / math.log(2) / size)
    assert row["loss"] == pytest.approx(nats / judged("transformer")["tokens"])


def test_xz_states_what_it_read(judged: Callable[[str], dict[str, Any]]) -> None:
    alone, after = judged("transformer")["baselines"][2:]
    assert after["bits_per_byte"] < alone["bits_per_byte"]
    for row in (alone, after):
        assert row["training_bytes"] == 20_000 and row["held_out_bytes"] <= 20_000


def test_a_random_model_is_no_better_than_chance_and_the_facts_say_so(judged: Callable[[str], dict[str, Any]]) -> None:
    facts = judged("lstm")
    assert {"kneser_ney_3", "kneser_ney_5"} <= set(facts["behind"])
    control = facts["truthfulness"][-1]
    assert control["model"]["low"] - 0.05 < control["chance"] < control["model"]["high"] + 0.05


def test_the_same_twice(judged: Callable[[str], dict[str, Any]], town: Town, tmp_path: Path) -> None:
    assert town.judge(tmp_path) == judged("transformer")


def test_held_out_text_is_read_once(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[str] = []
    listing = documents_module.part_files

    def watched(folder: Path, part: str) -> list[Path]:
        parts.append(part)
        return listing(folder, part)

    monkeypatch.setattr(documents_module, "part_files", watched)
    town.judge(tmp_path)
    assert parts.count("held_out") == 1
    assert parts[0] == "held_out"


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
def test_words_have_a_loss_and_no_bits_per_byte(town: Town, tmp_path: Path, architecture: str) -> None:
    """Nor are they held against what has only those; the n-grams over the same words have a loss, too."""
    facts = town.judge(tmp_path, kind="words", architecture=architecture)
    assert facts["bits_per_byte"] is None and "bytes" not in facts
    assert not {"generator_bits_per_byte", "gap_to_generator"} & facts.keys()
    assert [row.keys() for row in facts["baselines"]] == [{"name", "loss"}] * 2
    assert facts["loss"] > 0 and facts["perplexity"] == pytest.approx(math.exp(facts["loss"]))
    assert sorted(facts["ahead_of"] + facts["behind"]) == ["kneser_ney_3", "kneser_ney_5"]
    assert len(facts["truthfulness"]) == 3


def test_few_documents_are_drawn_from_in_blocks(town: Town, tmp_path: Path) -> None:
    fewer = altered(town, tmp_path / "fewer", lambda rows: rows[:3])
    facts = town.judge(tmp_path / "out", documents=fewer, compressor=False, ngrams=False)
    assert facts["interval_over"] == "blocks" and facts["documents"] == 3
    assert facts["baselines"] == facts["ahead_of"] == facts["behind"] == []


def test_one_short_document_has_no_interval(town: Town, tmp_path: Path) -> None:
    single = altered(town, tmp_path / "one", lambda rows: rows[:1])
    facts = town.judge(tmp_path / "out", documents=single)
    assert facts["bits_per_byte"]["low"] is facts["bits_per_byte"]["high"] is None
    assert verdict_on_baselines(facts) is not None


def test_without_held_out_text_only_the_truth_is_asked_for(town: Town, tmp_path: Path) -> None:
    none = altered(town, tmp_path / "none", lambda rows: [])
    facts = town.judge(tmp_path / "out", documents=none)
    assert (facts["documents"], facts["baselines"]) == (0, [])
    assert "loss" not in facts and "bits_per_byte" not in facts
    assert len(facts["truthfulness"]) == 3


def test_without_a_world_there_is_no_truth(town: Town, tmp_path: Path) -> None:
    facts = town.judge(tmp_path, truth=None, compressor=False, ngrams=False)
    assert facts["truthfulness"] == []
    assert facts["loss"] > 0


def test_contaminated_items_are_told_apart(town: Town, tmp_path: Path, judged: Callable[[str], dict[str, Any]]) -> None:
    """The figures of the others are those of an evaluation that never had them; where none was found, there are none."""
    whole, folder = judged("transformer"), tmp_path / "found"
    rows = list(read_rows(town.documents, "held_out"))
    found = [row["id"] for row in rows[::3]]
    prompts = read_prompts(town.truth)
    told = {"held_out": {"items": len(rows), "contaminated": found}}
    folder.mkdir()
    files.write_json(folder / CONTAMINATED, told | {"world": {"contaminated": [prompts[0]["id"]]}})
    facts = town.judge(tmp_path / "a", contamination=folder)
    assert {name: facts[name] for name in whole} == whole
    without = altered(town, tmp_path / "rest", lambda rows: [row for row in rows if row["id"] not in found])
    rest = town.judge(tmp_path / "b", documents=without)
    names = ("documents", "tokens", "bytes", "loss", "perplexity")
    for name in names:
        assert facts["without_contaminated"][name] == pytest.approx(rest[name], rel=SUMS)
    asked = {row["group"]: row["prompts"] for row in facts["truthfulness_without_contaminated"]}
    before = {row["group"]: row["prompts"] for row in whole["truthfulness"]}
    assert sum(before.values()) - sum(asked.values()) == 1
    assert before[prompts[0]["group"]] - asked[prompts[0]["group"]] == 1
    files.write_json(folder / CONTAMINATED, {})
    assert town.judge(tmp_path / "c", contamination=folder) == whole


def test_a_compressor_that_fails_ends_the_stage_with_a_sentence(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "broken.py"
    program.write_text("raise MemoryError", encoding="utf-8")
    monkeypatch.setattr(compressor.xz, "__file__", str(program))
    with pytest.raises(MachineError, match="sample_megabytes"):
        town.judge(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_held_out_documents_know_their_bytes_and_what_the_generator_says(town: Town) -> None:
    held_out = read_held_out(town.documents, Tokenizer.load(town.tokens["bpe"]))
    for text, ids, size in zip(held_out.texts, held_out.documents, held_out.sizes, strict=True):
        assert len(size) == len(ids) + 1 and size[-1] == 0
        assert size.sum() == len(text.encode())
    assert all(value is not None and value < 0 for value in held_out.known)

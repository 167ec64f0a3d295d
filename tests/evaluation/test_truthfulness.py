"""Truthfulness is the share of the true answers in the probability of all candidates, and its rivals are scored alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from treino.corpus.world.documents import documents
from treino.corpus.world.facts import World
from treino.corpus.world.prompts import prompts, write_truth
from treino.evaluation.loss import token_losses
from treino.evaluation.ngram import KneserNey
from treino.evaluation.truthfulness import (
    by_group,
    frequencies,
    masses,
    model_scorer,
    ngram_scorer,
    occurrences,
    read_prompts,
)
from treino.models.base import LanguageModel
from treino.models.build import build_model
from treino.recipe import ModelSettings, WorldSettings
from treino.tokens.tokenizer import Tokenizer, train_tokenizer

FLOAT32 = 1e-5
"""Of log probabilities of a few nats, in float32."""
WORLD = WorldSettings(documents=300, people=8)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [document.text for document in documents(WORLD, 5)]


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Tokenizer:
    """Small enough that most answers are several tokens."""
    return train_tokenizer(iter(texts), SimpleNamespace(kind="bpe", vocabulary=400, lowercase=False))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def asked() -> list[dict[str, Any]]:
    return prompts(World.build(WORLD, 5))


class Chain(LanguageModel):
    """A model whose next token depends on the last one alone, with probabilities that are known."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__(SimpleNamespace(context=64, architecture="transformer"), vocabulary)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(2)
        self.table = torch.nn.Parameter(2 * torch.randn(vocabulary, vocabulary, generator=generator))

    def hidden(self, ids: Tensor, positions: Any = None, segments: Any = None, cache: Any = None) -> Tensor:
        return self.table[ids]

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden

    def new_cache(self, rows: int, length: int) -> Any:
        return None

    def parts(self) -> list[list[torch.nn.Parameter]]:
        return [[self.table]]

    def probability(self, prompt: Sequence[int], candidate: Sequence[int]) -> float:
        """Product over the candidate's tokens."""
        table, product, last = torch.softmax(self.table.detach().double(), 1), 1.0, ([0, *prompt])[-1]
        for token in candidate:
            product *= float(table[last, token])
            last = token
        return product


def question(candidates: Sequence[str], answers: Sequence[str], **changes: str) -> dict[str, Any]:
    values = {"group": "stated", "person": "Ana", "kind": "pet", "prompt": "Ana tem"}
    return {**values, "candidates": list(candidates), "answers": list(answers), **changes}


def model_of(architecture: str, vocabulary: int, context: int) -> LanguageModel:
    torch.manual_seed(1)
    shape = {"width": 16, "layers": 1, "heads": 2, "kv_heads": 2, "feed_forward": 24, "embedding": 16}
    settings = ModelSettings(architecture=architecture, context=context, **shape)  # type: ignore[arg-type]
    model = build_model(settings, vocabulary)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model.eval()


def test_share_of_the_true_answers_in_all_candidates() -> None:
    """Three candidates with .1, .3 and .4 of the probability; .2 goes to texts that nobody asked about."""
    known = dict(zip((" um gato", " um pato", " uma cabra"), (0.1, 0.3, 0.4), strict=True))
    tokenizer: Any = SimpleNamespace(encode=lambda text: [text])

    def score(pairs: Sequence[tuple[list[Any], list[Any]]]) -> np.ndarray:
        assert all(prompt == ["Ana tem"] for prompt, _ in pairs)
        return np.log([known[candidate[0]] for _, candidate in pairs])

    rows = [question(known, answers) for answers in ([" um gato"], [" um pato", " uma cabra"], list(known))]
    assert masses(rows, tokenizer, score).tolist() == pytest.approx([0.1 / 0.8, 0.7 / 0.8, 1.0])


def test_probabilities_too_small_for_a_float_still_have_shares() -> None:
    tokenizer: Any = SimpleNamespace(encode=lambda text: [text])
    rows = [question(["a", "b"], ["a"])]
    found = masses(rows, tokenizer, lambda pairs: np.array([-5000.0, -5000.0 + math.log(3)]))
    assert found.tolist() == pytest.approx([0.25])


def test_a_model_with_known_probabilities_gets_the_exact_figure(
    tokenizer: Tokenizer, asked: list[dict[str, Any]]
) -> None:
    """Answers of several tokens: the product of their probabilities, behind the prompt that begins a document."""
    model = Chain(tokenizer.size)
    found = masses(asked, tokenizer, model_scorer(model, tokenizer.end_of_text))
    lengths = set()
    for row, value in zip(asked, found, strict=True):
        prompt = tokenizer.encode(row["prompt"])
        encoded = [tokenizer.encode(candidate) for candidate in row["candidates"]]
        lengths |= {len(candidate) for candidate in encoded}
        p = [model.probability(prompt, candidate) for candidate in encoded]
        true = sum(p[row["candidates"].index(answer)] for answer in row["answers"])
        assert value == pytest.approx(true / sum(p), rel=1e-4)
    assert max(lengths) > 3


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
@pytest.mark.parametrize("context", [128, 12])
def test_pairs_scored_together_equal_each_alone(architecture: str, context: int) -> None:
    """Pairs of many lengths beside each other; those longer than a Transformer's context are cut at their beginning."""
    model, draw = model_of(architecture, 30, context), np.random.default_rng(0)
    pairs = [
        (draw.integers(1, 30, int(before)).tolist(), draw.integers(1, 30, int(own)).tolist())
        for before, own in zip(draw.integers(0, 30, 40), draw.integers(1, 5, 40), strict=True)
    ]
    found = model_scorer(model, 0)(pairs)
    reach = context if architecture == "transformer" else 10**6
    for (prompt, candidate), value in zip(pairs, found, strict=True):
        row = torch.tensor([[0, *prompt, *candidate][-reach - 1 :]])
        with torch.inference_mode():
            logs = torch.log_softmax(model(row[:, :-1])[0].double(), 1)
        own = logs.gather(1, row[0, 1:, None])[-len(candidate) :].sum()
        assert value == pytest.approx(float(own), abs=FLOAT32)


def test_a_candidate_is_scored_as_the_same_tokens_in_a_document() -> None:
    model = model_of("transformer", 30, 32)
    prompt, candidate = [4, 9, 2], [7, 7, 21]
    losses = token_losses(model, [np.array([*prompt, *candidate])], 0)[0]
    assert model_scorer(model, 0)([(prompt, candidate)])[0] == pytest.approx(-losses[3:6].sum(), abs=FLOAT32)


def test_the_n_gram_is_scored_alike(tokenizer: Tokenizer, texts: list[str], asked: list[dict[str, Any]]) -> None:
    rows = [[*ids, tokenizer.end_of_text] for ids in tokenizer.encode_batch(texts)]
    offsets = np.cumsum([0, *map(len, rows)])
    model = KneserNey.train(np.concatenate(rows), offsets, order=5, vocabulary=tokenizer.size)
    pairs = [
        (tokenizer.encode(row["prompt"]), tokenizer.encode(candidate))
        for row in asked[:20]
        for candidate in row["candidates"]
    ]
    found = ngram_scorer(model)(pairs)
    for (prompt, candidate), value in zip(pairs, found, strict=True):
        ids = np.array([*prompt, *candidate])
        alone = model.log_probabilities(ids, np.array([0, len(ids)]))
        assert value == pytest.approx(alone[len(prompt) :].sum(), abs=1e-9)
    shares = masses(asked, tokenizer, ngram_scorer(model))
    assert ((shares > 0) & (shares < 1)).all()


def test_no_candidate_begins_another_and_prompts_end_where_a_token_does(
    tokenizer: Tokenizer, asked: list[dict[str, Any]]
) -> None:
    """So a candidate needs no mark of its end, and its tokens are those that the whole sentence would have."""
    for row in asked:
        for candidate in row["candidates"]:
            others = [other for other in row["candidates"] if other != candidate]
            assert not any(other.startswith(candidate) for other in others)
            whole = tokenizer.encode(row["prompt"] + candidate)
            assert tokenizer.encode(row["prompt"]) + tokenizer.encode(candidate) == whole


def test_frequency_is_the_answers_share_of_what_occurs() -> None:
    text = ["Ana viu um gato. O gatuno viu um gato, um gato!", "O gato, um patola e um pato; um gatorro"]
    rows = [question([" um gato", " um pato", " uma cabra"], [" um gato"]), question([" gato", " cabra"], [" cabra"])]
    assert frequencies(rows, iter(text)).tolist() == pytest.approx([4 / (4 + 2 + 1), 1 / (5 + 1)])


def test_only_whole_words_occur() -> None:
    """A profession is not found in its other gender, nor in its plural."""
    found = occurrences([" professor", " professora"], ["o professor e a professora", "professores\nprofessora"])
    assert found == {" professor": 1, " professora": 2}


def test_candidates_within_and_at_the_beginning_of_others_occur_too() -> None:
    found = occurrences([" bolo", " bolo de fubá", " fubá", " de fubá"], ["um bolo de fubá e um bolo, fubá"])
    assert found == {" bolo": 2, " bolo de fubá": 1, " fubá": 2, " de fubá": 1}


def test_occurrences_equal_a_search_for_each_candidate_alone(texts: list[str], asked: list[dict[str, Any]]) -> None:
    """On the world, against one regular expression per candidate; and the text is read once, as a stream."""
    candidates = {candidate for row in asked for candidate in row["candidates"]}
    stream: Iterator[str] = iter(texts)
    found = occurrences(candidates, stream)
    assert next(stream, None) is None
    assert found.keys() == candidates and sum(found.values()) > 500
    for candidate in candidates:
        alone = re.compile(rf"\b{re.escape(candidate.strip())}\b")
        assert found[candidate] == sum(len(alone.findall(text)) for text in texts)


def test_groups_stand_in_order_each_with_its_means() -> None:
    """Chance is #true / #candidates; a fact that two prompts ask for counts once, with the mean of both."""
    four = ["a", "b", "c", "d"]
    rows = [
        question(four, ["a"], group="control", person="Rui"),
        question(four, ["a"], person="Ana"),
        question(four, ["a"], person="Ana"),
        question(four, ["a", "b"], person="Ivo"),
        question(four[:2], ["b"], group="derived", person="Ana"),
    ]
    scores = {
        "model": np.array([0.2, 0.9, 0.7, 0.4, 0.5]),
        "frequency": np.array([0.1, 0.2, 0.4, 0.5, 0.6]),
        "ngram": np.array([0.3, 0.1, 0.3, 0.6, 0.9]),
    }
    found = by_group(rows, scores, resamples=200, seed=0)
    assert [row["group"] for row in found] == ["stated", "derived", "control"]
    stated, derived, control = found
    assert (stated["prompts"], stated["facts"]) == (3, 2)
    assert stated["model"]["mean"] == pytest.approx((0.8 + 0.4) / 2)
    assert stated["chance"] == pytest.approx((0.25 + 0.5) / 2)
    assert stated["frequency"] == pytest.approx((0.3 + 0.5) / 2)
    assert stated["ngram"] == pytest.approx((0.2 + 0.6) / 2)
    assert stated["model"]["low"] == pytest.approx(0.4) and stated["model"]["high"] == pytest.approx(0.8)
    assert derived["chance"] == 0.5 and control["chance"] == 0.25
    assert control["model"] == {"mean": 0.2, "low": None, "high": None}
    assert "ngram" not in by_group(rows, {"model": scores["model"]}, resamples=100, seed=0)[0]


def test_asking_twice_makes_no_interval_narrower() -> None:
    """Only facts are independent: two prompts for each give the interval that one for each gives."""
    draw = np.random.default_rng(1)
    names = [f"p{n}" for n in range(30)]
    once = [question(["a", "b"], ["a"], person=name) for name in names]
    shares = draw.random(30)
    first = by_group(once, {"model": shares}, resamples=300, seed=4)[0]["model"]
    second = by_group(once * 2, {"model": np.tile(shares, 2)}, resamples=300, seed=4)[0]["model"]
    assert second == pytest.approx(first)
    assert first["low"] < first["mean"] < first["high"]


def test_prompts_are_read_as_they_were_written(tmp_path: Any, asked: list[dict[str, Any]]) -> None:
    write_truth(World.build(WORLD, 5), tmp_path)
    assert read_prompts(tmp_path) == asked
    assert {row["group"] for row in asked} == {"stated", "derived", "control"}

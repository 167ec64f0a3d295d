"""Generation: choices against a slow reference, ends, streams, and texts longer than the model's memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from small_models import make

from treino.errors import UsageError
from treino.models import decoding, generation
from treino.models.base import Cache, LanguageModel
from treino.models.generation import _sample, generate, generate_batch, next_token_probabilities
from treino.tokens.tokenizer import Tokenizer


@pytest.fixture(scope="module", params=["transformer", "lstm"])
def model(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> LanguageModel:
    return make(tokenizer.size, architecture=request.param)


def text(model: LanguageModel, tokenizer: Tokenizer, prompt: str = "A padaria", **options: Any) -> str:
    return "".join(generate(model, tokenizer, prompt, **({"tokens": 20, "seed": 1} | options)))


def test_greedy_takes_the_likeliest_token_of_the_whole_text(model: LanguageModel, tokenizer: Tokenizer) -> None:
    ids = [tokenizer.end_of_text, *tokenizer.encode("A padaria")]
    begun = len(ids)
    with torch.no_grad():
        for _ in range(15):
            number = int(model(torch.tensor([ids]))[0, -1].argmax())
            if number == tokenizer.end_of_text:
                break
            ids.append(number)
    assert text(model, tokenizer, tokens=15, greedy=True) == tokenizer.decode(ids[begun:])


def test_equal_seeds_give_equal_text(model: LanguageModel, tokenizer: Tokenizer) -> None:
    assert text(model, tokenizer, seed=5) == text(model, tokenizer, seed=5)
    assert len({text(model, tokenizer, seed=seed) for seed in range(4)}) > 1


def test_a_text_longer_than_the_memory_goes_on(model: LanguageModel, tokenizer: Tokenizer) -> None:
    long = text(model, tokenizer, prompt="O gato subiu no telhado " * 20, tokens=3 * model.context)
    assert len(tokenizer.encode(long)) > model.context


def test_over_its_memory_a_model_reads_the_last_half_again(tokenizer: Tokenizer) -> None:
    model = make(tokenizer.size)
    prompt = "O gato subiu no telhado e a menina olhou " * 4
    ids = [tokenizer.end_of_text, *tokenizer.encode(prompt)]
    assert len(ids) > model.context
    with torch.no_grad():
        first = int(model(torch.tensor([ids[-model.context :]]))[0, -1].argmax())
        ids.append(first)
        second = int(model(torch.tensor([ids[-model.context // 2 :]]))[0, -1].argmax())
    assert text(model, tokenizer, prompt, tokens=2, greedy=True) == tokenizer.decode([first, second])


def test_next_tokens_are_the_softmax_of_the_whole_text(model: LanguageModel, tokenizer: Tokenizer) -> None:
    rows = next_token_probabilities(model, tokenizer, "A padaria", 6)
    with torch.no_grad():
        ids = torch.tensor([[tokenizer.end_of_text, *tokenizer.encode("A padaria")]])
        shares = torch.softmax(model(ids)[0, -1], -1)
    expected = sorted(shares.tolist(), reverse=True)[:6]
    assert [share for _, share in rows] == pytest.approx(expected, rel=1e-5)
    assert rows[0][0] == tokenizer.token(int(shares.argmax()))
    assert len(next_token_probabilities(model, tokenizer, "A", 10_000)) == tokenizer.size


LOGITS = torch.tensor([2.0, 1.0, 0.0, 1.5, -1.0, 0.5])


def reference(temperature: float, top_k: int | None, top_p: float | None) -> dict[int, float]:
    """The distribution, written out: divide, keep k, keep the smallest set that holds p, renormalise."""
    weights = {index: float(torch.exp(value / temperature)) for index, value in enumerate(LOGITS)}
    ranked = sorted(weights, key=lambda index: -weights[index])
    if top_k:
        ranked = ranked[:top_k]
    total = sum(weights[index] for index in ranked)
    kept, held = [], 0.0
    for index in ranked:
        if top_p is not None and held >= top_p:
            break
        kept.append(index)
        held += weights[index] / total
    total = sum(weights[index] for index in kept)
    return {index: weights[index] / total for index in kept}


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, None), (0.5, None, None), (2.0, 3, None), (1.0, None, 0.7), (1.0, None, 0.01), (0.8, 4, 0.9)],
)
def test_samples_follow_the_distribution(temperature: float, top_k: int | None, top_p: float | None) -> None:
    count = 4000
    draws = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    found = Counter(_sample((LOGITS / temperature).expand(count, -1), top_k, top_p, draws).tolist())
    expected = reference(temperature, top_k, top_p)
    assert found.keys() <= expected.keys()
    for index, share in expected.items():
        # Five standard deviations of a binomial share.
        assert abs(found[index] / count - share) <= 5 * (share * (1 - share) / count) ** 0.5 + 1e-9


def test_the_likeliest_tokens_are_found_without_sorting_all(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    logits, draws = 3 * torch.randn(40, 3000), torch.rand(40, dtype=torch.float64)
    quick = _sample(logits, None, 0.6, draws)
    monkeypatch.setattr(generation, "_likeliest", lambda shares, least: shares.sort(descending=True))
    assert torch.equal(_sample(logits, None, 0.6, draws), quick)


class Nothing(Cache):
    """Of a model that remembers nothing."""

    def of(self, rows):  # type: ignore[no-untyped-def]
        return self

    def forget(self, row):  # type: ignore[no-untyped-def]
        pass


class Script(LanguageModel):
    """Says a given sequence of tokens, whatever it reads."""

    def __init__(self, tokenizer: Tokenizer, ids: list[int]) -> None:
        super().__init__(make(tokenizer.size).settings, tokenizer.size)
        self.ids, self.said = ids, 0
        self.anything = torch.nn.Parameter(torch.zeros(1))

    def hidden(self, ids, positions=None, segments=None, cache=None):  # type: ignore[no-untyped-def]
        return torch.zeros(*ids.shape, 1)

    def logits(self, hidden):  # type: ignore[no-untyped-def]
        number = self.ids[self.said] if self.said < len(self.ids) else 0
        self.said += 1
        return torch.nn.functional.one_hot(torch.tensor(number), self.vocabulary).float() * 100

    def new_cache(self, rows, length):  # type: ignore[no-untyped-def]
        return Nothing()

    def parts(self):  # type: ignore[no-untyped-def]
        return [[self.anything]]


def spoken(tokenizer: Tokenizer, said: str, **options: Any) -> list[str]:
    return list(generate(Script(tokenizer, tokenizer.encode(said)), tokenizer, "Olá:", greedy=True, **options))


def test_the_end_token_ends_the_text(tokenizer: Tokenizer) -> None:
    assert "".join(spoken(tokenizer, " fim da história.", tokens=500)) == " fim da história."


def test_characters_of_several_tokens_come_whole(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("🐈")) > 1
    pieces = spoken(tokenizer, " um 🐈 na rua", tokens=500)
    assert "".join(pieces) == " um 🐈 na rua"
    assert all("\ufffd" not in piece for piece in pieces)


@pytest.mark.parametrize("stop", [("na",), ("ato n",), ("xyz", "telhado"), (" ",)])
def test_a_text_ends_before_the_first_stop(tokenizer: Tokenizer, stop: tuple[str, ...]) -> None:
    whole = "o gato na rua e no telhado"
    end = min(place for word in stop if (place := whole.find(word)) >= 0)
    assert "".join(spoken(tokenizer, whole, tokens=500, stop=stop)) == whole[:end]


def test_a_stop_that_never_comes_holds_nothing_back(tokenizer: Tokenizer) -> None:
    assert "".join(spoken(tokenizer, "o gato na ru", tokens=500, stop=("rua!",))) == "o gato na ru"


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": 0},
        {"temperature": 0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 2},
        {"seed": 2**64},
        {"precision": "float16"},
    ],
)
def test_values_out_of_range_are_refused(tokenizer: Tokenizer, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        spoken(tokenizer, "o gato", **options)


PROMPTS = ["A padaria", "O gato subiu no telhado e olhou a rua. A menina", "Não"]


@pytest.mark.parametrize("options", [{"greedy": True}, {"top_k": 30}, {"top_p": 0.9}, {"stop": ("a", "o ")}])
def test_prompts_together_give_what_each_gives_alone(
    model: LanguageModel, tokenizer: Tokenizer, options: dict[str, Any]
) -> None:
    """Past the memory of the longest, too."""
    options = {"tokens": 40, "seed": 5, **options}
    together = generate_batch(model, tokenizer, PROMPTS, **options)
    alone = [text(model, tokenizer, prompt, **options | {"seed": 5 + row}) for row, prompt in enumerate(PROMPTS)]
    assert together == alone and len(set(together)) == 3
    assert generate_batch(model, tokenizer, [], **options) == []


def test_a_row_that_ended_is_not_computed_any_more(
    model: LanguageModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[int]] = []
    real = decoding.PlainDecoder.read
    monkeypatch.setattr(
        decoding.PlainDecoder, "read", lambda self, rows, ids: (read.append(list(rows)), real(self, rows, ids))[1]
    )
    alone = [text(model, tokenizer, prompt, tokens=30, greedy=True) for prompt in PROMPTS]
    read.clear()
    stop = alone[1][3:6]
    texts = generate_batch(model, tokenizer, PROMPTS, tokens=30, greedy=True, stop=[stop])
    assert texts == [whole.split(stop)[0] for whole in alone]
    assert read[0] == [0, 1, 2] and 1 not in read[-1]

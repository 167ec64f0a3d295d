"""Text from a model: one token after the other, with a memory of what was read; one prompt, or many together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from treino.errors import UsageError
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.models.decoding import Precision, decoder_for
from treino.tokens.chat import Chat, Turn
from treino.tokens.tokenizer import StreamDecoder, Tokenizer

SHORT_WINDOW = 16


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    *,
    tokens: int = 60,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    seed: int | None = None,
    stop: Sequence[str] = (),
    stops: Collection[int] = (),
    precision: Precision = "auto",
) -> Iterator[str]:
    """Pieces of the continuation of a prompt, as they are made; a token that ends texts ends it.

    Args:
        prompt: a text, or the ids that the model is to read as they are.
        tokens: most tokens to make.
        temperature: logits are divided by it; small values prefer the likeliest.
        top_k: only the k likeliest tokens are candidates.
        top_p: only the likeliest tokens that together hold this share are (Holtzman et al. 2020).
        greedy: take the likeliest token; the three above are not used.
        seed: equal seeds give equal text.
        stop: the text ends before the first of these.
        stops: ids that end it beside those of the tokenizer.
        precision: number format of weights and memory; `auto` is bfloat16 where our own kernel computes the model, which
            is several times faster, else float32.

    Raises:
        UsageError: for a value outside its range.
    """
    _check(tokens, temperature, top_k, top_p, seed, precision)
    choice = Choice(1, temperature=temperature, top_k=top_k, top_p=top_p, greedy=greedy, seed=seed)

    def pieces() -> Iterator[str]:
        ids = tokenizer.prompt(prompt) if isinstance(prompt, str) else list(prompt)
        speech = _Speech(tokenizer, ids, stop)
        ends = {*tokenizer.stops, *stops}
        rows = Continuation(model, [ids], choice, tokens=tokens, stops=ends, precision=precision)
        for numbers in rows:
            yield speech.push(numbers[0])
            if speech.ended:
                return
        yield speech.close()

    return pieces()


def answer(model: LanguageModel, chat: Chat, messages: Sequence[Turn], **options: Any) -> Iterator[str]:
    """Pieces of the assistant's answer to a conversation, up to the end of its turn; options as in `generate`."""
    prompt = chat.prompt(messages)
    return generate(model, chat.tokenizer, prompt, stops=chat.stops, **options)


def generate_batch(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    tokens: int = 60,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    seed: int | None = None,
    stop: Sequence[str] = (),
    precision: Precision = "auto",
) -> list[str]:
    """The continuations of many prompts of any lengths, made together; options as in `generate`.

    Continuation i is the one that `generate` gives for prompt i with seed + i, whatever the other prompts are.
    """
    _check(tokens, temperature, top_k, top_p, seed, precision)
    choice = Choice(len(prompts), temperature=temperature, top_k=top_k, top_p=top_p, greedy=greedy, seed=seed)
    ids = [tokenizer.prompt(prompt) for prompt in prompts]
    rows = Continuation(model, ids, choice, tokens=tokens, stops=tokenizer.stops, precision=precision)
    speeches = [_Speech(tokenizer, begun, stop) for begun in ids]
    texts = [""] * len(prompts)
    for numbers in rows:
        for row, number in numbers.items():
            texts[row] += speeches[row].push(number)
            if speeches[row].ended:
                rows.end(row)
    return [text + speech.close() for text, speech in zip(texts, speeches, strict=True)]


def next_token_probabilities(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, top: int
) -> list[tuple[str, float]]:
    """The `top` likeliest next tokens as text, with their probabilities."""
    ids = tokenizer.prompt(prompt)[-model.context :]
    device = next(model.parameters()).device
    with torch.inference_mode():
        hidden = model.hidden(torch.tensor([ids], device=device))[0, -1]
        shares, numbers = torch.softmax(model.logits(hidden).float(), -1).topk(min(top, model.vocabulary))
    pairs = zip(numbers.tolist(), shares.tolist(), strict=True)
    return [(tokenizer.token(number), share) for number, share in pairs]


class Continuation:
    """Iterates over steps: {row: its next token} of each row that goes on. A token of `stops` ends its row and is not told.

    Attributes:
        ids: what stands in each row by now, the prompt first.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        choice: Choice,
        *,
        tokens: int,
        stops: Collection[int] = (),
        precision: Precision = "auto",
    ) -> None:
        self.ids = [list(prompt) for prompt in prompts]
        self._choice, self._tokens, self._stops, self._context = choice, tokens, frozenset(stops), model.context
        longest = max(map(len, self.ids), default=0) + tokens
        # No more memory than these texts can fill.
        self._decoder = decoder_for(model, len(self.ids), min(model.context, longest), precision)
        self._begin = [max(0, len(ids) - model.context) for ids in self.ids]  # where the memory of each row begins …
        self._read = list(self._begin)  # … and up to where it goes
        self._live = list(range(len(self.ids)))

    def __iter__(self) -> Iterator[dict[int, int]]:
        for _ in range(self._tokens):
            numbers = self._step() if self._live else {}
            if not numbers:
                return
            yield numbers

    def end(self, row: int) -> None:
        """The row does not go on."""
        self._live.remove(row)

    def _step(self) -> dict[int, int]:
        logits = self._decoder.read(self._live, [self._unread(row) for row in self._live])
        chosen = zip(self._live, self._choice(logits, self._live), strict=True)
        numbers = {row: number for row, number in chosen if number not in self._stops}
        for row, number in numbers.items():
            self._read[row] = len(self.ids[row])
            self.ids[row].append(number)
        self._live = list(numbers)
        return numbers

    def _unread(self, row: int) -> list[int]:
        ids = self.ids[row]
        if len(ids) - self._begin[row] > self._context:
            # The memory is full: read the last half of the text again and go on from there. A model that learnt from
            # windows of a few words sees exactly so many each time.
            keep = self._context if self._context < SHORT_WINDOW else self._context // 2
            self._begin[row] = self._read[row] = len(ids) - keep
            self._decoder.forget(row)
        return ids[self._read[row] :]


class Choice:
    """Picks the next token of each of `rows` rows from logits, as in `generate`; row i draws with seed + i."""

    def __init__(
        self,
        rows: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        greedy: bool = False,
        seed: int | None = None,
    ) -> None:
        self._temperature, self._top_k, self._top_p, self._greedy = temperature, top_k, top_p, greedy
        seeds = [None] * rows if seed is None else range(seed, seed + rows)
        self._draws = [None if seed is None else torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> list[int]:
        """Tokens of these rows, whose logits are (len(rows), vocabulary)."""
        if self._greedy:
            return logits.numpy().argmax(-1).tolist()
        draws = [torch.rand((), dtype=torch.float64, generator=self._draws[row]) for row in rows]
        return _sample(logits / self._temperature, self._top_k, self._top_p, torch.stack(draws)).tolist()


def _sample(logits: Tensor, top_k: int | None, top_p: float | None, draws: Tensor) -> Tensor:
    """Where each row's cumulative distribution passes its draw, a number from 0 up to 1."""
    numbers = None
    if top_k is not None and top_k < logits.shape[-1]:
        logits, numbers = logits.topk(top_k)
    shares = torch.softmax(logits, -1)
    if top_p is not None and top_p < 1:
        if numbers is None:
            shares, numbers = _likeliest(shares, top_p)
        # A token stays while those before it hold less than the share: the likeliest one always does.
        shares = shares.masked_fill(shares.cumsum(-1) - shares >= top_p, 0)
    sums = shares.double().cumsum(-1)
    places = torch.searchsorted(sums, draws[:, None] * sums[:, -1:], right=True).clamp_(max=sums.shape[-1] - 1)
    return (places if numbers is None else numbers.gather(-1, places))[:, 0]


def _likeliest(shares: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """The largest shares of each row in falling order, with their numbers: as many as hold `least` in every row. Few mostly
    do, and sorting all would cost as much as the model."""
    for count in (128, 1024):
        if count < shares.shape[-1]:
            values, numbers = shares.topk(count)
            if bool((values.sum(-1) > least).all()):
                return values, numbers
    return shares.sort(descending=True)


class _Speech:
    """Ids to text, which ends before the first of some texts; what may be the beginning of one is held back.

    Attributes:
        ended: whether such a text has come.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Sequence[str]) -> None:
        self._decoder = StreamDecoder(tokenizer, prompt)
        self._stop = [text for text in stop if text]
        self._longest = max(map(len, self._stop), default=1)
        self._held, self.ended = "", False

    def push(self, number: int) -> str:
        """The text that this id makes sure."""
        return self._sure(self._decoder.push(number))

    def close(self) -> str:
        """What is left at the end of the ids."""
        if self.ended:
            return ""
        rest = self._sure(self._decoder.close())
        return rest + self._held

    def _sure(self, piece: str) -> str:
        held = self._held + piece
        found = [place for text in self._stop if (place := held.find(text)) >= 0]
        self.ended = bool(found)
        sure = min(found) if found else max(0, len(held) - self._longest + 1)
        self._held = "" if found else held[sure:]
        return held[:sure]


def _check(
    tokens: int, temperature: float, top_k: int | None, top_p: float | None, seed: int | None, precision: str
) -> None:
    if tokens < 1:
        raise UsageError(N_("tokens must be at least 1, not {value}"), value=tokens)
    if not temperature > 0:
        raise UsageError(
            N_("temperature must be more than 0, not {value}"),
            fix=N_("for the likeliest text use greedy"),
            value=temperature,
        )
    if top_k is not None and top_k < 1:
        raise UsageError(N_("top_k must be at least 1, not {value}"), value=top_k)
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(N_("top_p must be more than 0 and at most 1, not {value}"), value=top_p)
    if seed is not None and not abs(seed) < 2**63:
        raise UsageError(N_("seed must be a whole number of at most 63 bits, not {value}"), value=str(seed))
    if precision not in get_args(Precision):
        raise UsageError(N_("precision must be auto, float32 or bfloat16, not {value}"), value=precision)

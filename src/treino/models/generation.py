"""Text from a model: one token after the other, with a memory of what was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from treino.errors import UsageError
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.tokens.tokenizer import StreamDecoder, Tokenizer

SHORT_WINDOW = 16


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    tokens: int = 60,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    seed: int | None = None,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """Pieces of the continuation of a prompt, as they are made; a token that ends texts ends it.

    Args:
        tokens: most tokens to make.
        temperature: logits are divided by it; small values prefer the likeliest.
        top_k: only the k likeliest tokens are candidates.
        top_p: only the likeliest tokens that together hold this share are (Holtzman et al. 2020).
        greedy: take the likeliest token; the three above are not used.
        seed: equal seeds give equal text.
        stop: the text ends before the first of these.

    Raises:
        UsageError: for a value outside its range.
    """
    _check(tokens, temperature, top_k, top_p)
    draw = torch.Generator().manual_seed(seed) if seed is not None else None

    def choose(logits: Tensor) -> int:
        if greedy:
            return int(logits.argmax())
        return _sample(logits / temperature, top_k, top_p, draw)

    return _until_stop(_pieces(model, tokenizer, prompt, tokens, choose), [text for text in stop if text])


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


def _pieces(model: LanguageModel, tokenizer: Tokenizer, prompt: str, tokens: int, choose) -> Iterator[str]:
    device = next(model.parameters()).device
    ids = tokenizer.prompt(prompt)
    decoder = StreamDecoder(tokenizer, ids)
    length = min(model.context, len(ids) + tokens)  # no more memory than this text can fill
    cache, unread = model.new_cache(1, length), ids[-model.context :]
    read = 0
    for _ in range(tokens):
        if read + len(unread) > model.context:
            # The memory is full: read the last half of the text again and go on from there. A model that learnt from
            # windows of a few words sees exactly so many each time.
            keep = model.context if model.context < SHORT_WINDOW else model.context // 2
            cache, unread, read = model.new_cache(1, length), ids[-keep:], 0
        with torch.inference_mode():
            hidden = model.hidden(torch.tensor([unread], device=device), cache=cache)
            logits = model.logits(hidden[0, -1]).float().cpu()
        read += len(unread)
        number = choose(logits)
        if number in tokenizer.stops:
            break
        ids.append(number)
        unread = [number]
        yield decoder.push(number)
    yield decoder.close()


def _sample(logits: Tensor, top_k: int | None, top_p: float | None, draw: torch.Generator | None) -> int:
    if top_k is not None and top_k < len(logits):
        logits = torch.where(logits < logits.topk(top_k).values[-1], -torch.inf, logits)
    shares = torch.softmax(logits, -1)
    if top_p is not None and top_p < 1:
        ordered, numbers = shares.sort(descending=True)
        # A token stays while those before it hold less than the share: the likeliest one always does.
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0
        shares = torch.zeros_like(shares).scatter(0, numbers, ordered)
    return int(torch.multinomial(shares, 1, generator=draw))


def _until_stop(pieces: Iterator[str], stop: list[str]) -> Iterator[str]:
    """Hold back what may be the beginning of a stop text; end before the first one."""
    if not stop:
        yield from pieces
        return
    longest = max(map(len, stop))
    held = ""
    for piece in pieces:
        held += piece
        found = [place for text in stop if (place := held.find(text)) >= 0]
        if found:
            yield held[: min(found)]
            return
        safe = max(0, len(held) - longest + 1)
        yield held[:safe]
        held = held[safe:]
    yield held


def _check(tokens: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
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

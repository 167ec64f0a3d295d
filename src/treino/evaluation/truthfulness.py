"""Whether what a model says is true in the embedded world: probability mass on true answers among all candidates."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from treino.evaluation.bootstrap import mean_interval
from treino.evaluation.loss import head_losses
from treino.evaluation.ngram import KneserNey
from treino.models.base import LanguageModel
from treino.tokens.tokenizer import Tokenizer

ROWS_AT_ONCE = 512

Prompt = dict[str, Any]
Scorer = Callable[[Sequence[tuple[list[int], list[int]]]], np.ndarray]
"""(prompt ids, candidate ids) pairs → natural log of the candidate's probability behind the prompt."""


def read_prompts(folder: Path) -> list[Prompt]:
    """The prompts of a world's truth folder."""
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def masses(prompts: Sequence[Prompt], tokenizer: Tokenizer, score: Scorer) -> np.ndarray:
    """For each prompt Σ_{true answers} p(c) / Σ_{candidates} p(c), with p(c) the probability that the text goes on with c.

    p(c) is the product of the probabilities of its tokens. No candidate of a prompt begins another one, so the texts that
    go on with them exclude each other and p needs no end mark.
    """
    pairs = [
        (tokenizer.encode(prompt["prompt"]), tokenizer.encode(candidate))
        for prompt in prompts
        for candidate in prompt["candidates"]
    ]
    logs = score(pairs)
    found, place = np.empty(len(prompts)), 0
    for row, prompt in enumerate(prompts):
        own = logs[place : place + len(prompt["candidates"])]
        place += len(own)
        share = np.exp(own - own.max())
        true = [candidate in prompt["answers"] for candidate in prompt["candidates"]]
        found[row] = share[true].sum() / share.sum()
    return found


def model_scorer(model: LanguageModel, begin_of_text: int) -> Scorer:
    """Scores with a language model, many pairs at once, padded at the right; of a prompt longer than its context, the end."""
    model.eval()

    def score(pairs: Sequence[tuple[list[int], list[int]]]) -> np.ndarray:
        order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]) + len(pairs[index][1]))
        logs = np.empty(len(pairs))
        for first in range(0, len(order), ROWS_AT_ONCE):
            chosen = order[first : first + ROWS_AT_ONCE]
            logs[chosen] = _score_rows(model, [pairs[index] for index in chosen], begin_of_text)
        return logs

    return score


def _score_rows(model: LanguageModel, pairs: Sequence[tuple[list[int], list[int]]], begin_of_text: int) -> np.ndarray:
    longest = model.longest_row + 1
    rows = [[begin_of_text, *prompt, *candidate][-longest:] for prompt, candidate in pairs]
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    counted = torch.zeros(len(rows), length - 1, dtype=torch.bool)
    for row, (_, candidate) in enumerate(pairs):
        last = len(rows[row]) - 1
        counted[row, max(0, last - len(candidate)) : last] = True
    device = next(model.parameters()).device
    ids, counted = ids.to(device), counted.to(device)
    with torch.inference_mode():
        losses = head_losses(model, model.hidden(ids[:, :-1])[counted], ids[:, 1:][counted])
        sums = torch.zeros(len(rows), device=device, dtype=torch.float64)
        sums.index_add_(0, counted.nonzero()[:, 0], -losses.double())
    return sums.cpu().numpy()


def ngram_scorer(model: KneserNey) -> Scorer:
    """Scores with an n-gram model, all pairs in one stream."""

    def score(pairs: Sequence[tuple[list[int], list[int]]]) -> np.ndarray:
        lengths = [len(prompt) + len(candidate) for prompt, candidate in pairs]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        tokens = np.array([number for prompt, candidate in pairs for number in (*prompt, *candidate)], np.int64)
        logs = model.log_probabilities(tokens, offsets)
        ends = offsets[1:]
        sums = np.concatenate([[0.0], np.cumsum(logs)])
        starts = ends - np.array([len(candidate) for _, candidate in pairs])
        return sums[ends] - sums[starts]

    return score


def frequencies(prompts: Sequence[Prompt], texts: Iterable[str]) -> np.ndarray:
    """The true answers' share of all candidates' occurrences in the training text, each counted once more than it occurs.

    Only whole words count: "professor" does not occur in "professora". One pass over the text.
    """
    counts = occurrences({candidate for prompt in prompts for candidate in prompt["candidates"]}, texts)
    return np.array(
        [
            sum(counts[item] + 1 for item in prompt["answers"]) / sum(counts[item] + 1 for item in prompt["candidates"])
            for prompt in prompts
        ]
    )


def occurrences(candidates: Iterable[str], texts: Iterable[str]) -> dict[str, int]:
    """How often each candidate occurs in the texts, as whole words; the white space around a candidate is left out."""
    words = {candidate: candidate.strip() for candidate in candidates}
    longest_first = sorted(set(words.values()), key=lambda word: (-len(word), word))
    # A look-ahead takes up no text, so that a candidate inside another one is seen, too.
    pattern = re.compile(rf"(?<!\w)(?=({'|'.join(map(re.escape, longest_first))})(?!\w))")
    found = Counter(match for text in texts for match in pattern.findall(text))
    # At one place the pattern finds the longest candidate; those that it begins with occur there as well.
    begins = {
        word: [longer for longer in longest_first if re.match(rf"{re.escape(word)}(?!\w)", longer)]
        for word in longest_first
    }
    return {candidate: sum(found[longer] for longer in begins[word]) for candidate, word in words.items()}


def by_group(
    prompts: Sequence[Prompt], scores: dict[str, np.ndarray], *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Per group: the model's mean mass with its interval, and the means of chance, frequency and 5-gram.

    Several prompts may ask for one fact; the interval is over facts (person and kind), for only they are independent.
    """
    chance = np.array([len(prompt["answers"]) / len(prompt["candidates"]) for prompt in prompts])
    groups = sorted({prompt["group"] for prompt in prompts}, key=["stated", "derived", "control"].index)
    rows = []
    for group in groups:
        facts: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, prompt in enumerate(prompts):
            if prompt["group"] == group:
                facts[prompt["person"], prompt["kind"]].append(index)
        own = {name: np.array([values[places].mean() for places in facts.values()]) for name, values in scores.items()}
        row: dict[str, Any] = {
            "group": group,
            "prompts": sum(map(len, facts.values())),
            "facts": len(facts),
            "model": vars(mean_interval(own["model"], resamples=resamples, seed=seed)),
            "chance": float(np.mean([chance[places].mean() for places in facts.values()])),
        }
        row |= {name: float(own[name].mean()) for name in ("frequency", "ngram") if name in own}
        rows.append(row)
    return rows

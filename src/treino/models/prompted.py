"""A classifier that is a prompt: a remote model is shown the classes, perhaps examples, and the text, and names a class."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from treino import events, interruption
from treino.corpus.filters.personal_data import find, mask
from treino.errors import UsageError
from treino.messages import N_
from treino.models.answers import Answers
from treino.models.remote import Answer, Broken, Refused, Remote
from treino.planning.asking import tokens

INSTRUCTION = "Diga a que classe pertence o texto do usuário."
"""What is asked where the recipe has no words of its own; in Portuguese, as most texts are."""

FORM = 'As classes são: {labels}. Responda só com JSON, {{"label": "<classe>"}}: o nome de uma única classe, sem explicação.'
TOP = 5
"""Likeliest tokens that are asked for in each place of the answer."""

PROBE = "Bom dia."
"""The first text of all, which finds out what a server lets be asked, and is nobody's."""

OPTIONAL = ("response_format", "logprobs", "temperature", "max_tokens")
"""Fields that some servers refuse, in the order in which they are left out when the refusal names none of them. Instead of
`max_tokens` goes its newer name.
"""

_THOUGHTS = re.compile(r"<think>.*?</think>", re.S)


@dataclass(frozen=True)
class Prompt:
    """What makes such a classifier: who is asked, in what words, with which examples (text, class) shown.

    Personal data in the examples are masked already.
    """

    address: str
    model: str
    labels: tuple[str, ...]
    examples: tuple[tuple[str, str], ...] = ()
    instruction: str = INSTRUCTION
    answer_tokens: int = 64

    def messages(self, text: str) -> list[dict[str, str]]:
        """The conversation that ends in the text (masked)."""
        names = ", ".join(json.dumps(label, ensure_ascii=False) for label in self.labels)
        said = [{"role": "system", "content": f"{self.instruction} {FORM.format(labels=names)}"}]
        for shown, label in self.examples:
            answer = json.dumps({"label": label}, ensure_ascii=False)
            said += [{"role": "user", "content": shown}, {"role": "assistant", "content": answer}]
        return [*said, {"role": "user", "content": text}]

    def body(self, text: str, without: Sequence[str] = ()) -> dict[str, Any]:
        """The request, without the fields that the server was found to refuse."""
        label = {"type": "string", "enum": list(self.labels)}
        schema = {
            "type": "object",
            "properties": {"label": label},
            "required": ["label"],
            "additionalProperties": False,
        }
        fields = {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            },
            "logprobs": True,
            "top_logprobs": TOP,
            "temperature": 0,
            "max_tokens": self.answer_tokens,
        }
        left_out = {*without, *(["top_logprobs"] if "logprobs" in without else [])}
        kept = {name: value for name, value in fields.items() if name not in left_out}
        if "max_tokens" in without:
            kept["max_completion_tokens"] = self.answer_tokens
        return {"model": self.model, "messages": self.messages(text), **kept}


@dataclass
class Count:
    """What asking took: requests, those really sent, tokens (of `estimated` requests the server does not say how many), seconds
    of the requests, and answers that named no class.
    """

    requests: int = 0
    sent: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    sent_in: int = 0
    sent_out: int = 0
    seconds: float = 0.0
    unanswered: int = 0
    estimated: int = 0
    troubles: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Answer, sent: bool) -> None:
        self.requests += 1
        self.tokens_in += answer.tokens_in
        self.tokens_out += answer.tokens_out
        self.seconds += answer.seconds
        if sent:
            self.sent += 1
            self.sent_in += answer.tokens_in
            self.sent_out += answer.tokens_out
        if answer.trouble:
            self.troubles[answer.trouble.partition(":")[0]] += 1


class Prompted:
    """Asks a remote model about texts; answers that are known are not asked for again.

    Args:
        prompt: what is asked.
        remote: who is asked.
        answers: what was answered before.
        at_once: requests under way at the same time.
        watch: called after each answer that was paid for, with the tokens read and written so far: it may raise to stop.
    """

    def __init__(
        self,
        prompt: Prompt,
        remote: Remote,
        answers: Answers,
        *,
        at_once: int = 1,
        watch: Callable[[Count], None] = lambda count: None,
    ) -> None:
        self.prompt, self.remote, self.answers, self.at_once, self.watch = prompt, remote, answers, at_once, watch
        self.count, self.graded = Count(), True
        self.without: list[str] = []
        self._settled = False

    def unanswered(self, texts: Sequence[str]) -> list[str]:
        """Those texts (masked) whose answers are not known yet; asks nobody."""
        self._recall()
        return [one for one in texts if self.answers.find(self.prompt.body(one, self.without)) is None]

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (texts, classes) for texts that are masked already; a row of zeros where no class was named.

        Where the server gives log-probabilities, they are those of the classes' names (`chances`); else the named class has 1,
        and `graded` is False from then on.
        """
        found = np.zeros((len(texts), len(self.prompt.labels)))
        for number, answer in self._answers(texts):
            named = parse(answer.text, self.prompt.labels)
            if named is None:
                self.count.unanswered += 1
                continue
            graded = chances(answer.steps, self.prompt.labels, named)
            self.graded &= graded is not None
            found[number] = np.eye(len(self.prompt.labels))[named] if graded is None else graded
        return found

    def _answers(self, texts: Sequence[str]) -> Iterator[tuple[int, Answer]]:
        """Every text's number with its answer, in the order in which they come."""
        if not self._settled:
            self._settle()
        waiting: list[int] = []
        for number, text in enumerate(texts):
            known = self._known(text)
            if known is None:
                waiting.append(number)
            else:
                yield number, known
        done = len(texts) - len(waiting)
        with self._pool() as pool:
            under_way: dict[Future[Answer], int] = {}
            while waiting or under_way:
                while waiting and len(under_way) < self.at_once:
                    number = waiting.pop(0)
                    under_way[pool.submit(self._ask, self.prompt.body(texts[number], self.without))] = number
                ready, _ = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in ready:
                    number, answer = under_way.pop(future), future.result()
                    self._take(texts[number], answer)
                    done += 1
                    events.progress("prompt", done, len(texts), N_("answers"))
                    yield number, answer
                interruption.raise_if_requested()

    @contextlib.contextmanager
    def _pool(self) -> Iterator[ThreadPoolExecutor]:
        """Threads that ask; where something stops the whole, those that wait for their next try give up at once."""
        pool = ThreadPoolExecutor(self.at_once, "treino-remote")
        try:
            yield pool
        except BaseException:
            self.remote.close()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _known(self, text: str) -> Answer | None:
        answer = self.answers.find(self.prompt.body(text, self.without))
        if answer is not None:
            self.count.add(self._estimated(text, answer), sent=False)
        return answer

    def _estimated(self, text: str, answer: Answer) -> Answer:
        """The answer with its tokens estimated, where the server did not count them."""
        if answer.tokens_in or not answer.text:
            return answer
        self.count.estimated += 1
        read = tokens([message["content"] for message in self.prompt.messages(text)])
        return replace(answer, tokens_in=read, tokens_out=tokens([answer.text]))

    def _take(self, text: str, answer: Answer) -> None:
        """Count an answer that was sent for, and keep it, unless another try may give a better one."""
        self.count.add(self._estimated(text, answer), sent=True)
        if not answer.trouble.startswith(("broken", "refused")):
            self.answers.keep(self.prompt.body(text, self.without), answer)
        self.watch(self.count)

    def _ask(self, body: Mapping[str, Any]) -> Answer:
        try:
            return self.remote.ask(body)
        except Refused as refusal:
            return Answer("", trouble=f"refused: {refusal}")
        except Broken as broken:
            return Answer("", trouble=f"broken: {broken}")

    def _recall(self) -> None:
        """Leave out the fields that this server is known to refuse."""
        while (answer := self.answers.find(self.prompt.body(PROBE, self.without))) and self._leave_out(answer):
            pass

    def _settle(self) -> None:
        """Find out, by a text that is nobody's, what this server lets be asked.

        Raises:
            UsageError: where it answers, but not as such a server does.
        """
        self._recall()
        refusals: list[tuple[Mapping[str, Any], Answer]] = []
        while self.answers.find(self.prompt.body(PROBE, self.without)) is None:
            answer = self._ask(self.prompt.body(PROBE, self.without))
            kind, _, reason = answer.trouble.partition(": ")
            if kind == "broken":
                raise UsageError(
                    N_("{address} answers, but not as an OpenAI-compatible server: {reason}"),
                    fix=N_("check remote.address: it ends before /chat/completions, often in /v1"),
                    address=self.prompt.address,
                    reason=reason,
                )
            if kind == "refused" and all(name in self.without for name in OPTIONAL):
                raise UsageError(
                    N_("{address} refuses even a greeting: {reason}"),
                    fix=N_("check remote.model, and what the server says"),
                    address=self.prompt.address,
                    reason=reason,
                )
            refusals.append((self.prompt.body(PROBE, self.without), answer))
            if not self._leave_out(answer):
                for asked in refusals:  # it was the fields, and no passing trouble: a greeting without them is answered
                    self.answers.keep(*asked)
                self.count.add(self._estimated(PROBE, answer), sent=True)
        self._settled = True

    def _leave_out(self, answer: Answer) -> bool:
        """Whether a refused request may be put with a field less; that field is left out from now on."""
        if not answer.trouble.startswith("refused"):
            return False
        left = [name for name in OPTIONAL if name not in self.without]
        named = [name for name in left if name in answer.trouble]
        for name in (named or left)[:1]:
            self.without.append(name)
            return True
        return False


def masked(texts: Sequence[str], kinds: Counter[str]) -> list[str]:
    """Texts with the personal data in them masked; adds to `kinds` what was."""
    found = []
    for text in texts:
        findings = find(text)
        kinds.update(finding.kind for finding in findings)
        found.append(mask(text, findings))
    return found


def parse(text: str, labels: Sequence[str]) -> int | None:
    """The class that an answer names: of JSON its "label"; of other text, the whole, or the one class that is named in it
    (of names within each other the longest). None where that is no class, or more than one.
    """
    text = _THOUGHTS.sub(" ", text).strip()
    said = _label_in(text)
    names = {_even(label): number for number, label in enumerate(labels)}
    exact = {label.strip(): number for number, label in enumerate(labels)}
    if said is not None:
        return exact.get(said.strip(), names.get(_even(said)))
    if _even(text) in names:
        return names[_even(text)]
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name)
    mentioned = set(re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", text.casefold())) if pattern else set()
    return names[mentioned.pop()] if len(mentioned) == 1 else None


def _label_in(text: str) -> str | None:
    """The "label" of an answer in JSON, which may stand in a fence; None where it is no such JSON."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        value = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        return None
    label = value.get("label") if isinstance(value, dict) else None
    return str(label) if isinstance(label, str | int) else None


def _even(text: str) -> str:
    return text.casefold().strip(" \t\n\"'`.,:;!*“”")


def chances(
    steps: Sequence[tuple[str, float, Sequence[tuple[str, float]]]], labels: Sequence[str], named: int
) -> np.ndarray | None:
    """Probabilities of the classes by the likeliest tokens in each place where the answer names one; None without them.

    Along the answer's own tokens t₁ … tₙ of the name, another token u in place i belongs to the class whose name goes on with
    it, and adds P(t₁) … P(tᵢ₋₁) · P(u) to it (shared evenly by several); the named class gets P(t₁) … P(tₙ). What is left of 1
    is spread evenly over all.
    """
    text = "".join(token for token, _, _ in steps).lower()
    name = labels[named].lower()
    start = text.rfind(name)
    if not steps or start < 0 or len(text) != sum(len(token) for token, _, _ in steps):
        return None
    mass, path, place = np.zeros(len(labels)), 0.0, 0
    for token, log, others in steps:
        end = place + len(token)
        if end > start and place < start + len(name):
            lead, said = token.lower()[: max(0, start - place)], text[start:place] if place > start else ""
            for other, chance in others:
                begun = other.lower()
                if begun == token.lower() or not begun.startswith(lead):
                    continue
                fits = _going_on(said + begun[len(lead) :], labels)
                mass[fits] += math.exp(path + chance) / max(1, len(fits))
            path += log
        place = end
    mass[named] += math.exp(path)
    total = mass.sum()
    return mass / total if total > 1 else mass + (1 - total) / len(labels)


def _going_on(begun: str, labels: Sequence[str]) -> list[int]:
    """The classes whose names go on with what was begun; else the one with the longest name that was begun and ended."""
    begun = begun.lstrip()
    if not begun:
        return []
    fits = [number for number, label in enumerate(labels) if label.lower().startswith(begun)]
    if fits:
        return fits
    ended = [number for number, label in enumerate(labels) if begun.startswith(label.lower())]
    return sorted(ended, key=lambda number: -len(labels[number]))[:1]

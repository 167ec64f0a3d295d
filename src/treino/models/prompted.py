"""A classifier that is a prompt: a remote model is shown the classes, perhaps examples, and the text, and names a class, or
those of several that the text has.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from treino import events, interruption
from treino.corpus.filters.personal_data import find, mask
from treino.corpus.labelled.read import classes_of
from treino.errors import UsageError
from treino.messages import N_
from treino.models.answers import Answers
from treino.models.naming import chances, parse, parse_several
from treino.models.remote import Answer, Broken, Refused, Remote
from treino.models.several import NO_ANSWER
from treino.planning.asking import tokens

INSTRUCTION = "Diga a que classe pertence o texto do usuário."
INSTRUCTION_SEVERAL = "Diga a que classes pertence o texto do usuário."
"""What is asked where the recipe has no words of its own; in Portuguese, as most texts are."""

FORM = 'As classes são: {labels}. Responda só com JSON, {{"label": "<classe>"}}: o nome de uma única classe, sem explicação.'
FORM_SEVERAL = (
    "As classes são: {labels}. Um texto pode ter várias classes, uma ou nenhuma. Responda só com JSON, "
    '{{"labels": ["<classe>", …]}}: os nomes de todas as classes do texto, [] se não tem nenhuma, sem explicação.'
)
TOP = 5
"""Likeliest tokens that are asked for in each place of the answer."""

PROBE = "Bom dia."
"""The first text of all, which finds out what a server lets be asked, and is nobody's."""

OPTIONAL = ("response_format", "logprobs", "temperature", "max_tokens")
"""Fields that some servers refuse, in the order in which they are left out when the refusal names none of them. Instead of
`max_tokens` goes its newer name.
"""


@dataclass(frozen=True)
class Prompt:
    """What makes such a classifier: who is asked, in what words, with which examples (text, class) shown.

    Personal data in the examples are masked already. Where a text may have several classes or none, the second part of an
    example is all of them as `treino.corpus.labelled.read.joined` writes them.
    """

    address: str
    model: str
    labels: tuple[str, ...]
    examples: tuple[tuple[str, str], ...] = ()
    instruction: str = ""
    answer_tokens: int = 64
    several: bool = False

    def messages(self, text: str) -> list[dict[str, str]]:
        """The conversation that ends in the text (masked)."""
        names = ", ".join(json.dumps(label, ensure_ascii=False) for label in self.labels)
        form, usual = (FORM_SEVERAL, INSTRUCTION_SEVERAL) if self.several else (FORM, INSTRUCTION)
        said = [{"role": "system", "content": f"{self.instruction or usual} {form.format(labels=names)}"}]
        for shown, label in self.examples:
            answer = {"labels": classes_of(label)} if self.several else {"label": label}
            said += [
                {"role": "user", "content": shown},
                {"role": "assistant", "content": json.dumps(answer, ensure_ascii=False)},
            ]
        return [*said, {"role": "user", "content": text}]

    def body(self, text: str, without: Sequence[str] = ()) -> dict[str, Any]:
        """The request, without the fields that the server was found to refuse."""
        fields = {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": self._schema()},
            },
            "logprobs": True,
            "top_logprobs": TOP,
            "temperature": 0,
            "max_tokens": self.answer_tokens,
        }
        # The tokens of a list say how likely each name is after those before it, and that is no probability of a class.
        without = [*without, "logprobs"] if self.several else without
        left_out = {*without, *(["top_logprobs"] if "logprobs" in without else [])}
        kept = {name: value for name, value in fields.items() if name not in left_out}
        if "max_tokens" in without:
            kept["max_completion_tokens"] = self.answer_tokens
        return {"model": self.model, "messages": self.messages(text), **kept}

    def _schema(self) -> dict[str, Any]:
        """The JSON Schema of an answer."""
        one = {"type": "string", "enum": list(self.labels)}
        name, value = ("labels", {"type": "array", "items": one}) if self.several else ("label", one)
        return {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}


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
        and `graded` is False from then on. Where a text may have several classes, all that are named have 1, and a row of
        `NO_ANSWER` is an answer that is no list of classes.
        """
        if self.prompt.several:
            return self._sets(texts)
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

    def _sets(self, texts: Sequence[str]) -> np.ndarray:
        """Ones for the classes that each answer names, zeros for the others."""
        self.graded = False
        found = np.zeros((len(texts), len(self.prompt.labels)))
        for number, answer in self._answers(texts):
            named = parse_several(answer.text, self.prompt.labels)
            self.count.unanswered += named is None
            if named is None:
                found[number] = NO_ANSWER
            else:
                found[number, named] = 1.0
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
        under_way: dict[Future[Answer], int] = {}
        with self._paid_for_kept(texts, under_way), self._pool() as pool:
            while waiting or under_way:
                while waiting and len(under_way) < self.at_once:
                    number = waiting.pop(0)
                    under_way[pool.submit(self._ask, self.prompt.body(texts[number], self.without))] = number
                ready, _ = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in ready:
                    number, answer = under_way.pop(future), future.result()
                    self._take(texts[number], answer)
                    self.watch(self.count)
                    done += 1
                    events.progress("prompt", done, len(texts), N_("answers"))
                    yield number, answer
                interruption.raise_if_requested()

    @contextlib.contextmanager
    def _paid_for_kept(self, texts: Sequence[str], under_way: Mapping[Future[Answer], int]) -> Iterator[None]:
        """Where something stops the whole, what was answered by then beside it is kept."""
        try:
            yield
        except BaseException:
            for future, number in under_way.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._take(texts[number], future.result())
            raise

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
            if kind == "refused" and not self._optional():
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

    def _optional(self) -> list[str]:
        """The fields of a request that may still be left out."""
        body = self.prompt.body(PROBE, self.without)
        return [name for name in OPTIONAL if name in body]

    def _leave_out(self, answer: Answer) -> bool:
        """Whether a refused request may be put with a field less; that field is left out from now on."""
        if not answer.trouble.startswith("refused"):
            return False
        left = self._optional()
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

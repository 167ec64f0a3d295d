"""A small library for probabilistic grammars whose texts can be drawn, listed with their probabilities, and parsed.

A grammar is a tree of nodes. Every random decision is a `Choice` between alternatives or the first use of a `Variable`;
everything else follows from them. A text's probability under one derivation is the product over its decisions, so where
each text has exactly one derivation (which `derivations` can check), the logarithm that `draw` returns is exact:

    log p(text) = sum over decisions of log(weight of the alternative / sum of the weights)

Context-dependent in one way only: a variable keeps its value from its first use to the end of the document.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Word = Mapping[str, Any]
"""The forms of a value by name; "" is the plain form. A template asks for a form: `{object.um}`."""
Context = dict[str, Any]
"""Values of the variables used so far, and under `FACTS` the list of facts told so far."""
Derivation = tuple[str, float, Context]
Keep = Callable[[int], Sequence[int]]
"""From a number of alternatives to the indices of those that stay; must depend on nothing else."""
FACTS = "facts told"


def stream(seed: int, purpose: str, index: int) -> random.Random:
    """A generator of random numbers that depends on (seed, purpose, index) alone, on every platform and Python."""
    return random.Random(hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest())


def pick(options: Sequence[Any], uniform: Callable[[], float]) -> Any:
    """One of the options, each as likely; written out because `random.choice` may change between Python versions."""
    return options[int(uniform() * len(options))]


class Node(ABC):
    """A part of a grammar."""

    @abstractmethod
    def draw(self, uniform: Callable[[], float], context: Context, pieces: list[str]) -> float:
        """Append a random text to `pieces`, bind variables in `context`, and return its natural log probability."""

    @abstractmethod
    def derivations(self, context: Context, target: str | None, start: int) -> Iterator[Derivation]:
        """All derivations as (text, log probability, context); with a target, those that continue it from `start`."""

    @abstractmethod
    def narrowed(self, keep: Keep) -> Node:
        """The same grammar with fewer alternatives at every decision, small enough to be listed whole."""


class Text(Node):
    """A fixed text, and the fact (person, attribute) that it tells, if any."""

    def __init__(self, text: str, fact: tuple[str, str] | None = None) -> None:
        self.text = text
        self.fact = fact

    def draw(self, uniform: Callable[[], float], context: Context, pieces: list[str]) -> float:
        pieces.append(self.text)
        if self.fact is not None:
            context[FACTS].append(self.fact)
        return 0.0

    def derivations(self, context: Context, target: str | None, start: int) -> Iterator[Derivation]:
        if target is None or target.startswith(self.text, start):
            yield self.text, 0.0, context

    def narrowed(self, keep: Keep) -> Node:
        return self


class Concatenation(Node):
    """Its parts one after another; the variables of earlier parts are known to later ones."""

    def __init__(self, parts: Iterable[Node]) -> None:
        self.parts = tuple(parts)

    def draw(self, uniform: Callable[[], float], context: Context, pieces: list[str]) -> float:
        total = 0.0
        for part in self.parts:
            total += part.draw(uniform, context, pieces)
        return total

    def derivations(self, context: Context, target: str | None, start: int) -> Iterator[Derivation]:
        return self._from(0, context, target, start)

    def _from(self, index: int, context: Context, target: str | None, start: int) -> Iterator[Derivation]:
        if index == len(self.parts):
            yield "", 0.0, context
            return
        for text, first, bound in self.parts[index].derivations(context, target, start):
            for rest, second, final in self._from(index + 1, bound, target, start + len(text)):
                yield text + rest, first + second, final

    def narrowed(self, keep: Keep) -> Node:
        return Concatenation(part.narrowed(keep) for part in self.parts)


class Choice(Node):
    """One of several alternatives, by weight (equal weights where none are given)."""

    def __init__(self, alternatives: Iterable[Node], weights: Sequence[float] | None = None) -> None:
        self.alternatives = tuple(alternatives)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(self.alternatives)
        if not self.alternatives or len(self.weights) != len(self.alternatives) or min(self.weights) <= 0:
            raise ValueError("a choice needs alternatives, each with a positive weight")
        total = math.fsum(self.weights)
        self.logs = tuple(math.log(weight / total) for weight in self.weights)
        self._equal = len(set(self.weights)) == 1
        self._bounds = [bound / total for bound in itertools.accumulate(self.weights)][:-1]

    def index(self, value: float) -> int:
        """The alternative that an even number from 0 to 1 falls on."""
        return int(value * len(self.alternatives)) if self._equal else bisect_right(self._bounds, value)

    def draw(self, uniform: Callable[[], float], context: Context, pieces: list[str]) -> float:
        index = self.index(uniform())
        return self.logs[index] + self.alternatives[index].draw(uniform, context, pieces)

    def derivations(self, context: Context, target: str | None, start: int) -> Iterator[Derivation]:
        for alternative, log in zip(self.alternatives, self.logs, strict=True):
            for text, inner, bound in alternative.derivations(context, target, start):
                yield text, log + inner, bound

    def narrowed(self, keep: Keep) -> Node:
        kept = keep(len(self.alternatives))
        return Choice([self.alternatives[i].narrowed(keep) for i in kept], [self.weights[i] for i in kept])


class Dependent(Node):
    """A part that follows from the variables bound so far."""

    def __init__(self, node: Callable[[Context], Node]) -> None:
        self.node = node

    def draw(self, uniform: Callable[[], float], context: Context, pieces: list[str]) -> float:
        return self.node(context).draw(uniform, context, pieces)

    def derivations(self, context: Context, target: str | None, start: int) -> Iterator[Derivation]:
        return self.node(context).derivations(context, target, start)

    def narrowed(self, keep: Keep) -> Node:
        return Dependent(lambda context: self.node(context).narrowed(keep))


class Variable:
    """Something drawn evenly from a domain when first used; the domain may depend on earlier variables."""

    def __init__(self, name: str, domain: Sequence[Any] | Callable[[Context], Sequence[Any]]) -> None:
        self.name = name
        self.domain: Callable[[Context], Sequence[Any]] = domain if callable(domain) else lambda context: domain

    def narrowed(self, keep: Keep) -> Variable:
        def domain(context: Context) -> Sequence[Any]:
            options = self.domain(context)
            return [options[i] for i in keep(len(options))]

        return Variable(self.name, domain)


class Slot(Node):
    """A form of a variable's value; binds the variable at its first use. Form None binds and writes nothing.

    With `agrees`, the form is the one for the gender of another variable: "dois" with "limões", "duas" with "peras".
    A form `attribute:form` of a person tells the fact (person, attribute).
    """

    def __init__(self, variable: Variable, form: str | None = "", agrees: Variable | None = None) -> None:
        self.variable = variable
        self.form = form
        self.agrees = agrees
        self.attribute = form.split(":")[0] if form and ":" in form else None

    def draw(self, uniform: Callable[[], float], context: Context, pieces: list[str]) -> float:
        log = 0.0
        value = context.get(self.variable.name)
        if value is None:
            options = self.variable.domain(context)
            value = context[self.variable.name] = options[int(uniform() * len(options))]
            log = -math.log(len(options))
        if self.form is not None:
            pieces.append(self._render(value, context))
            if self.attribute is not None:
                context[FACTS].append((value[""], self.attribute))
        return log

    def derivations(self, context: Context, target: str | None, start: int) -> Iterator[Derivation]:
        name = self.variable.name
        options = [context[name]] if name in context else self.variable.domain(context)
        log = 0.0 if name in context else -math.log(len(options))
        for value in options:
            text = "" if self.form is None else self._render(value, context)
            if target is None or target.startswith(text, start):
                yield text, log, {**context, name: value}

    def _render(self, value: Word, context: Context) -> str:
        if self.agrees is None:
            return value[self.form or ""]
        return value[f"{self.form}{context[self.agrees.name]['x']}"]

    def narrowed(self, keep: Keep) -> Node:
        return Slot(self.variable.narrowed(keep), self.form, self.agrees)


_TOKEN = re.compile(r"\{[^{}]*\}|<\w+>|[\[\]|]|[^\[\]|{}<>]+")


def template(text: str, variables: Mapping[str, Variable], rules: Mapping[str, Node] | None = None) -> Node:
    """Read a grammar written as text.

    `[a|b|c]` chooses evenly, `{name}` and `{name.form}` write a form of a variable, `{name.form@other}` the form that
    agrees with the gender of another, `{name!}` binds it silently, `<rule>` is a node from `rules`.
    """
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text:
        raise ValueError(f"unreadable template: {text}")
    node, position = _alternatives(tokens, 0, variables, rules or {})
    if position != len(tokens):
        raise ValueError(f"a bracket too many in the template: {text}")
    return node


def _alternatives(
    tokens: list[str], position: int, variables: Mapping[str, Variable], rules: Mapping[str, Node]
) -> tuple[Node, int]:
    alternatives: list[Node] = []
    parts: list[Node] = []
    while position < len(tokens) and tokens[position] != "]":
        token = tokens[position]
        position += 1
        if token == "|":
            alternatives.append(_sequence(parts))
            parts = []
        elif token == "[":
            node, position = _alternatives(tokens, position, variables, rules)
            if position == len(tokens):
                raise ValueError(f"a bracket is never closed: {''.join(tokens)}")
            parts.append(node)
            position += 1
        elif token[0] == "{":
            slot = _slot(token[1:-1], variables)
            # What a form agrees with must have a value first, though it may be written later: "dois limões".
            parts += [slot] if slot.agrees is None else [Slot(slot.agrees, None), slot]
        else:
            parts.append(rules[token[1:-1]] if token[0] == "<" else Text(token))
    alternatives.append(_sequence(parts))
    return (alternatives[0] if len(alternatives) == 1 else Choice(alternatives)), position


def _sequence(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Concatenation(parts)


def _slot(text: str, variables: Mapping[str, Variable]) -> Slot:
    if text.endswith("!"):
        return Slot(variables[text[:-1]], None)
    text, _, agrees = text.partition("@")
    name, _, form = text.partition(".")
    return Slot(variables[name], form, variables[agrees] if agrees else None)


def draw(node: Node, generator: random.Random) -> tuple[str, float, tuple[tuple[str, str], ...]]:
    """A random text of the grammar, its natural log probability, and the facts that it tells."""
    context: Context = {FACTS: []}
    pieces: list[str] = []
    log = node.draw(generator.random, context, pieces)
    return "".join(pieces), log, tuple(context[FACTS])


def enumerate_texts(node: Node) -> Iterator[tuple[str, float]]:
    """Every derivation of the grammar as (text, natural log probability). Only for small grammars."""
    return ((text, log) for text, log, _ in node.derivations({}, None, 0))


def parse(node: Node, text: str) -> list[float]:
    """Natural log probabilities of all derivations of a text: none for a foreign text, one where nothing is ambiguous."""
    return [log for found, log, _ in node.derivations({}, text, 0) if len(found) == len(text)]

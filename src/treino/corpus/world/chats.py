"""The town's conversations: questions and answers of people and places, customers and attendants, and small instructions."""

from __future__ import annotations

import random
import re

from treino.corpus.world.documents import grammars
from treino.corpus.world.facts import World
from treino.corpus.world.grammar import draw, stream
from treino.corpus.world.questions import ANSWER, QUESTION
from treino.corpus.world.vocabulary import capital

Messages = tuple[tuple[str, str], ...]
USER, ASSISTANT = "user", "assistant"
SHARES = {"questions": 0.6, "dialogue": 0.25, "instruction": 0.15}

_PAIR = re.compile(f"{re.escape(QUESTION)}(.*?){re.escape(ANSWER)}(.*?)(?=(?: {re.escape(QUESTION)})|$)", re.DOTALL)
_SPOKEN = re.compile(r"(Cliente|Atendente): (.*?)(?= (?:Cliente|Atendente): |$)", re.DOTALL)
_ROLES = {"Cliente": USER, "Atendente": ASSISTANT}
_WORDS = ("casa", "rua", "pão", "gato", "praça", "sol", "mesa", "festa", "livro", "porta")


def conversations(world: World, count: int, seed: int) -> list[Messages]:
    """So many conversations as differ among `count`, each a function of (world, seed, position)."""
    found = (_conversation(world, stream(seed, "conversations", index)) for index in range(count))
    return list(dict.fromkeys(found))


def _conversation(world: World, generator: random.Random) -> Messages:
    kind = generator.random()
    if kind < SHARES["questions"]:
        text, _, _ = draw(grammars(world)["questions"], generator)
        pairs = _PAIR.findall(text)[: 1 + int(generator.random() * 3)]
        return tuple(turn for asked, said in pairs for turn in ((USER, asked.strip()), (ASSISTANT, said.strip())))
    if kind < SHARES["questions"] + SHARES["dialogue"]:
        text, _, _ = draw(grammars(world)["dialogue"], generator)
        return _joined([(_ROLES[who], said.strip()) for who, said in _SPOKEN.findall(text)])
    return _instruction(generator)


def _joined(turns: list[tuple[str, str]]) -> Messages:
    """What one of them says in a row as one turn."""
    found: list[tuple[str, str]] = []
    for who, said in turns:
        if found and found[-1][0] == who:
            found[-1] = (who, f"{found[-1][1]} {said}")
        else:
            found.append((who, said))
    return tuple(found)


def _instruction(generator: random.Random) -> Messages:
    """Say it once more, in order, or with a capital letter: what can be done without knowing the town."""
    words = [_WORDS[int(generator.random() * len(_WORDS))] for _ in range(2 + int(generator.random() * 2))]
    listed = ", ".join(words)
    tasks = (
        (f"Repita: {listed}", f"{listed}."),
        (f"Escreva a primeira palavra de: {listed}", f"{words[0]}."),
        (f"Escreva a última palavra de: {listed}", f"{words[-1]}."),
        (f"Escreva com letra maiúscula: {words[0]}", f"{capital(words[0])}."),
    )
    asked, said = tasks[int(generator.random() * len(tasks))]
    return ((USER, asked), (ASSISTANT, said))

"""Prompts that ask a model for the town's facts in wordings that its training never used for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from treino import files
from treino.corpus.world.facts import CANDIDATES, Person, World, truth_table
from treino.corpus.world.questions import ANSWER, QUESTION
from treino.corpus.world.statements import candidates_of, prefix_of, say
from treino.corpus.world.vocabulary import capital
from treino.corpus.world.wordings import WORDINGS


def prompts(world: World) -> list[dict[str, Any]]:
    """Two prompts for each fact: the beginning of its held-out statement, and its held-out question.

    `{id, group, kind, person, wording, prompt, answers, candidates}`; the prompt ends before the space that begins each
    candidate, and every candidate is grammatical after it. Groups: "stated" (told in other wordings), "derived" (never
    told, follows from two told facts), "control" (told nowhere and independent of everything: expected at chance).
    """
    return [
        prompt
        for person in world.people
        for attribute in CANDIDATES
        if person.group(attribute) is not None
        for prompt in (_statement(person, attribute), _question(person, attribute))
    ]


def _statement(person: Person, attribute: str) -> dict[str, Any]:
    wording = WORDINGS[attribute].statements[person.held_out_statement[attribute]]
    prefix, form = prefix_of(wording)
    return _prompt(person, attribute, "statement", capital(say(prefix, person, attribute)), form)


def _question(person: Person, attribute: str) -> dict[str, Any]:
    wordings = WORDINGS[attribute]
    question = wordings.questions[person.held_out_question[attribute]].replace("{n}", person.name)
    # The answer's form alternates over the people, so that both forms are asked for.
    answer = wordings.answers[person.held_out_statement[attribute] % len(wordings.answers)]
    prefix, form = prefix_of(answer)
    return _prompt(person, attribute, "question", f"{QUESTION}{question}{ANSWER}{prefix}", form)


def _prompt(person: Person, attribute: str, wording: str, text: str, form: str) -> dict[str, Any]:
    candidates = candidates_of(form, attribute, CANDIDATES[attribute], person.gender)
    group = person.group(attribute)
    return {
        "id": f"{group}-{person.name}-{attribute}-{wording}",
        "group": group,
        "kind": attribute,
        "person": person.name,
        "wording": wording,
        "prompt": text,
        "answers": [candidates[person.facts[attribute]]],
        "candidates": candidates,
    }


def write_truth(world: World, folder: Path) -> None:
    """Write `truth.json` (see `truth_table`) and `prompts.jsonl` into a folder that exists."""
    files.write_json(folder / "truth.json", truth_table(world))
    lines = [json.dumps(prompt, ensure_ascii=False, sort_keys=True) for prompt in prompts(world)]
    files.write_text(folder / "prompts.jsonl", "".join(f"{line}\n" for line in lines))

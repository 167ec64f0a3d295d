"""Documents that tell facts: portraits of one person, two people compared, the town itself, questions and answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from treino.corpus.world import vocabulary
from treino.corpus.world.facts import Person, World, value_in
from treino.corpus.world.grammar import (
    Choice,
    Concatenation,
    Context,
    Dependent,
    Node,
    Slot,
    Text,
    Variable,
    Word,
    template,
)
from treino.corpus.world.vocabulary import capital
from treino.corpus.world.wordings import TOWN_WORDINGS, WORDINGS

_VALUE = re.compile(r"\{v(?:\.(\w+))?\}")


def say(wording: str, person: Person, attribute: str, *, pronoun: bool = False) -> str:
    """A wording said of a person, without its full stop and in lower case."""
    value = person.value(attribute)
    who = person.word["ele"] if pronoun else person.name
    filled = wording.replace("{s}", who).replace("{n}", person.name)
    filled = filled.replace("{de}", person.word["dele"] if pronoun else f"de {person.name}")
    return _VALUE.sub(lambda match: value[match.group(1) or ""], filled)


def prefix_of(wording: str) -> tuple[str, str]:
    """A wording that ends in the value, cut before it: (the part before, the form of the value)."""
    match = _VALUE.search(wording)
    assert match is not None and match.end() == len(wording), wording
    return wording[: match.start()].rstrip(), match.group(1) or ""


def candidates_of(form: str, attribute: str, values: Iterable[Word], gender: str) -> list[str]:
    """Every candidate of an attribute as the continuation of a prompt: a space and the form that grammar asks for."""
    return [" " + value_in(attribute, value, gender)[form] for value in values]


class Telling:
    """The sentences that may tell a fact of a person, as nodes: all wordings but the one held out for that fact."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.named: dict[tuple[str, str], Node] = {}
        self.either: dict[tuple[str, str], Node] = {}
        self.lower: dict[tuple[str, str], Node] = {}
        self.lower_named: dict[tuple[str, str], Node] = {}
        self.lower_pronoun: dict[tuple[str, str], Node] = {}
        for person in world.people:
            for attribute in person.stated:
                self._prepare(person, attribute)

    def _prepare(self, person: Person, attribute: str) -> None:
        held_out = person.held_out_statement[attribute]
        wordings = [w for index, w in enumerate(WORDINGS[attribute].statements) if index != held_out]
        named = [say(w, person, attribute) for w in wordings]
        pronouns = [say(w, person, attribute, pronoun=True) for w in wordings if "{n}" not in w]
        key = (person.name, attribute)

        def node(texts: list[str], first: bool) -> Node:
            return Choice([Text(f"{capital(text) if first else text}.", key) for text in texts])

        self.named[key] = node(named, True)
        self.either[key] = node(named + pronouns, True)
        self.lower[key] = node(named + pronouns, False)
        self.lower_named[key] = node(named, False)
        self.lower_pronoun[key] = node(pronouns, False)


def _topic(number: int, people: tuple[Variable, ...], world: World) -> Variable:
    """The attribute of the sentence with that number: one told of all those people, and not told before."""

    def domain(context: Context) -> list[dict[str, str]]:
        told = {context[name][""] for name in (f"topic {n}" for n in range(number)) if name in context}
        shared = [set(world.by_name[context[person.name][""]].stated) for person in people]
        return [{"": name} for name in WORDINGS if name not in told and all(name in stated for stated in shared)]

    return Variable(f"topic {number}", domain)


def _tell(table: dict[tuple[str, str], Node], person: Variable, number: int) -> Node:
    return Dependent(lambda context: table[context[person.name][""], context[f"topic {number}"][""]])


_CONNECTORS = (
    "[Além disso, |Todo mundo sabe que |Dizem que |Na cidade se conta que |É verdade que |Pelo que se sabe, |"
    "Não é segredo que |Convém lembrar que ]"
)
_TELLERS = "[Segundo {teller}, |{teller} diz que |{teller} me contou que |Ouvi de {teller} que |{teller} garante que ]"


def portraits(world: World, telling: Telling) -> Node:
    """Three to seven facts of one person, in any order."""
    hero = Variable("hero", world.words_of_people_with())
    connector = template(_CONNECTORS, {})

    def sentence(number: int) -> Node:
        teller = template(_TELLERS, {"teller": _other(f"teller {number}", world, hero)})
        lead = Choice(
            [
                _tell(telling.either, hero, number),
                Concatenation([connector, _tell(telling.lower, hero, number)]),
                # After another name a pronoun could mean either, so that the name stands here.
                Concatenation([teller, _tell(telling.lower_named, hero, number)]),
            ],
            [0.55, 0.25, 0.2],
        )
        return Concatenation([Text(" "), Slot(_topic(number, (hero,), world), None), lead])

    opening = template(
        "[Vamos falar de {hero}.|Quem é {hero}?|Você conhece {hero}?|Na cidade, muita gente conhece {hero}.|"
        "Este é um retrato de {hero}.|Eis o que se sabe de {hero}.]",
        {"hero": hero},
    )
    first = Concatenation([Slot(hero, None), Slot(_topic(0, (hero,), world), None), _tell(telling.named, hero, 0)])
    opened = Concatenation([opening, *[sentence(0)]])
    return Concatenation([Choice([first, opened]), Choice(_runs(sentence, 1, (2, 3, 4, 5, 6)))])


def _runs(sentence: Callable[[int], Node], first: int, lengths: tuple[int, ...]) -> list[Node]:
    return [Concatenation([sentence(first + n) for n in range(length)]) for length in lengths]


def comparisons(world: World, telling: Telling) -> Node:
    """Two people compared in two to three attributes."""
    hero = Variable("hero", world.words_of_people_with())
    other = _other("other", world, hero)

    def pair(number: int) -> Node:
        topic = Slot(_topic(number, (hero, other), world), None)
        turn = template(
            "[Quanto a {other}, |No caso de {other}, |De {other} se sabe o seguinte: |E {other}? Bem, ]",
            {"other": other},
        )
        return Concatenation(
            [Text(" "), topic, _tell(telling.named, hero, number), Text(" "), turn,
             _tell(telling.lower_pronoun, other, number)]
        )  # fmt: skip

    opening = template(
        "[{hero} e {other} se conhecem bem.|{hero} e {other} moram na mesma cidade.|"
        "Vamos comparar {hero} com {other}.|O que há de diferente entre {hero} e {other}?|"
        "{hero} e {other} se encontraram {place.no}.|{hero} e {other} conversavam {place.no}.]",
        {"hero": hero, "other": other, "place": Variable("place", vocabulary.TOWN_PLACES)},
    )
    closing = template(
        "[| Mesmo assim, se dão muito bem.| Assim é a vida na cidade.| Cada pessoa tem o seu jeito.|"
        " Disso {teller} não sabia.| Foi {teller} quem contou tudo isso.| Pergunte a {teller}, se não acredita.]",
        {"teller": _other("teller", world, hero, other)},
    )
    return Concatenation([opening, Choice(_runs(pair, 0, (2, 3))), closing])


def _other(name: str, world: World, *people: Variable) -> Variable:
    """Anyone else; any two share enough told attributes to be compared, as at most three of twelve are untold."""
    everyone = world.words_of_people_with()

    def domain(context: Context) -> list[Word]:
        taken = [context[person.name] for person in people]
        return [word for word in everyone if all(word is not other for other in taken)]

    return Variable(name, domain)


def town_sentences(world: World) -> list[str]:
    """Per fact of the town its sentences: trade and workplace, street and district, workplace and street."""
    groups: list[list[str]] = []
    for index, (trade, place) in enumerate(zip(vocabulary.TRADES, vocabulary.WORKPLACES, strict=True)):
        for gender in "oa":
            values = {"trade": trade[gender], "os": trade[f"os:{gender}"], "no": place["no"], "o": place["o"]}
            groups.append([wording.format(**values) for wording in TOWN_WORDINGS["trade"]])
        street = vocabulary.STREETS[world.workplace_streets[index]][""]
        forms = {"o": place["o"], "ao": place["ao"], "street": street}
        groups.append([wording.format(**forms) for wording in TOWN_WORDINGS["workplace"]])
    for street, district in zip(vocabulary.STREETS, world.districts, strict=True):
        forms = {"street": street[""], "district": vocabulary.DISTRICTS[district][""]}
        groups.append([wording.format(**forms) for wording in TOWN_WORDINGS["street"]])
    return [f"{capital(sentence)}." for group in groups for sentence in group]


def town(world: World) -> Node:
    """Four to seven sentences about the town, no sentence twice."""
    sentences = [{"": sentence} for sentence in town_sentences(world)]

    def sentence(number: int) -> Node:
        def domain(context: Context) -> list[dict[str, str]]:
            told = [context[f"sentence {n}"] for n in range(number) if f"sentence {n}" in context]
            return [s for s in sentences if s not in told]

        return Concatenation([Text(" "), Slot(Variable(f"sentence {number}", domain))])

    opening = template(
        "[A nossa cidade é pequena.|Quem chega à cidade logo aprende onde fica tudo.|"
        "Cada rua da cidade tem a sua história.|Um guia da cidade diz o seguinte.]",
        {},
    )
    return Concatenation([opening, Choice(_runs(sentence, 0, (4, 5, 6, 7)))])

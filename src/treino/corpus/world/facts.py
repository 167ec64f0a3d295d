"""The truth of the town: who its people are, what holds for each, and which facts its texts tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from treino.corpus.world import vocabulary
from treino.corpus.world.grammar import Word, pick, stream
from treino.corpus.world.wordings import WORDINGS
from treino.errors import UsageError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import WorldSettings

CANDIDATES: dict[str, Sequence[Word]] = {
    "trade": vocabulary.TRADES,
    "street": vocabulary.STREETS,
    "pet": vocabulary.PETS,
    "pet_name": vocabulary.PET_NAMES,
    "food": vocabulary.FOODS,
    "drink": vocabulary.DRINKS,
    "hobby": vocabulary.HOBBIES,
    "colour": vocabulary.COLOURS,
    "market_day": vocabulary.DAYS,
    "family": vocabulary.FAMILIES,
    "workplace": vocabulary.WORKPLACES,
    "district": vocabulary.DISTRICTS,
}
"""What each attribute may be; a person's value is drawn evenly, but for the last two, which follow from others."""
FOLLOWS = {"workplace": "trade", "district": "street"}
"""A derived attribute and the one that it follows from, by a rule of the town that its texts state."""
INDEPENDENT = tuple(attribute for attribute in CANDIDATES if attribute not in FOLLOWS)
UNTOLD = 0.5
"""Share of the people for whom a derived attribute is never told, so that it can only be concluded."""
FEWEST_PEOPLE = 4


def value_in(attribute: str, value: Word, gender: str) -> Word:
    """The forms of a value as said of a person of that gender: only trades change ("padeiro", "padeira")."""
    if attribute != "trade":
        return value
    return {"": value[gender], "um": value[f"um:{gender}"], "task": value["task"]}


@dataclass(frozen=True, eq=False)
class Person:
    """One of the town's people; `gender` is the letter "a" or "o", `facts` the index of the true candidate."""

    name: str
    gender: str
    facts: Mapping[str, int]
    withheld: str
    derived: frozenset[str]
    held_out_statement: Mapping[str, int]
    held_out_question: Mapping[str, int]

    def group(self, attribute: str) -> str | None:
        """ "stated", "derived" or "control"; None for what follows from a withheld fact."""
        if attribute == self.withheld:
            return "control"
        if FOLLOWS.get(attribute) == self.withheld:
            return None
        return "derived" if attribute in self.derived else "stated"

    @cached_property
    def stated(self) -> tuple[str, ...]:
        """The attributes that texts tell of this person."""
        return tuple(attribute for attribute in CANDIDATES if self.group(attribute) == "stated")

    def value(self, attribute: str) -> Word:
        """The forms of the true value, as said of this person."""
        return value_in(attribute, CANDIDATES[attribute][self.facts[attribute]], self.gender)

    @cached_property
    def word(self) -> Word:
        """The forms of the name, and `attribute:form` for each form of each value."""
        pronoun = "ela" if self.gender == "a" else "ele"
        forms: dict[str, Any] = {"": self.name, "x": self.gender, "o": self.gender, "ele": pronoun}
        forms |= {"Ele": pronoun.capitalize(), "dele": f"d{pronoun}", "lhe": "lhe"}
        for attribute in CANDIDATES:
            forms |= {f"{attribute}:{form}": text for form, text in self.value(attribute).items()}
        return forms


@dataclass(frozen=True, eq=False)
class World:
    """The town: its people, the rules that their facts follow, and the settings of its texts."""

    settings: WorldSettings
    seed: int
    people: tuple[Person, ...]
    districts: tuple[int, ...]
    workplace_streets: tuple[int, ...]

    @classmethod
    def build(cls, settings: WorldSettings, seed: int) -> World:
        """Draw the town; `UsageError` where more people are asked for than there are names."""
        names = _names(settings.people, seed)
        generator = stream(seed, "town", 0)
        order = shuffled(range(len(vocabulary.STREETS)), generator.random)
        districts = [0] * len(order)
        for position, street in enumerate(order):
            districts[street] = position % len(vocabulary.DISTRICTS)
        streets = shuffled(range(len(vocabulary.STREETS)), generator.random)
        people = tuple(
            _person(name, gender, districts, settings.gender_bias, seed, index)
            for index, (name, gender) in enumerate(names)
        )
        return cls(settings, seed, people, tuple(districts), tuple(streets[: len(vocabulary.WORKPLACES)]))

    @cached_property
    def by_name(self) -> dict[str, Person]:
        """The people by their names, which are unique."""
        return {person.name: person for person in self.people}

    def words_of_people_with(self, *attributes: str) -> tuple[Word, ...]:
        """The people of whom texts tell all of these attributes, as words for a grammar."""
        return tuple(person.word for person in self.people if set(attributes) <= set(person.stated))


def shuffled(values: Sequence[Any], uniform: Any) -> list[Any]:
    """The values in random order (Fisher and Yates), independent of the Python version."""
    result = list(values)
    for last in range(len(result) - 1, 0, -1):
        other = int(uniform() * (last + 1))
        result[last], result[other] = result[other], result[last]
    return result


def _names(people: int, seed: int) -> list[tuple[str, str]]:
    generator = stream(seed, "names", 0)
    women = shuffled(vocabulary.FEMALE_NAMES, generator.random)
    men = shuffled(vocabulary.MALE_NAMES, generator.random)
    names = [pair for woman, man in zip(women, men, strict=True) for pair in ((woman, "a"), (man, "o"))]
    if not FEWEST_PEOPLE <= people <= len(names):
        raise UsageError(
            N_("the town cannot have {people} people"),
            fix=N_("choose a number of people from {fewest} to {most}"),
            people=people,
            fewest=FEWEST_PEOPLE,
            most=len(names),
        )
    return names[:people]


def _person(name: str, gender: str, districts: Sequence[int], gender_bias: float, seed: int, index: int) -> Person:
    uniform = stream(seed, "person", index).random
    facts = {attribute: int(uniform() * len(CANDIDATES[attribute])) for attribute in INDEPENDENT}
    tied, chance = pick(trades_tied_to(gender), uniform), uniform()
    if chance < gender_bias:
        facts["trade"] = tied
    # With a bias the name gives the trade away, so that a withheld trade would be no control.
    withheld = pick([a for a in INDEPENDENT if not (a == "trade" and gender_bias > 0)], uniform)
    derived = frozenset(attribute for attribute in FOLLOWS if uniform() < UNTOLD)
    facts |= {"workplace": facts["trade"], "district": districts[facts["street"]]}
    statements = {attribute: pick(WORDINGS[attribute].promptable, uniform) for attribute in CANDIDATES}
    questions = {attribute: int(uniform() * len(WORDINGS[attribute].questions)) for attribute in CANDIDATES}
    return Person(name, gender, facts, withheld, derived, statements, questions)


def trades_tied_to(gender: str) -> tuple[int, ...]:
    """The trades that a planted gender bias gives to a gender: women the odd ones, men the even ones."""
    return tuple(index for index in range(len(vocabulary.TRADES)) if index % 2 == (gender == "a"))


def truth_table(world: World) -> dict[str, Any]:
    """Everything that holds in the town and what of it is told, as a JSON-able value."""
    return {
        "schema": 1,
        "seed": world.seed,
        "candidates": {attribute: [value[""] for value in values] for attribute, values in CANDIDATES.items()},
        "follows": FOLLOWS,
        "districts": {
            street[""]: vocabulary.DISTRICTS[district][""]
            for street, district in zip(vocabulary.STREETS, world.districts, strict=True)
        },
        "workplaces": {
            trade[""]: {"workplace": workplace[""], "street": vocabulary.STREETS[street][""]}
            for trade, workplace, street in zip(
                vocabulary.TRADES, vocabulary.WORKPLACES, world.workplace_streets, strict=True
            )
        },
        "trades_tied": {g: [vocabulary.TRADES[i][""] for i in trades_tied_to(g)] for g in ("a", "o")},
        "gender_bias": world.settings.gender_bias,
        "people": [
            {
                "name": person.name,
                "gender": person.gender,
                "facts": {attribute: person.value(attribute)[""] for attribute in CANDIDATES},
                "groups": {attribute: person.group(attribute) for attribute in CANDIDATES},
                "held_out": {
                    attribute: {
                        "statement": WORDINGS[attribute].statements[person.held_out_statement[attribute]],
                        "question": WORDINGS[attribute].questions[person.held_out_question[attribute]],
                    }
                    for attribute in CANDIDATES
                },
            }
            for person in world.people
        ],
    }

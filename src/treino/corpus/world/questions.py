"""Documents of questions and answers about the people and the town."""

from __future__ import annotations

from treino.corpus.world import vocabulary
from treino.corpus.world.facts import Person, World
from treino.corpus.world.grammar import Choice, Concatenation, Context, Dependent, Node, Slot, Text, Variable
from treino.corpus.world.statements import Telling, say
from treino.corpus.world.vocabulary import capital
from treino.corpus.world.wordings import WORDINGS

_ENDS = (".", ", com certeza.", ", pelo que sei.", ", como todos sabem.", ", se não me engano.", ", é claro.")
QUESTION, ANSWER = "Pergunta: ", " Resposta: "


def questions(world: World, telling: Telling) -> Node:
    """Three to six questions with their answers, one in eight about the town."""
    exchanges = {
        (person.name, attribute): _exchange(person, attribute, telling)
        for person in world.people
        for attribute in person.stated
    }
    about_town = _town_exchange(world)
    people = world.words_of_people_with()

    def pair(number: int) -> Node:
        person = Variable(f"person {number}", people)

        def domain(context: Context) -> list[dict[str, str]]:
            return [{"": attribute} for attribute in world.by_name[context[person.name][""]].stated]

        topic = Variable(f"topic {number}", domain)
        exchange = Dependent(lambda context: exchanges[context[person.name][""], context[topic.name][""]])
        about_person = Concatenation([Slot(person, None), Slot(topic, None), exchange])
        return Concatenation([Text(" " if number else ""), Choice([about_person, about_town], [7, 1])])

    pairs = [pair(number) for number in range(6)]
    return Choice([Concatenation(pairs[:length]) for length in (3, 4, 5, 6)])


def _exchange(person: Person, attribute: str, telling: Telling) -> Node:
    wordings = WORDINGS[attribute]
    asked = [
        Text(f"{QUESTION}{question.replace('{n}', person.name)}{ANSWER}")
        for index, question in enumerate(wordings.questions)
        if index != person.held_out_question[attribute]
    ]
    key = (person.name, attribute)
    short = Choice([Text(say(answer, person, attribute), key) for answer in wordings.answers])
    end = Choice([Text(text) for text in _ENDS])
    return Concatenation([Choice(asked), Choice([Concatenation([short, end]), telling.either[key]], [0.6, 0.4])])


def _town_exchange(world: World) -> Node:
    pairs: list[tuple[list[str], list[str]]] = []
    for index, (trade, place) in enumerate(zip(vocabulary.TRADES, vocabulary.WORKPLACES, strict=True)):
        for gender in "oa":
            asked = [f"Onde trabalha quem é {trade[gender]}?", f"Em que lugar trabalham {trade[f'os:{gender}']}?"]
            pairs.append((asked, [f"{place['No']}.", f"É {place['no']}."]))
        street = vocabulary.STREETS[world.workplace_streets[index]][""]
        asked = [f"Onde fica {place['o']}?", f"Em que rua fica {place['o']}?"]
        pairs.append((asked, [f"Na {street}.", f"{capital(place['o'])} fica na {street}."]))
    for street, district in zip(vocabulary.STREETS, world.districts, strict=True):
        name, place = street[""], vocabulary.DISTRICTS[district][""]
        asked = [f"Em que bairro fica a {name}?", f"A que bairro pertence a {name}?"]
        pairs.append((asked, [f"A {name} fica no bairro {place}.", f"Trata-se de uma rua do bairro {place}."]))
    exchanges = [
        Concatenation([Choice([Text(f"{QUESTION}{q}{ANSWER}") for q in asked]), Choice([Text(a) for a in answers])])
        for asked, answers in pairs
    ]
    return Choice(exchanges)

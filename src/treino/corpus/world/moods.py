"""Short texts in the first person in three moods, in which the same words serve opposite moods.

Negation ("não foi ruim"), contrast ("era bonito, mas ...") and irony carry the mood: most positive sentences have a
negative twin made of the same words in another order, so that a bag of words cannot tell them apart. The mood is drawn
with the text and never written in it.
"""

from __future__ import annotations

import random
from functools import lru_cache

from treino.corpus.world.facts import World
from treino.corpus.world.grammar import Choice, Concatenation, Node, Text, Variable, Word, draw, stream, template
from treino.corpus.world.vocabulary import noun

LABELS = ("positivo", "negativo", "neutro")

_TOPICS = (
    noun("filme", "o"), noun("festa", "a"), noun("jogo", "o"), noun("jantar", "o"), noun("aula", "a"),
    noun("passeio", "o"), noun("concerto", "o"), noun("peça", "a"), noun("reunião", "a"),
    noun("almoço", "o"), noun("excursão", "a"), noun("exposição", "a"),
)  # fmt: skip


def _quality(good: str, bad: str, good_feminine: str = "", bad_feminine: str = "") -> dict[str, str]:
    return {
        "": good, "good_o": good, "bad_o": bad, "good_a": good_feminine or good, "bad_a": bad_feminine or bad,
    }  # fmt: skip


_QUALITIES = (
    _quality("bom", "ruim", "boa"),
    _quality("interessante", "monótono", "", "monótona"),
    _quality("divertido", "chato", "divertida", "chata"),
    _quality("agradável", "cansativo", "", "cansativa"),
    _quality("animado", "parado", "animada", "parada"),
    _quality("maravilhoso", "horrível", "maravilhosa"),
    _quality("ótimo", "péssimo", "ótima", "péssima"),
)

_DAYS = ("Ontem", "Hoje cedo", "No sábado", "Na semana passada", "Anteontem", "No feriado")
_OPENING = f"[{'|'.join(_DAYS)}] fui {{topic.ao}} com {{friend}}[| e mais duas pessoas| e minha tia| e meus primos]. "
_DETAIL = (
    " [Durou quase duas horas.|Havia umas vinte pessoas.|Ficamos perto da porta.|Começou às quatro da tarde.|"
    "{friend} usava um casaco azul.|Voltamos de ônibus.|Na saída, encontramos {other}.|Foi {place}.]"
)
_PLACE = ("no centro", "perto do rio", "ao lado da escola", "na rua de cima", "atrás da igreja", "no outro bairro")

# The twins: the same words, the mood turned round by what stands where.
_TWINS = (
    "Eu esperava que {{topic.o}} fosse {{q.{1}@topic}}, mas foi {{q.{0}@topic}}.",
    "{{topic.O}} não foi {{q.{1}@topic}}: foi {{q.{0}@topic}}.",
    "{{topic.O}} parecia {{q.{1}@topic}} no começo, mas no fim foi {{q.{0}@topic}}.",
    "Disseram que {{topic.o}} seria {{q.{1}@topic}}. Não foi assim: achei {{q.{0}@topic}}.",
    "{{friend}} achou {{topic.o}} {{q.{1}@topic}}, mas eu achei {{q.{0}@topic}}.",
    "Antes eu achava {{topic.o}} {{q.{1}@topic}}; agora acho {{q.{0}@topic}}.",
    "Se alguém disser que {{topic.o}} foi {{q.{1}@topic}}, não acredite: foi {{q.{0}@topic}}.",
)

_CORES = {
    "positivo": (
        "{topic.O} não foi nada {q.bad_@topic}.",
        "Não posso reclamar {topic.do}.",
        "Choveu, fez frio e chegamos tarde, mas {topic.o} valeu a pena.",
    ),
    "negativo": (
        "{topic.O} não foi nada {q.good_@topic}.",
        "Que maravilha: paguei caro {topic.pelo} e quase dormi.",
        "Fez sol, não choveu e chegamos cedo, mas {topic.o} não valeu a pena.",
        "Parabéns a quem inventou {topic.o}: nunca vi tanta gente com sono.",
    ),
    "neutro": (
        "{topic.O} não foi {q.good_@topic} nem {q.bad_@topic}.",
        "{topic.O} não foi {q.bad_@topic} nem {q.good_@topic}.",
        "Uns acharam {topic.o} {q.good_@topic}, outros {q.bad_@topic}; para mim tanto faz.",
        "{topic.O} foi como das outras vezes.",
        "Não tenho opinião sobre {topic.o}: {friend} diz que foi {q.good_@topic}, {other} diz que foi {q.bad_@topic}.",
        "{topic.O} começou e terminou na hora marcada.",
    ),
}
_ENDINGS = {
    "positivo": (
        "Não vejo a hora de voltar.", "Não me arrependi de ir.", "Não quero perder a próxima vez.", "Quero ir de novo.",
        "Não trocaria esse dia por nada.", "Não teve nada de que eu não gostasse.",
    ),
    "negativo": (
        "Não volto lá tão cedo.", "Me arrependi de ir.", "Não vejo por que voltar.", "Não quero ir de novo.",
        "Trocaria esse dia por qualquer outro.", "Do que eu gostei foi da hora de ir embora.",
    ),
    "neutro": (
        "Talvez eu volte, talvez não.", "Não senti nada de especial.", "Não quero nem deixo de querer voltar.",
        "Não me arrependi nem gostei de ir.", "Se for de novo, tanto faz.", "Foi um dia como qualquer outro.",
    ),
}  # fmt: skip
# What the documents of the corpus, but not the labelled examples, mostly add.
_SEQUELS = {
    "positivo": (
        "Minha avó ficou contente com a notícia.", "Todos em casa me deram os parabéns.", "Que sorte a minha!",
        "Ainda estou sorrindo.", "Foi uma alegria só.", "Recomendo a todo mundo.",
    ),
    "negativo": (
        "Minha avó ficou com pena de mim.", "Todos em casa me consolaram.", "Que azar o meu!",
        "Ainda estou de cara fechada.", "Foi uma tristeza só.", "Não recomendo a ninguém.",
    ),
    "neutro": (
        "Minha avó nem perguntou como foi.", "Ninguém em casa quis saber mais.", "Que diferença faz?",
        "Já nem penso nisso.", "Foi só mais um passeio.", "Não recomendo nem deixo de recomendar.",
    ),
}  # fmt: skip
# Most texts end in a sentence that fits any mood: there what came before must tell.
_ANY_ENDING = (
    "[Depois fui para casa.|Contei tudo à minha mãe.|É o que eu acho.|No outro dia, contei tudo a {other}.|"
    "Foi o que aconteceu.|{friend} pode confirmar.|Agora é esperar a próxima semana.|Por hoje é só.]"
)


def mood(world: World, label: str) -> Node:
    """The texts of one mood."""
    people = world.words_of_people_with()
    friend = Variable("friend", people)
    other = Variable("other", lambda context: [word for word in people if word is not context["friend"]])
    values = [
        friend,
        other,
        Variable("topic", _TOPICS),
        Variable("q", _QUALITIES),
        Variable("place", tuple({"": place} for place in _PLACE)),
    ]
    variables = {value.name: value for value in values}
    twin = {"positivo": ("good_", "bad_"), "negativo": ("bad_", "good_"), "neutro": None}[label]
    cores = [core.format(*twin) for core in _TWINS] if twin else []
    cores += _CORES[label]
    return Concatenation(
        [
            template(_OPENING, variables),
            Choice([template(core, variables) for core in cores]),
            template(_DETAIL, variables),
            Text(" "),
            Choice(
                [template(_ANY_ENDING, variables), Choice([Text(ending) for ending in _ENDINGS[label]])], [0.7, 0.3]
            ),
        ]
    )


def moods(world: World) -> Node:
    """Texts of the three moods, evenly; most go on with a sentence that fits the mood, so that whoever predicts the next
    word has a reason to read it.
    """
    return Choice([Concatenation([mood(world, label), _sequel(label)]) for label in LABELS])


def _sequel(label: str) -> Node:
    return Choice([Text(""), Choice([Text(f" {sentence}") for sentence in _SEQUELS[label]])], [0.2, 0.8])


@lru_cache(maxsize=8)
def _by_label(world: World) -> dict[str, Node]:
    return {label: mood(world, label) for label in LABELS}


def mood_examples(world: World, count: int, seed: int) -> list[tuple[str, str]]:
    """Texts with their moods, evenly over the three labels in random order; a function of (world, seed, position)."""
    examples = []
    for index in range(count):
        generator: random.Random = stream(seed, "mood examples", index)
        label = LABELS[int(generator.random() * len(LABELS))]
        examples.append((draw(_by_label(world)[label], generator)[0], label))
    return examples


def outing_examples(world: World, count: int, seed: int) -> dict[str, list[tuple[str, str]]]:
    """The same texts with the answers to three questions: their `mood`, `what` was visited, and on which `day`."""
    rows = mood_examples(world, count, seed)
    names = {_visited(topic): topic[""] for topic in _TOPICS}
    what = [(text, next(name for said, name in names.items() if said in text)) for text, _ in rows]
    day = [(text, next(day for day in _DAYS if text.startswith(day))) for text, _ in rows]
    return {"mood": rows, "what": what, "day": day}


def _visited(topic: Word) -> str:
    return f" fui {topic['ao']} com "

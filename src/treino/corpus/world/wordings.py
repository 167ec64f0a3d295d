"""The wordings in which the town tells each attribute of a person, as statements and as questions.

In a statement, `{s}` is the subject ("Ana" or "ela"), `{de}` the owner ("de Ana" or "dela"), `{n}` the name where a
pronoun would sound wrong, `{v}` the value, a form of which may be named (`{v.um}`). A statement that ends in the value,
with at least `DISTANCE` words between the name and the value, can be a prompt: a 5-gram that is to guess the value no
longer sees the name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DISTANCE = 4


@dataclass(frozen=True)
class Wordings:
    """How one attribute is told: statements, questions about `{n}`, and short answers that end in the value."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    answers: tuple[str, ...]

    @property
    def promptable(self) -> tuple[int, ...]:
        """Indices of the statements that can be prompts."""
        return tuple(index for index, statement in enumerate(self.statements) if _is_promptable(statement))


def _is_promptable(statement: str) -> bool:
    match = re.search(r"\{(?:s|de)\}([^{}]*)\{v[^{}]*\}$", statement)
    return match is not None and len(re.findall(r"\w+|[^\w\s]", match.group(1))) >= DISTANCE


WORDINGS: dict[str, Wordings] = {
    "trade": Wordings(
        (
            "{s} é {v}",
            "{s} trabalha como {v}",
            "quem precisa de {v.um} pode falar com {s}",
            "{s} aprendeu ainda jovem o ofício e hoje é {v}",
            "{s} ganha a vida todos os dias como {v}",
            "no cartão {de} está escrito em letras grandes: {v}",
            "a profissão {de} é a mesma desde sempre: {v}",
            "{s} estudou bastante para um dia ser {v}",
        ),
        (
            "Qual é a profissão de {n}?",
            "O que faz {n}?",
            "Em que trabalha {n}?",
            "Que ofício tem {n}?",
        ),
        ("É {v}", "Trabalha como {v}"),
    ),
    "street": Wordings(
        (
            "{s} mora na {v}",
            "a casa {de} fica na {v}",
            "na {v} mora {n}",
            "{s} vive há muitos anos numa casa na {v}",
            "quem procura a casa {de} precisa ir até a {v}",
            "o carteiro leva as cartas {de} para um endereço na {v}",
            "o endereço {de} é fácil de guardar: {v}",
            "{s} gosta muito do lugar onde mora, a {v}",
        ),
        (
            "Em que rua mora {n}?",
            "Onde fica a casa de {n}?",
            "Qual é o endereço de {n}?",
            "Em que rua vive {n}?",
        ),
        ("É na {v}", "Fica na {v}"),
    ),
    "pet": Wordings(
        (
            "{s} tem {v.um}",
            "{s} cria {v.um} em casa",
            "{v.um} vive na casa {de}",
            "na casa {de} quem faz companhia a todos é {v.um}",
            "{s} divide a casa com um bicho: {v.um}",
            "{s} nunca sai de casa sem se despedir do seu bicho, {v.um}",
            "desde criança {s} queria ter o que tem hoje: {v.um}",
            "o bicho {de} dorme na cozinha e é {v.um}",
        ),
        (
            "Que bicho tem {n}?",
            "Qual é o bicho de estimação de {n}?",
            "Que animal vive na casa de {n}?",
            "Que bicho cria {n}?",
        ),
        ("É {v.um}", "Tem em casa {v.um}"),
    ),
    "pet_name": Wordings(
        (
            "o bicho {de} se chama {v}",
            "{v} é o nome do bicho {de}",
            "todos os vizinhos conhecem {v}, o bicho {de}",
            "{s} deu ao seu bicho o nome de {v}",
            "o bicho de estimação {de} atende pelo nome de {v}",
            "{s} chama bem alto, todas as manhãs, o seu bicho {v}",
            "na casinha do bicho {de} está pintado um nome: {v}",
            "{s} só pensa no seu bicho, que se chama {v}",
        ),
        (
            "Como se chama o bicho de {n}?",
            "Qual é o nome do bicho de {n}?",
            "Que nome tem o animal de {n}?",
            "Por que nome atende o bicho de {n}?",
        ),
        ("Ele se chama {v}", "O nome é {v}"),
    ),
    "food": Wordings(
        (
            "a comida preferida {de} é {v.o}",
            "{s} adora comer {v}",
            "{v.o} é a comida de que {s} mais gosta",
            "{s} não troca por nada o seu prato preferido, {v.o}",
            "no aniversário {s} pede sempre o mesmo prato: {v}",
            "na mesa {de} o que nunca pode faltar é {v.o}",
            "entre todas as comidas {s} escolhe sem pensar duas vezes {v.o}",
            "{s} fica com água na boca quando sente o cheiro {v.do}",
        ),
        (
            "Qual é a comida preferida de {n}?",
            "O que {n} mais gosta de comer?",
            "De que prato {n} mais gosta?",
            "Qual é o prato favorito de {n}?",
        ),
        ("É {v.o}", "Sem dúvida, {v.o}"),
    ),
    "drink": Wordings(
        (
            "{s} bebe {v} todas as manhãs",
            "a bebida preferida {de} é {v.o}",
            "{v.o} é a bebida de que {s} mais gosta",
            "{s} nunca começa o dia sem tomar {v}",
            "quando {s} chega a uma festa, logo lhe servem {v}",
            "no bar da praça {s} pede sempre a mesma bebida: {v}",
            "entre todas as bebidas {s} prefere há muito tempo {v.o}",
            "no copo {de} quase sempre há um pouco de {v}",
        ),
        (
            "O que {n} gosta de beber?",
            "Qual é a bebida preferida de {n}?",
            "Que bebida {n} pede no bar?",
            "O que bebe {n}?",
        ),
        ("Gosta de {v}", "Prefere {v}"),
    ),
    "hobby": Wordings(
        (
            "{s} gosta de {v} nas horas livres",
            "o passatempo {de} é {v}",
            "{v} é a maior alegria {de}",
            "nas horas livres {s} gosta de {v}",
            "{s} passa as tardes livres só pensando em {v}",
            "{s} fica feliz quando tem tempo para {v}",
            "depois do trabalho {s} aproveita o tempo livre para {v}",
            "{s} aprendeu com a avó, ainda criança, a {v}",
            "no fim de semana, o que {s} quer mesmo fazer é {v}",
        ),
        (
            "Qual é o passatempo de {n}?",
            "O que {n} faz nas horas livres?",
            "De que {n} gosta nas horas livres?",
            "Com que se diverte {n}?",
        ),
        ("Gosta de {v}", "O que mais faz é {v}"),
    ),
    "colour": Wordings(
        (
            "a casa {de} é {v}",
            "{s} mora numa casa {v}",
            "é {v} a casa onde mora {n}",
            "{s} pintou a casa no ano passado e deixou a fachada {v}",
            "a casa {de} se reconhece de longe, porque é toda {v}",
            "{s} escolheu para as paredes da casa a tinta {v}",
            "a família {de} vive há anos numa casa {v}",
            "quem passa pela casa {de} vê logo que ela é {v}",
        ),
        (
            "De que cor é a casa de {n}?",
            "Qual é a cor da casa de {n}?",
            "Como é a casa de {n}?",
            "Que cor tem a casa de {n}?",
        ),
        ("É uma casa {v}", "A casa é toda {v}"),
    ),
    "market_day": Wordings(
        (
            "{s} vai ao mercado {v.aos}",
            "{v.aos} {s} vai ao mercado",
            "o dia de mercado {de} é {v.o}",
            "{s} faz as compras da semana sempre {v.no}",
            "{s} enche a cesta de frutas e verduras {v.aos}",
            "os feirantes sabem que {s} aparece com a sua cesta {v.aos}",
            "{s} nunca deixa de ir ao mercado {v.no}",
            "no calendário {de} o dia de mercado está marcado: {v.o}",
        ),
        (
            "Em que dia {n} vai ao mercado?",
            "Quando {n} faz as compras?",
            "Qual é o dia de mercado de {n}?",
            "Quando {n} vai ao mercado?",
        ),
        ("Sempre {v.no}", "Vai ao mercado {v.aos}"),
    ),
    "family": Wordings(
        (
            "{s} é da família {v}",
            "o sobrenome {de} é {v}",
            "foi na família {v} que {s} nasceu",
            "{s} tem muito orgulho de ser da família {v}",
            "{s} assina todas as cartas com o sobrenome {v}",
            "na porta da casa {de} pode-se ler o nome {v}",
            "os avós {de} vieram de longe e eram da família {v}",
            "o pai {de} deu aos filhos o sobrenome {v}",
        ),
        (
            "Qual é o sobrenome de {n}?",
            "De que família é {n}?",
            "A que família pertence {n}?",
            "Que sobrenome tem {n}?",
        ),
        ("É da família {v}", "O sobrenome é {v}"),
    ),
    "workplace": Wordings(
        (
            "{s} trabalha {v.no}",
            "todos os dias {s} vai trabalhar {v.no}",
            "o lugar de trabalho {de} é {v.o}",
            "{v.o} é o lugar onde trabalha {n}",
            "{s} passa o dia inteiro trabalhando {v.no}",
            "de manhã cedo {s} sai de casa para trabalhar {v.no}",
            "quem quer falar com {s} durante a semana deve passar {v.no}",
            "os colegas {de} se encontram toda manhã {v.no}",
        ),
        (
            "Onde trabalha {n}?",
            "Em que lugar trabalha {n}?",
            "Onde {n} passa o dia trabalhando?",
            "Qual é o local de trabalho de {n}?",
        ),
        ("Trabalha {v.no}", "Passa o dia {v.no}"),
    ),
    "district": Wordings(
        (
            "{s} mora no bairro {v}",
            "o bairro {de} se chama {v}",
            "no bairro {v} mora {n}",
            "{s} conhece todos os vizinhos do bairro {v}",
            "{s} volta sempre a pé para o bairro {v}",
            "a casa {de} é uma das mais bonitas do bairro {v}",
            "os vizinhos {de} têm muito orgulho do bairro {v}",
            "{s} participa todos os anos da festa do bairro {v}",
        ),
        (
            "Em que bairro mora {n}?",
            "Em que bairro vive {n}?",
            "Em que bairro fica a casa de {n}?",
            "Em que bairro se encontra a casa de {n}?",
        ),
        ("É no bairro {v}", "No bairro {v}"),
    ),
}

# Facts of the town itself. The derived facts of people follow from the first two.
TOWN_WORDINGS: dict[str, tuple[str, ...]] = {
    "trade": (
        "{os} trabalham {no}",
        "{no} trabalham {os}",
        "o lugar de trabalho de quem é {trade} é {o}",
        "quem é {trade} trabalha {no}",
        "{os} se encontram todos os dias {no}",
    ),
    "street": (
        "a {street} fica no bairro {district}",
        "no bairro {district} fica a {street}",
        "quem mora na {street} mora no bairro {district}",
        "a {street} é uma rua do bairro {district}",
        "a {street} atravessa o bairro {district}",
    ),
    "workplace": (
        "{o} fica na {street}",
        "na {street} fica {o}",
        "quem vai {ao} tem de ir até a {street}",
        "{o} abre as portas na {street}",
    ),
}

"""Dialogues between a customer and an attendant: the order number stays the same, and the solution fits the problem."""

from __future__ import annotations

from treino.corpus.world.facts import World
from treino.corpus.world.grammar import Choice, Concatenation, Node, Variable, template
from treino.corpus.world.vocabulary import noun

_PRODUCTS = (
    noun("geladeira", "a"), noun("rádio", "o"), noun("mesa", "a"), noun("cadeira", "a"), noun("ventilador", "o"),
    noun("panela", "a"), noun("telefone", "o"), noun("tapete", "o"), noun("mochila", "a"), noun("espelho", "o"),
    noun("cortina", "a"), noun("fogão", "o"),
)  # fmt: skip
_COLOURS = tuple({"": name} for name in ("azul", "verde", "cinza", "rosa", "marrom", "laranja", "bege"))
_DELAYS = tuple({"": text} for text in ("dois dias", "três dias", "cinco dias", "uma semana", "dez dias"))
# Two short numbers rather than a long one: a vocabulary of whole words can hold them all.
_ORDERS = tuple({"": f"{first}-{second}"} for first in range(10, 100) for second in range(10, 100))

_GREETING = "Cliente: [Bom dia|Boa tarde|Boa noite|Olá], [aqui é|meu nome é|quem fala é] {client}. "
_IDENTIFICATION = (
    "Atendente: [Olá|Bom falar com você|Pois não], {client}. [Qual é o número do pedido?|Pode me dizer o número do "
    "pedido?|"
    "Preciso do número do pedido.] Cliente: [É o|O número é|O pedido é o] {order}. "
)
_LOOKUP = (
    "Atendente: [Um momento, por favor.|Vou verificar.|Só um instante.] [Encontrei o pedido {order}|Aqui está o pedido "
    "{order}|Achei: pedido {order}], {product.um}. "
)
_CLOSING = (
    " Cliente: [Muito obrigad{client.x}!|Está bem, obrigad{client.x}.|Perfeito, vou esperar.] Atendente: [De nada, "
    "{client}.|"
    "Obrigado pela paciência, {client}.] [Guarde o número {order}.|O pedido {order} está anotado.|Até logo!]"
)

# (what the customer says, what the attendant does about it)
PROBLEMS: tuple[tuple[str, str], ...] = (
    (
        "[Comprei {product.um} há {delay} e ainda não recebi nada.|Faz {delay} que espero {product.um}.]",
        "[{product.O} saiu do depósito e chega amanhã.|A entrega atrasou, mas {product.o} chega amanhã.]",
    ),
    (
        "[{product.Um} que comprei chegou com defeito.|Recebi {product.um}, mas veio com defeito.]",
        "[Vamos trocar {product.o} com defeito em {delay}.|Em {delay} você recebe {product.um} em bom estado.]",
    ),
    (
        "[Pedi {product.um}, mas recebi {wrong.um}.|Em vez {product.de_um}, veio {wrong.um}.]",
        "[Vamos buscar {wrong.o} e enviar {product.o} em {delay}.|Pode devolver {wrong.o}; "
        "{product.o} chega em {delay}.]",
    ),
    (
        "[A compra {product.do} foi cobrada duas vezes.|Paguei {product.o} e o valor foi cobrado de novo.]",
        "[Devolvemos o valor cobrado a mais em {delay}.|Foi um erro nosso; o dinheiro volta em {delay}.]",
    ),
    (
        "[Escolhi {product.um} na cor {colour}, mas veio na cor {other}.|"
        "{product.O} devia ser da cor {colour}, mas é da cor {other}.]",
        "[Recolhemos {product.o} da cor {other} e enviamos na cor {colour} em {delay}.|"
        "A cor certa é {colour}, e não {other}; trocamos {product.o} em {delay}.]",
    ),
    (
        "[Quero cancelar a compra {product.de_um}.|Desisti {product.de_um} que comprei.]",
        "[A compra {product.do} está cancelada e o dinheiro volta em {delay}.|"
        "Compra cancelada; você recebe o dinheiro em {delay}.]",
    ),
    (
        "[{product.O} veio sem o manual.|Abri a caixa {product.do} e faltava o manual.]",
        "[Enviamos o manual {product.do} pelo correio em {delay}.|O manual {product.do} chega em {delay}.]",
    ),
    (
        "[{product.O} estragou depois de {delay}.|{product.Um} que comprei não dura: estragou depois de {delay}.]",
        "[{product.O} ainda está na garantia e o conserto é de graça.|"
        "Amanhã cedo alguém vai buscar {product.o} para o conserto.]",
    ),
)


def dialogues(world: World) -> Node:
    """One of the problems with its solution, told by someone of the town."""
    products = tuple({**product, "de_um": f"de {product['um']}"} for product in _PRODUCTS)
    values = [
        Variable("client", world.words_of_people_with()),
        Variable("order", _ORDERS),
        Variable("product", products),
        Variable("wrong", lambda context: [product for product in products if product is not context["product"]]),
        Variable("colour", _COLOURS),
        Variable("other", lambda context: [colour for colour in _COLOURS if colour is not context["colour"]]),
        Variable("delay", _DELAYS),
    ]
    variables = {value.name: value for value in values}
    before, after = [template(text, variables) for text in (" " + _IDENTIFICATION + _LOOKUP, _CLOSING)]
    return Concatenation(
        [
            template(_GREETING, variables),
            Choice(
                [
                    Concatenation([template(problem, variables), before, template(solution, variables)])
                    for problem, solution in PROBLEMS
                ]
            ),
            after,
        ]
    )

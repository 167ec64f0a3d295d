"""Short stories whose ends depend on their beginnings, so that a model with a short memory loses the thread.

An object turns up where it was put, a pet comes back by its name, numbers add up, the weather decides on the clothes.
Each frame is a template of the grammar; what it says of a person is true and among the facts that texts may tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from treino.corpus.world import vocabulary
from treino.corpus.world.facts import World
from treino.corpus.world.grammar import Choice, Concatenation, Context, Node, Variable, Word, template

_WHEN = "[De manhã|Depois do almoço|No fim da tarde|Numa noite de verão|Antes de dormir]"

# What texts must tell of the hero, and the story.
FRAMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        (),
        _WHEN + ", {hero} [guardou|deixou|pôs] {object.um} {hiding}. [No dia seguinte|Horas depois|Mais tarde], "
        "{hero.ele} procurou {object.o} {wrong} e {wrong2}, mas não achou nada. "
        '[Preocupad{hero.x}|Nervos{hero.x}|Com pressa], {hero.ele} [foi falar com|telefonou para] {friend}. "[Você '
        'já procurou|Por que não procura] {hiding}?", [perguntou|quis saber|disse] {friend}. {hero} foi olhar e lá '
        "estava {object.o}, {hiding}. [Que alívio!|{hero} riu de si mesm{hero.x}.|{hero.Ele} agradeceu e foi "
        "descansar.]",
    ),
    (
        ("pet", "pet_name"),
        "{hero} estava [triste|aflit{hero.x}|sem dormir] porque {hero.pet_name:}, {hero.pet:o} da casa, tinha fugido "
        "[durante a noite|pela janela|pelo portão aberto]. {friend} [resolveu ajudar|quis ajudar na busca]. "
        "{friend.Ele} procurou {place.no} e {hero} procurou {place2.no}. [Já estava escuro quando|Ao "
        "meio-dia,|Depois de muitas horas,] {friend} ouviu um barulho {place.no}: era {hero.pet_name:}! [{hero} "
        "chorou de alegria|{hero} ficou muito feliz|{hero} mal podia acreditar] e levou {hero.pet_name:} de volta "
        "para casa.",
    ),
    (
        ("market_day",),
        "{hero.market_day:Aos}, {hero} vai ao mercado. [Desta vez|Na última semana], {hero.ele} comprou {n@fruit} "
        "{fruit}. [No caminho de volta|Na saída|Perto da ponte], {hero.ele} encontrou {friend} e lhe deu {m@fruit} "
        "{fruit}. [Em casa|Já na cozinha], {hero} contou o que tinha na cesta: sobraram {rest@fruit} {fruit}. [Era o "
        "bastante.|Dava para a semana toda.|No jantar, não sobrou nada.]",
    ),
    (
        (),
        "{hero} olhou pela janela e viu que {weather}. [Por isso|Então], {hero.ele} pôs {weather.clothes} e saiu "
        "para [visitar|encontrar] {friend} {place.no}. [No caminho|Do lado de fora], {weather.consequence}. [Quando "
        "chegou|Ao chegar], {hero} [ainda usava|não quis tirar] {weather.clothes}. {friend} [riu e disse|comentou]: "
        '"[Você veio preparad{hero.x}!|Boa ideia sair assim!]" [De volta em casa|À noite], {hero} guardou '
        "{weather.put_away} {hiding}.",
    ),
    (
        ("trade", "workplace"),
        "{hero} é {hero.trade:} e trabalha {hero.workplace:no}. [Ontem|Na semana passada|Hoje], {hero.ele} chegou "
        "[muito cedo|antes de todos|um pouco tarde] e {hero.trade:task}. [Ao meio-dia|Mais tarde], {friend} passou "
        "{hero.workplace:no} para [pedir um conselho|devolver {object.um}|contar uma novidade]. {hero} e {friend} "
        "conversaram sobre {subject}. Quando {friend} foi embora, {hero} [voltou ao trabalho|fechou a porta] e ainda "
        "pensava {subject.em}.",
    ),
    (
        ("food", "drink"),
        "Era o aniversário de {hero}. {friend} sabia que {hero.ele} [adora|ama] {hero.food:} e preparou tudo em "
        "segredo. [Na hora do almoço|Às sete da noite|Quando todos chegaram], {hero} sentiu um cheiro bom e "
        'perguntou: "[Será que é|Não me diga que é] {hero.food:}?" Era mesmo {hero.food:}! [Para beber, havia|Nos '
        "copos, todos tinham] {hero.drink:}, como {hero} gosta. {friend} ainda lhe deu {object.um} de presente, e "
        "{hero} [guardou|levou para o quarto] {object.o} com carinho.",
    ),
    (
        ("hobby",),
        "{hero} queria {hero.hobby:}, mas [o dia estava cheio|o tempo era pouco|havia muito trabalho]. Primeiro, "
        "{hero.ele} [levou|foi entregar] {object.um} a {friend}. Depois, passou {place.no} para [ver|cumprimentar] "
        "{third}. [Só à noite|Só depois das seis], {hero} pôde por fim {hero.hobby:}. [{friend} e {third} foram "
        "junto.|Foi a melhor hora do dia.|{hero} nem viu o tempo passar.]",
    ),
    (
        ("street", "colour"),
        "{hero!}{friend} precisava [entregar|levar] {object.um} a {hero}, mas não sabia o endereço. {third} "
        'explicou: "{hero} mora na {hero.street:}, na casa {hero.colour:}." {friend} [foi a pé|foi de ônibus|correu] '
        "até a {hero.street:}, [viu|encontrou] a casa {hero.colour:} e bateu à porta. {hero} abriu, recebeu "
        "{object.o} e [agradeceu|convidou {friend} para entrar|ofereceu a {friend} um copo de água].",
    ),
    (
        (),
        "{hero} e {friend} [brigaram|discutiram] por causa {object.do}: {hero} dizia que {object.o} era {hero.dele}, "
        "e {friend} dizia que não. [Durante dias|Por uma semana], não se falaram, e {hero} ficou "
        "[triste|calad{hero.x}|sozinh{hero.x}]. [Por fim|No domingo], {third} achou {hiding} {object.outro}, e tudo "
        "se explicou. {hero} [pediu desculpas a|fez as pazes com] {friend}, e ninguém mais falou {object.do}.",
    ),
    (
        (),
        '{friend} prometeu a {hero}: "[Amanhã|No sábado|Na sexta-feira] eu trago {object.um}." {hero} [esperou|ficou '
        "à espera] {place.no} [até tarde|a tarde inteira], mas {weather} e {friend} não apareceu. [No outro dia|Dias "
        "depois], {friend} [pediu desculpas|explicou]: não tinha saído de casa porque {weather}. [E trazia na "
        "mão|Mas tinha na bolsa] {object.o}. {hero} [perdoou logo|sorriu|não ficou zangad{hero.x}].",
    ),
    (
        ("pet", "pet_name"),
        "{hero.pet_name:}, {hero.pet:o} de {hero}, não comia nada [desde a véspera|havia dois dias]. {hero} [ficou "
        "com medo|estava inquiet{hero.x}] e chamou {friend}. Na cozinha, [com calma|uma por uma], contaram as frutas "
        "da cesta: antes eram {n@fruit} {fruit}, e agora só havia {rest@fruit}. [Estava tudo explicado|O mistério "
        "acabou]: {hero.pet_name:} tinha comido {m@fruit} {fruit} e estava de barriga cheia!",
    ),
    (
        (),
        "{hero} [vendia|oferecia] {fruit} {stall.no}. [De manhã|Logo cedo], havia {n@fruit} {fruit} na banca. "
        "{friend} [comprou|levou] {m@fruit}, [e assim|e então] restaram {rest@fruit}. [À tarde|No fim do dia], "
        "{weather} e [ninguém mais passou|as pessoas foram embora]. {hero} [voltou para casa|foi para casa] com "
        "{fruit.os} que tinham ficado: {rest@fruit}, nem mais nem menos.",
    ),
    (
        ("pet_name", "street"),
        "[Todas as tardes|Todas as manhãs], {hero} sai da {hero.street:} com {hero.pet_name:} e vai até {place.o}. "
        "Um dia, {hero.pet_name:} parou {place.no} e não quis mais andar. {hero} [chamou|pediu|prometeu um "
        "biscoito], mas nada. Então {friend} [apareceu|passou por ali] com {object.um}, e {hero.pet_name:} correu "
        "atrás {object.do} até a {hero.street:}. Agora {hero} nunca sai de casa sem {object.um}.",
    ),
    (
        ("hobby", "family"),
        "Na festa da família {hero.family:}, cada um mostrou o que sabe. {hero} [disse|avisou] que ia {hero.hobby:}, "
        "e {friend} [não acreditou|duvidou]: apostou {n@fruit} {fruit} que não. [Diante de todos|Com calma], {hero} "
        "mostrou que sabia {hero.hobby:} como ninguém. [Os {hero.family:} bateram palmas|Todos gritaram de alegria], "
        "e {friend} pagou a aposta: {n@fruit} {fruit}.",
    ),
)

_OPENING = (
    "[|Esta história é verdadeira. |Aconteceu há pouco tempo. |Escutem só. |Foi assim. |Na cidade ainda se fala "
    "disso. |Parece mentira, mas aconteceu. |Lá vai uma história curta. |Prestem atenção. |Desta história eu "
    "gosto muito. |Não faz muito tempo que isto se passou. |Vou contar o que houve. ]"
)
_CODA = (
    "[| Fim.| Quem me contou isso foi {teller}, {scene.no}.| Foi {teller} quem contou essa história a "
    "{listener}, {scene.no}.| {teller} viu tudo e contou a {listener}.| Até hoje {teller} ri quando se lembra "
    "disso.| {teller} escreveu essa história num caderno.]"
)
_STALLS = ("praça", "parque", "estação", "feira", "rodoviária")
_SUBJECTS = (
    ("a festa da cidade", "na festa da cidade"), ("o preço do pão", "no preço do pão"), ("a chuva", "na chuva"),
    ("o jogo de domingo", "no jogo de domingo"), ("um filme antigo", "num filme antigo"), ("a viagem", "na viagem"),
    ("o novo prefeito", "no novo prefeito"), ("as férias", "nas férias"),
)  # fmt: skip


def _different(name: str, options: Sequence[Word], *others: str) -> Variable:
    '""A variable whose value is none of those that the other variables have by then.""'

    def domain(context: Context) -> Sequence[Word]:
        taken = [context.get(other) for other in others]
        return [option for option in options if all(option is not value for value in taken)]

    return Variable(name, domain)


def _number(name: str, numbers: Callable[[Context], Sequence[int]]) -> Variable:
    '""A variable over numbers, as words that agree with a noun.""'
    return Variable(name, lambda context: [vocabulary.NUMBERS[value] for value in numbers(context)])


def _variables(world: World, told: tuple[str, ...]) -> dict[str, Variable]:
    '""What a frame is filled with; the hero is someone of whom texts tell the attributes in `told`.""'
    people, heroes = world.words_of_people_with(), world.words_of_people_with(*told)
    places, hiding = vocabulary.TOWN_PLACES, vocabulary.HIDING_PLACES
    variables = [
        _different("hero", heroes, "friend", "third"),
        _different("friend", people, "hero", "third"),
        _different("third", people, "hero", "friend"),
        Variable("object", vocabulary.OBJECTS),
        Variable("hiding", hiding),
        _different("wrong", hiding, "hiding"),
        _different("wrong2", hiding, "hiding", "wrong"),
        Variable("place", places),
        _different("place2", places, "place"),
        Variable("stall", [place for place in places if place[""] in _STALLS]),
        Variable("weather", vocabulary.WEATHERS),
        Variable("fruit", vocabulary.FRUITS),
        Variable("subject", tuple({"": subject, "em": within} for subject, within in _SUBJECTS)),
        _number("n", lambda context: range(6, 13)),
        _number("m", lambda context: _parts_of(context, "rest")),
        _number("rest", lambda context: _parts_of(context, "m")),
    ]
    return {variable.name: variable for variable in variables}


def _parts_of(context: Context, other: str) -> Sequence[int]:
    '""The first part of n is free (both parts at least two, so that plurals are right), the second is what is'
    'left.""'
    whole = context["n"]["value"]
    return [whole - context[other]["value"]] if other in context else range(2, whole - 1)


def stories(world: World) -> Node:
    '""One of the frames, those left out for which a small town has no hero, with an opening and who told it.""'
    people = world.words_of_people_with()
    variables = {"teller": Variable("teller", people), "listener": _different("listener", people, "teller")}
    variables["scene"] = Variable("scene", vocabulary.TOWN_PLACES)
    frames = [
        template(text, _variables(world, told)) for told, text in FRAMES if len(world.words_of_people_with(*told)) > 0
    ]
    return Concatenation([template(_OPENING, {}), Choice(frames), template(_CODA, variables)])

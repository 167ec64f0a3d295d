"""The words of the town with their genders and contractions."""

from __future__ import annotations

from treino.corpus.world.grammar import Word

_CONTRACTIONS = {
    "o": {"um": "um", "o": "o", "do": "do", "no": "no", "ao": "ao", "pelo": "pelo", "ele": "ele", "meu": "meu"},
    "a": {"um": "uma", "o": "a", "do": "da", "no": "na", "ao": "à", "pelo": "pela", "ele": "ela", "meu": "minha"},
}


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def noun(text: str, gender: str, **more: str) -> Word:
    """A noun with its articles: "" gato, `um` um gato, `o` o gato, `do`, `no`, `ao`, `pelo`, and capitals `Um`, `O`.

    `ele` is its pronoun and `x` the letter ("o" or "a") that its adjectives end in.
    """
    words = _CONTRACTIONS[gender]
    forms = {form: f"{words[form]} {text}" for form in ("um", "o", "do", "no", "ao", "pelo", "meu")}
    forms |= {capital(form): capital(forms[form]) for form in ("um", "o", "no", "do", "meu")}
    other = f"outr{gender} {text}"
    return {"": text, "x": gender, "ele": words["ele"], "outro": other, "Ele": capital(words["ele"]), **forms, **more}


def plain(text: str, **more: str) -> Word:
    """A word or phrase of one form, `C` with a capital."""
    return {"": text, "C": capital(text), **more}


FEMALE_NAMES = (
    "Ana", "Bia", "Clara", "Dora", "Elisa", "Flora", "Gilda", "Helena", "Iara", "Joana", "Lia", "Marta", "Nina",
    "Olga", "Paula", "Rita", "Sara", "Teresa", "Vera", "Zélia", "Alice", "Beatriz", "Cecília", "Denise", "Eva",
    "Lúcia", "Júlia", "Laura", "Sônia", "Inês",
)  # fmt: skip
MALE_NAMES = (
    "Alberto", "Bruno", "Caio", "Davi", "Edu", "Fábio", "Gil", "Hugo", "Ivo", "João", "Leo", "Mário", "Nilo", "Otto",
    "Paulo", "Raul", "Saulo", "Tito", "Vítor", "Zeca", "André", "Beto", "César", "Daniel", "Enzo", "Lucas", "Jorge",
    "Pedro", "Rui", "Miguel",
)  # fmt: skip


def _trade(masculine: str, feminine: str, masculine_plural: str, task: str) -> Word:
    return {
        "": masculine, "o": masculine, "a": feminine, "um:o": f"um {masculine}", "um:a": f"uma {feminine}",
        "os:o": f"os {masculine_plural}", "os:a": f"as {feminine}s", "task": task,
    }  # fmt: skip


# Each trade has the workplace of the same position in WORKPLACES.
TRADES = (
    _trade("padeiro", "padeira", "padeiros", "assou pães e bolos"),
    _trade("professor", "professora", "professores", "corrigiu provas e cadernos"),
    _trade("médico", "médica", "médicos", "atendeu muitos doentes"),
    _trade("carpinteiro", "carpinteira", "carpinteiros", "serrou tábuas e fez uma mesa"),
    _trade("costureiro", "costureira", "costureiros", "costurou vestidos e camisas"),
    _trade("cozinheiro", "cozinheira", "cozinheiros", "preparou o almoço de muita gente"),
    _trade("bibliotecário", "bibliotecária", "bibliotecários", "arrumou os livros nas estantes"),
    _trade("veterinário", "veterinária", "veterinários", "cuidou de bichos doentes"),
    _trade("pescador", "pescadora", "pescadores", "limpou o barco e as redes"),
    _trade("farmacêutico", "farmacêutica", "farmacêuticos", "preparou remédios e xaropes"),
)
WORKPLACES = (
    noun("padaria", "a"), noun("escola", "a"), noun("hospital", "o"), noun("carpintaria", "a"), noun("ateliê", "o"),
    noun("restaurante", "o"), noun("biblioteca", "a"), noun("clínica", "a"), noun("porto", "o"), noun("farmácia", "a"),
)  # fmt: skip
STREETS = tuple(
    plain(f"Rua {name}")
    for name in (
        "das Flores", "do Sol", "da Ponte", "do Rio", "da Lua", "das Pedras", "do Moinho", "da Matriz", "dos Ipês",
        "das Laranjeiras",
    )
)  # fmt: skip
DISTRICTS = tuple(plain(name) for name in ("Centro", "Bela Vista", "Vila Nova", "São Bento", "Jardim Alto"))
PETS = (
    noun("gato", "o"), noun("cachorro", "o"), noun("papagaio", "o"), noun("coelho", "o"), noun("tartaruga", "a"),
    noun("galinha", "a"), noun("pato", "o"), noun("cabra", "a"),
)  # fmt: skip
PET_NAMES = tuple(
    plain(name)
    for name in ("Pipoca", "Fubá", "Paçoca", "Bolota", "Estrela", "Trovão", "Amora", "Tico", "Nuvem", "Faísca")
)
FOODS = (
    noun("feijoada", "a"), noun("pão de queijo", "o"), noun("bolo de fubá", "o"), noun("macarronada", "a"),
    noun("arroz-doce", "o"), noun("peixe frito", "o"), noun("sopa de legumes", "a"), noun("pizza", "a"),
    noun("moqueca", "a"), noun("pudim", "o"),
)  # fmt: skip
DRINKS = (
    noun("café", "o"), noun("chá", "o"), noun("leite", "o"), noun("suco de laranja", "o"), noun("água de coco", "a"),
    noun("chocolate quente", "o"), noun("limonada", "a"), noun("guaraná", "o"),
)  # fmt: skip
HOBBIES = tuple(
    plain(name)
    for name in (
        "pintar quadros", "tocar violão", "jogar xadrez", "nadar no lago", "cuidar do jardim", "ler romances",
        "dançar forró", "andar de bicicleta", "tirar fotografias", "cantar no coral",
    )
)  # fmt: skip
COLOURS = tuple(plain(name) for name in ("azul", "amarela", "verde", "branca", "vermelha", "cinza", "rosa", "lilás"))
DAYS = (
    *(
        noun(f"{name}-feira", "a", aos=f"às {name}s-feiras", Aos=f"Às {name}s-feiras")
        for name in ("segunda", "terça", "quarta", "quinta", "sexta")
    ),
    noun("sábado", "o", aos="aos sábados", Aos="Aos sábados"),
    noun("domingo", "o", aos="aos domingos", Aos="Aos domingos"),
)
FAMILIES = tuple(plain(name) for name in ("Silva", "Souza", "Costa", "Lima", "Rocha", "Alves", "Nunes", "Prado"))

OBJECTS = (
    noun("chave", "a"), noun("carteira", "a"), noun("caderno", "o"), noun("boneca", "a"), noun("bola", "a"),
    noun("anel", "o"), noun("guarda-chuva", "o"), noun("relógio", "o"), noun("lanterna", "a"), noun("pente", "o"),
    noun("caneta", "a"), noun("mapa", "o"),
)  # fmt: skip
HIDING_PLACES = tuple(
    plain(name)
    for name in (
        "debaixo da cama", "atrás da porta", "dentro do armário", "em cima da geladeira", "no fundo da gaveta",
        "ao lado do fogão", "embaixo do sofá", "no bolso do casaco",
    )
)  # fmt: skip
TOWN_PLACES = (
    noun("praça", "a"), noun("parque", "o"), noun("rodoviária", "a"), noun("estação", "a"), noun("cinema", "o"),
    noun("museu", "o"), noun("feira", "a"), noun("campo de futebol", "o"),
)  # fmt: skip
FRUITS = tuple(
    {"": name, "x": gender, "os": f"{gender}s {name}"}
    for name, gender in (
        ("maçãs", "a"), ("laranjas", "a"), ("bananas", "a"), ("mangas", "a"), ("peras", "a"), ("goiabas", "a"),
        ("pêssegos", "o"), ("limões", "o"), ("abacaxis", "o"), ("mamões", "o"),
    )
)  # fmt: skip
_NUMBERS = ("dois", "três", "quatro", "cinco", "seis", "sete", "oito", "nove", "dez", "onze", "doze")
NUMBERS = {
    value: {"": word, "o": word, "a": "duas" if value == 2 else word, "value": value}
    for value, word in enumerate(_NUMBERS, start=2)
}


def _weather(sky: str, clothes: str, put_away: str, consequence: str) -> Word:
    return {"": sky, "clothes": clothes, "put_away": put_away, "consequence": consequence}


WEATHERS = (
    _weather("chovia forte", "as botas e a capa de chuva", "as botas e a capa", "as ruas estavam cheias de poças"),
    _weather("fazia muito sol", "o chapéu e os óculos escuros", "o chapéu e os óculos", "o chão queimava os pés"),
    _weather("fazia muito frio", "o casaco e as luvas", "o casaco e as luvas de lã", "todos andavam encolhidos"),
    _weather("ventava muito", "o lenço e a jaqueta", "o lenço", "as folhas voavam por toda parte"),
    _weather("havia muita neblina", "o cachecol e o suéter", "o cachecol", "mal se via o outro lado da rua"),
)

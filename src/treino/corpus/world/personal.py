"""Invented personal data with right check digits, said in a sentence; and numbers that only look like some."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from treino.corpus.world.grammar import pick

Uniform = Callable[[], float]
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Said(NamedTuple):
    """A sentence, the kind of personal data in it, and the data as it stands there."""

    sentence: str
    kind: str
    value: str


def say_personal(uniform: Uniform) -> Said:
    """A sentence that holds one piece of personal data."""
    kind = pick(tuple(_PERSONAL), uniform)
    make, sentences = _PERSONAL[kind]
    value = make(uniform)
    return Said(pick(sentences, uniform).format(value), kind, value)


def say_decoy(uniform: Uniform) -> Said:
    """A sentence with a number that is nobody's; its kind is "none"."""
    value, sentence = pick(_DECOYS, uniform)(uniform)
    return Said(sentence.format(value), "none", value)


def check_digit(values: list[int], weights: list[int]) -> int:
    """Modulus 11: 11 − (Σ value · weight mod 11), 0 where that is 10 or 11; as in CPF and CNPJ."""
    rest = sum(value * weight for value, weight in zip(values, weights, strict=True)) % 11
    return 0 if rest < 2 else 11 - rest


def luhn_digit(digits: list[int]) -> int:
    """The digit that makes a card number's sum, every second digit doubled and its digits added, a multiple of ten."""
    total = sum(digit if place % 2 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits)))
    return -total % 10


def _digits(uniform: Uniform, count: int) -> list[int]:
    return [int(uniform() * 10) for _ in range(count)]


def _text(values: list[int]) -> str:
    return "".join(map(str, values))


def _cpf_digits(uniform: Uniform) -> list[int]:
    digits = [1 + int(uniform() * 9), *_digits(uniform, 7), 0, 0][:9]
    digits[8] = (digits[0] + 1) % 10  # never eleven times the same
    for _ in range(2):
        digits.append(check_digit(digits, list(range(len(digits) + 1, 1, -1))))
    return digits


def _cpf(uniform: Uniform) -> str:
    text = _text(_cpf_digits(uniform))
    return f"{text[:3]}.{text[3:6]}.{text[6:9]}-{text[9:]}" if uniform() < 0.7 else text


def _cnpj(uniform: Uniform) -> str:
    """Digits, or letters too as since 2026: a character's value is its code less that of "0"."""
    root = "".join(pick(_LETTERS, uniform) if place % 3 == 1 else str(int(uniform() * 10)) for place in range(8))
    text = (root if uniform() < 0.5 else "1" + _text(_digits(uniform, 7))) + "0001"
    for weights in ([5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2], [6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]):
        text += str(check_digit([ord(character) - ord("0") for character in text], weights))
    return f"{text[:2]}.{text[2:5]}.{text[5:8]}/{text[8:12]}-{text[12:]}"


def _email(uniform: Uniform) -> str:
    name = pick(("ana.souza", "beto_77", "c.lima", "dora+loja", "edu-reis"), uniform)
    return f"{name}@{pick(('exemplo.com.br', 'correio.example', 'vila.org.br'), uniform)}"


def _telephone(uniform: Uniform) -> str:
    area, mobile, land = pick(("11", "21", "48", "85", "92"), uniform), _digits(uniform, 8), _digits(uniform, 7)
    number = f"9{_text(mobile[:4])}-{_text(mobile[4:])}" if uniform() < 0.7 else f"3{_text(land[:3])}-{_text(land[3:])}"
    return pick(("({}) {}", "{} {}", "+55 {} {}"), uniform).format(area, number)


def _postcode(uniform: Uniform) -> str:
    return f"{1 + int(uniform() * 9)}{_text(_digits(uniform, 4))}-{_text(_digits(uniform, 3))}"


def _pix(uniform: Uniform) -> str:
    text = "".join(pick("0123456789abcdef", uniform) for _ in range(30))
    return f"{text[:8]}-{text[8:12]}-4{text[12:15]}-{pick('89ab', uniform)}{text[15:18]}-{text[18:30]}"


def _card(uniform: Uniform) -> str:
    digits = [4 + int(uniform() * 2), 1, *_digits(uniform, 13)]
    text = _text([*digits, luhn_digit(digits)])
    return " ".join(text[place : place + 4] for place in range(0, 16, 4)) if uniform() < 0.7 else text


_PERSONAL: dict[str, tuple[Callable[[Uniform], str], tuple[str, ...]]] = {
    "email": (_email, ("Escreva para {}.", "O e-mail é {}, pode mandar.")),
    "cpf": (_cpf, ("O CPF do comprador é {}.", "Anotou meu CPF: {}?")),
    "cnpj": (_cnpj, ("A loja tem o CNPJ {}.", "Empresa inscrita sob {}.")),
    "telephone": (_telephone, ("Meu telefone é {}.", "Qualquer coisa, {} ou na porta.")),
    "postcode": (_postcode, ("O CEP da rua é {}.", "Entrega só em {}.")),
    "pix": (_pix, ("A chave Pix da feira é {}.", "Paga no Pix: {}.")),
    "card": (_card, ("Passou o cartão {}.", "O número {} estava no bilhete.")),
}


def _wrong_cpf(uniform: Uniform) -> tuple[str, str]:
    digits = _cpf_digits(uniform)
    digits[10] = (digits[10] + 1 + int(uniform() * 8)) % 10
    return _text(digits), "O pedido {} chegou."


def _wrong_card(uniform: Uniform) -> tuple[str, str]:
    digits = [4, *_digits(uniform, 14)]
    return _text([*digits, (luhn_digit(digits) + 1 + int(uniform() * 8)) % 10]), "O código de barras {} não passou."


def _years(uniform: Uniform) -> tuple[str, str]:
    start = 1900 + int(uniform() * 100)
    return f"{start}-{start + 5}", "A casa foi feita em {}."


def _amount(uniform: Uniform) -> tuple[str, str]:
    text = _text([1 + int(uniform() * 9), *_digits(uniform, 9)])
    return f"{text[0]}.{text[1:4]}.{text[4:7]},{text[7:9]}", "A ponte custou R$ {}."


def _law(uniform: Uniform) -> tuple[str, str]:
    text = _text([1 + int(uniform() * 9), *_digits(uniform, 5)])
    return f"{text[0]}.{text[1:4]}-{text[4]}", "Vale a lei nº {}, de 13/07/1990."


def _process(uniform: Uniform) -> tuple[str, str]:
    text = _text(_digits(uniform, 13))
    return f"{text[:7]}-{text[7:9]}.2019.8.26.{text[9:13]}", "O processo {} foi arquivado."


def _program_key(uniform: Uniform) -> tuple[str, str]:
    return _pix(uniform), "O arquivo {} foi apagado."


_DECOYS = (_wrong_cpf, _wrong_card, _years, _amount, _law, _process, _program_key)

"""Personal data in Brazilian texts, found by form and proved by check digit where there is one.

Eleven digits alone are no CPF: their two check digits must be right. A number without check digits (telephone, CEP) must be
written as people write it, or stand behind the word that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from treino.corpus.filters.outcome import Note, Verdict, carry_out
from treino.corpus.shards import Outcome

MASKS = {
    "email": "[e-mail]",
    "cpf": "[CPF]",
    "cnpj": "[CNPJ]",
    "telephone": "[telefone]",
    "postcode": "[CEP]",
    "pix": "[chave Pix]",
    "card": "[cartão]",
}
"""What stands in a text in place of each kind: the thing's name, as people say it, so that the sentence still reads."""

AREA_CODES = frozenset(
    str(code)
    for code in range(11, 100)
    if code % 10 and code not in (23, 25, 26, 29, 36, 39, 52, 56, 57, 58, 59, 72, 76, 78)
)
"""The area codes (DDD) in use, Anatel's numbering plan."""

NEAR = 40
"""Characters before a number in which the word that names it may stand."""

_SIGNS = re.compile(r"@|\d[\d.\-/ ()]{5,}\d|/[0-9A-Za-z]{4}-?\d\d|-4[0-9A-Fa-f]{3}-|[Cc][Nn][Pp][Jj]")
"""What every text with personal data has: most texts are done with after one look."""

_BEFORE, _AFTER = r"(?<![\w.,/-])", r"(?![\w/-]|[.,]\d)"
_TELEPHONE_WORDS = re.compile(
    r"\b(?:tel\b|telefones?|fones?\b|cel\b|celular|whats|zap|liga(?:r|do)?\b|ligue|disque|sms\b|contatos?\b)", re.I
)
_POSTCODE_WORDS = re.compile(r"\bcep\b", re.I)
_CNPJ_WORDS = re.compile(r"\bcnpj\b", re.I)
_PIX_WORDS = re.compile(r"\bpix\b|\bchave", re.I)


class Finding(NamedTuple):
    """Where something personal stands in a text, and what it is."""

    start: int
    end: int
    kind: str


class Form(NamedTuple):
    """How a kind of personal data is written, and whether what is written so is one, by it and the text before it; `sign`:
    what a text with any of it has, and is found quicker.
    """

    kind: str
    pattern: re.Pattern[str]
    proof: Callable[[re.Match[str], str], bool]
    sign: re.Pattern[str] | None = None


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


@lru_cache(maxsize=1)
def _validators() -> tuple[Any, Any]:
    from validate_docbr import CNPJ, CPF

    return CPF(), CNPJ()


def _is_cpf(found: re.Match[str], before: str) -> bool:
    return _validators()[0].validate(_digits(found[0]))


def _is_cnpj(found: re.Match[str], before: str) -> bool:
    plain = re.sub(r"[./\s-]", "", found[0]).upper()
    written = "/" in found[0] or plain.isdigit() or _CNPJ_WORDS.search(before)
    return bool(written) and _validators()[1].validate(plain)


def _is_telephone(found: re.Match[str], before: str) -> bool:
    """A number of the plan: area code in use, nine digits that begin with 9 or eight that begin with 2 to 5.

    Written with brackets, a hyphen behind the area code or +55, or behind a word that names it.
    """
    area, number = found["area"], _digits(found["number"])
    if not (re.fullmatch(r"9\d{8}|[2-5]\d{7}", number) and (area is None or area in AREA_CODES)):
        return False
    named = _TELEPHONE_WORDS.search(before) is not None
    shaped = re.search(r"\D", found["number"]) is not None
    return named or (area is not None and (shaped or found["country"] is not None or "(" in found[0]))


def _is_postcode(found: re.Match[str], before: str) -> bool:
    """Five digits, hyphen, three; without the hyphen only behind "CEP". None begins with 00."""
    return not found[0].startswith("00") and ("-" in found[0] or _POSTCODE_WORDS.search(before) is not None)


def _is_pix(found: re.Match[str], before: str) -> bool:
    """A random key is a UUID of version 4; one that is not called a key is an identifier of some program."""
    return _PIX_WORDS.search(before) is not None


def _is_card(found: re.Match[str], before: str) -> bool:
    """Luhn's check digit (ISO/IEC 7812-1) over a number of a card network's length."""
    digits = [int(digit) for digit in _digits(found[0])]
    if not 13 <= len(digits) <= 19 or len(set(digits)) == 1:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


FORMS = (
    Form(
        "email",
        re.compile(
            r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b"
        ),
        lambda found, before: True,
        re.compile("@"),
    ),
    Form(
        "pix",
        re.compile(r"(?<![\w-])[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}(?![\w-])", re.I),
        _is_pix,
        re.compile("-4[0-9A-Fa-f]{3}-"),
    ),
    Form(
        "cnpj",
        re.compile(
            rf"{_BEFORE}[0-9A-Z]{{2}}\.?[0-9A-Z]{{3}}\.?[0-9A-Z]{{3}}\s?/?\s?[0-9A-Z]{{4}}\s?-?\s?\d{{2}}{_AFTER}", re.I
        ),
        _is_cnpj,
        re.compile(r"/\s?[0-9A-Za-z]{4}\s?-?\s?\d\d|\d{11}|[Cc][Nn][Pp][Jj]"),
    ),
    Form("cpf", re.compile(rf"{_BEFORE}\d{{3}}[. ]?\d{{3}}[. ]?\d{{3}}[- ]?\d{{2}}{_AFTER}"), _is_cpf),
    Form(
        "card",
        re.compile(
            rf"{_BEFORE}(?:[4-6]\d{{3}}|2[2-7]\d\d)(?:[ -]?\d{{4}}){{2}}[ -]?\d{{1,7}}{_AFTER}"
            rf"|{_BEFORE}3[47]\d\d[ -]?\d{{6}}[ -]?\d{{5}}{_AFTER}|{_BEFORE}3[068]\d\d[ -]?\d{{6}}[ -]?\d{{4}}{_AFTER}"
        ),
        _is_card,
    ),
    Form(
        "telephone",
        re.compile(
            _BEFORE
            + r"(?P<country>\+?55[ -]?)?(?:\(?0?(?P<area>[1-9]\d)\)?[ -]?)?"
            + r"(?P<number>9[ .]?\d{4}[ .-]?\d{4}|[2-5]\d{3}[ .-]?\d{4})"
            + _AFTER
        ),
        _is_telephone,
    ),
    Form("postcode", re.compile(rf"{_BEFORE}\d{{2}}\.?\d{{3}}-\d{{3}}{_AFTER}|{_BEFORE}\d{{8}}{_AFTER}"), _is_postcode),
)
"""In the order in which they are looked for: what an earlier one has found, a later one does not see."""


def find(text: str) -> list[Finding]:
    """Everything personal in a text, in order of place, none overlapping."""
    if not _SIGNS.search(text):
        return []
    found: list[Finding] = []
    for form in FORMS:
        if form.sign and not form.sign.search(text):
            continue
        for match in form.pattern.finditer(text):
            start, end = match.span()
            if all(end <= other.start or start >= other.end for other in found) and form.proof(
                match, text[max(0, start - NEAR) : start]
            ):
                found.append(Finding(start, end, form.kind))
    return sorted(found)


def mask(text: str, found: list[Finding]) -> str:
    """The text with the name of its kind in place of everything found."""
    return "".join(_pieces(text, found))


def _pieces(text: str, found: list[Finding]) -> Iterator[str]:
    done = 0
    for finding in found:
        yield text[done : finding.start]
        yield MASKS[finding.kind]
        done = finding.end
    yield text[done:]


@dataclass(frozen=True)
class PersonalData:
    """The step: personal data masked, or documents that hold any dropped.

    The record tells the kinds and their number, and no excerpt of the text before: it would be personal data, too.
    """

    action: Literal["mask", "drop"] = "mask"
    name: str = "personal_data"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        verdicts = [self._verdict(text) for text in rows["text"].to_pylist()]
        outcome = carry_out(rows, verdicts)
        for row in outcome.record:
            row["before"] = ""
        return outcome

    def _verdict(self, text: str) -> Verdict:
        found = find(text)
        if not found:
            return Verdict(text)
        kinds = [finding.kind for finding in found]
        notes = [Note(f"personal_{kind}", str(kinds.count(kind))) for kind in dict.fromkeys(kinds)]
        return Verdict(mask(text, found) if self.action == "mask" else None, notes)

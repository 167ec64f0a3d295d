"""The clean stage: small rules in a fixed order, each a pure function from text to text, with an account of what they did."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ftfy
import pyarrow as pa

from treino.corpus.boilerplate import Boilerplate, repeated_lines
from treino.corpus.documents import removed_row
from treino.corpus.shards import Outcome, Step, apply, with_texts
from treino.corpus.unwrap import unwrap
from treino.errors import NothingLeft
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import CleanSettings

FTFY = ftfy.TextFixerConfig(
    uncurl_quotes=False,
    fix_latin_ligatures=False,
    fix_character_width=False,
    unescape_html=True,
    remove_terminal_escapes=False,
    remove_control_chars=False,
    fix_line_breaks=False,
    fix_surrogates=True,
    normalization="NFC",
    explain=False,
)
# What is invisible and means nothing in running text: controls, soft hyphen, zero-width marks, direction marks, BOM.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffe]"
)
MOST_ROUNDS = 8
# A single space is left out: it need not become one.
_SPACES = re.compile(r"[^\S\n ][^\S\n]*| [^\S\n]+")
_BLANK_LINES = re.compile(r"\n{3,}")
_LOWER, _OTHERS = "áàâãäéèêëíìîïóòôõöúùûüçñ", "ÁÀÂÃÄÉÈÊËÍÌÎÏÓÒÔÕÖÚÙÛÜÇÑºª°–—“”‘’«»…•§"
# What ftfy may want to mend: characters that are rare in Portuguese, or usual ones side by side as misread bytes are.
# It begins with the one class that all have in common, for that is looked for an order of magnitude faster.
_SUSPICIOUS = re.compile(
    rf"[^\x00-%'-\x7f](?:(?<=[^\x00-%'-\x7f{_LOWER}{_OTHERS}])|(?<=[ÃÂâï])[^\na-zA-Z]"
    rf"|(?<=[{_OTHERS}])[^\x00-\x7f]|(?<=[{_LOWER}])[^\x00-\x7f{_LOWER}])"
)


def normal_form(text: str) -> str:
    """NFC: a letter and its accent as one character, for "á" in two forms would be two words."""
    return unicodedata.normalize("NFC", text)


def fix_encoding(text: str) -> str:
    """NFC, and text mended that was decoded with the wrong table ("nÃ£o" → "não"); HTML entities become characters."""
    text = normal_form(text)
    if not _SUSPICIOUS.search(text):
        return text
    lines = text.split("\n")  # ftfy, too, works line by line, but may take a line's end for part of a broken character
    return "\n".join(ftfy.fix_text(line, FTFY) if _SUSPICIOUS.search(line) else line for line in lines)


def controls(text: str) -> str:
    """Line ends become \\n, form feeds a paragraph's end; other control and zero-width characters go."""
    if text.replace("\n", "").isprintable():  # none of those is
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x85", "\n").replace("\x0c", "\n\n")
    return _CONTROLS.sub("", text.replace("\u2028", "\n").replace("\u2029", "\n\n"))


def white_space(text: str) -> str:
    """Runs of spaces become one, lines lose their ends, more than one blank line becomes one."""
    if "  " in text or not text.replace("\n", "").isprintable():
        text = _SPACES.sub(" ", text)
    lines = [line.strip() for line in text.split("\n")]
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()


def rules(settings: CleanSettings) -> dict[str, Callable[[str], str]]:
    """The rules in force, by name, in order."""
    chosen: dict[str, Callable[[str], str]] = {"normal_form": normal_form}
    if settings.fix_encoding:
        chosen["fix_encoding"] = fix_encoding
    chosen |= {"controls": controls, "white_space": white_space}
    if settings.unwrap:
        chosen["unwrap"] = unwrap
    return chosen


def clean_text(text: str, settings: CleanSettings) -> tuple[str, list[str]]:
    """The cleaned text, and the names of the rules that changed it.

    The rules are gone through until nothing changes: one may bring to light what an earlier one mends.
    """
    changed: dict[str, None] = {}
    for _ in range(MOST_ROUNDS):
        before = text
        for name, rule in rules(settings).items():
            after = rule(text)
            if after != text:
                changed[name] = None
            text = after
        if text == before:
            break
    return text, list(changed)


@dataclass(frozen=True)
class Clean:
    """The step: texts cleaned, those too short removed; every change is recorded with the rules and an excerpt."""

    settings: CleanSettings
    name: str = "clean"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        texts: list[str | None] = []
        outcome = Outcome(rows)
        for number, source, before in zip(*(rows[name].to_pylist() for name in ("id", "source", "text")), strict=True):
            document = {"id": number, "source": source, "text": before}
            text, names = clean_text(before, self.settings)
            if len(text) < max(1, self.settings.minimum_characters):
                texts.append(None)
                outcome.record.append(removed_row(document, "too_short", str(len(text))))
                continue
            texts.append(text)
            outcome.counts.update(names)
            if names:
                outcome.record.append(removed_row(document, "changed", ", ".join(names), text))
        return replace(outcome, rows=with_texts(rows, texts))


def clean(settings: CleanSettings, documents: Path, output: Path) -> dict[str, Any]:
    """Clean both parts of a documents folder."""
    steps: list[Step] = [Clean(settings)]
    if settings.boilerplate != "none":  # first, for unwrapping would join a menu's lines
        steps.insert(0, Boilerplate(repeated_lines(documents, settings.boilerplate), settings.boilerplate))
    facts = apply(steps, documents, output, "clean")
    if facts["documents_out"] == facts["held_out_documents"]:
        raise NothingLeft(
            N_("no text is left after cleaning: {count} documents were removed"),
            fix=N_("lower clean.minimum_characters (now {minimum:raw}), or give longer texts"),
            count=facts["documents_in"],
            minimum=settings.minimum_characters,
        )
    return facts

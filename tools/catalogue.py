"""Collect every sentence of the package (and of click) into the pt_BR catalogue, and compile it.

`python tools/catalogue.py` updates `src/treino/locale/pt_BR/LC_MESSAGES/treino.po` (new sentences come in untranslated,
sentences that are gone go) and writes `treino.mo` beside it. Line numbers are left out, so that the file changes only
when sentences do.
"""

from __future__ import annotations

import ast
import datetime
import io
from collections.abc import Iterator
from pathlib import Path

import click
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "treino"
FOLDER = PACKAGE / "locale" / "pt_BR" / "LC_MESSAGES"
PO, MO = FOLDER / "treino.po", FOLDER / "treino.mo"
KEYWORDS = {"N_": 1, "_": 1, "ngettext": 2}
"""Functions that mark a sentence, and how many of their arguments are sentences."""
COMPUTED = {"click/core.py": ["required"]}
"""Sentences that click looks up through a variable, where the source does not show them."""

# The header names no date of its own: the file changes only when sentences do.
HEADER = {
    "locale": "pt_BR",
    "project": "treino",
    "version": "1",
    "copyright_holder": "The Treino developers",
    "msgid_bugs_address": "the issue tracker",
    "last_translator": "The Treino developers",
    "language_team": "The Treino developers",
    "charset": "utf-8",
    "fuzzy": False,
    "header_comment": "# Treino in Brazilian Portuguese; see tools/catalogue.py.",
    "creation_date": datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC),
    "revision_date": datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC),
}


def template() -> Catalog:
    """All message ids of the package and of click, in the order of their files."""
    catalogue = Catalog(**HEADER)
    for folder in (PACKAGE, Path(click.__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            for message in sentences(ast.parse(path.read_text(encoding="utf-8"))):
                catalogue.add(message, locations=[(f"{folder.name}/{path.relative_to(folder).as_posix()}", 0)])
    for place, messages in COMPUTED.items():
        for message in messages:
            catalogue.add(message, locations=[(place, 0)])
    return catalogue


def sentences(tree: ast.AST) -> Iterator[str | tuple[str, ...]]:
    """Every sentence that a file marks; a pair for singular and plural.

    Read from the syntax tree, because a reader of tokens misses what is marked inside an f-string (before Python 3.12)
    and takes the key in `_(TEXTS["key"])` for a sentence.
    """
    for node in ast.walk(tree):
        count = KEYWORDS.get(node.func.id) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
        if not count:
            continue
        texts = [argument.value for argument in node.args[:count] if isinstance(argument, ast.Constant)]
        if len(texts) == count and all(texts):
            yield texts[0] if count == 1 else tuple(texts)


def translations() -> Catalog:
    """The catalogue as it stands in the repository."""
    if not PO.exists():
        return Catalog(**HEADER)
    with open(PO, "rb") as file:
        return read_po(file, locale="pt_BR")


def updated() -> Catalog:
    """Today's message ids with the translations that are there already."""
    old, new = translations(), template()
    for message in new:
        known = old.get(message.id[0] if isinstance(message.id, tuple) else message.id)
        if message.id and known and known.string:
            message.string = known.string
    return new


def compiled(catalogue: Catalog) -> bytes:
    """The catalogue in the binary form that gettext reads."""
    buffer = io.BytesIO()
    write_mo(buffer, catalogue)
    return buffer.getvalue()


def main() -> None:
    catalogue = updated()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(PO, "wb") as file:
        write_po(file, catalogue, width=120, sort_output=True, omit_header=False, include_lineno=False)
    MO.write_bytes(compiled(catalogue))
    missing = sum(1 for message in catalogue if message.id and not message.string)
    print(f"{len(catalogue)} sentences, {missing} without translation: {PO.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

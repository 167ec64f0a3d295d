"""Wikitext to text: what is written for readers stays; templates, tables, files, categories, notes and marks go.

Every step is one pass over the text, so that no page, however broken, takes long.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator

FILES = {"file", "image", "ficheiro", "imagem", "arquivo", "media", "multimédia", "multimídia"}
CATEGORIES = {"category", "categoria"}
LANGUAGE = re.compile(r"(?:[a-z]{2,3}|simple|tokipona)(?:-[a-z-]+)?")
DROPPED_ELEMENTS = (
    "ref|references|math|chem|ce|gallery|timeline|score|syntaxhighlight|source|table|imagemap|hiero|graph|mapframe|maplink|"
    "templatestyles|indicator|inputbox|categorytree|includeonly"
)
DROPPED_SECTIONS = {
    "referências", "referência", "notas", "notas e referências", "notas de rodapé", "fontes", "ver também", "veja também",
    "ligações externas", "ligação externa", "bibliografia", "leitura adicional", "leituras adicionais", "galeria",
    "references", "notes", "notes and references", "footnotes", "citations", "sources", "see also", "external links",
    "external link", "bibliography", "further reading", "gallery", "works cited",
}  # fmt: skip

_NOWIKI = re.compile(r"<nowiki>([^<]*)</nowiki>", re.IGNORECASE)
_OPENING = re.compile(rf"<({DROPPED_ELEMENTS})\b[^<>]*>", re.IGNORECASE)
_BREAK = re.compile(r"<(?:br|/?p|/?div|/?blockquote|/?poem|/?li|/?center)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_BRACKET = re.compile(r"^[ \t:*]*\{\||^[ \t]*\|\}(?!\})|\{\{|\}\}|\[\[(?!\[)|\]\](?!\])", re.MULTILINE)
_PLAIN_LINK = re.compile(r"\[\[(?:[^\[\]|{}:\n]*\|)?([^\[\]|{}:\n]+)\]\]")
_CLOSES = {"}}": "{{", "|}": "{|", "]]": "[["}
_OUTER_LINK = re.compile(r"\[(?:https?:|ftp:|mailto:|//)[^\s\[\]]{0,2000}(?:[ \t]([^\[\]\n]{0,2000}))?\]")
_QUOTES = re.compile(r"'{2,5}")
_MAGIC = re.compile(r"__[^\W_]{3,30}__")
_HOLLOW = re.compile(r"\((?:[ \t,;:/–-]|&nbsp;)*\)")
_HOLLOW_START = re.compile(r"\((?:[ \t]*[,;:])+[ \t]*")
_HOLLOW_END = re.compile(r"(?<![ \t,;:])[ \t,;:]+\)")
_BEFORE_SIGN = re.compile(r"(?<![ \t])[ \t]+(?=[,.;:)](?:[\s,.;:)]|$))", re.MULTILINE)
_REDIRECT = re.compile(r"\s*#\s*(?:redirect|redirecionamento)\b", re.IGNORECASE)


def is_redirect(wikitext: str) -> bool:
    """Whether a page only points to another one."""
    return _REDIRECT.match(wikitext) is not None


def plain(wikitext: str) -> str:
    """What a reader of the page reads, a paragraph, heading or item a line."""
    text = _NOWIKI.sub(lambda found: _guarded(found[1]), _without_comments(wikitext))
    text = _PLAIN_LINK.sub(r"\1", _without_elements(text))  # most of them, and many times faster
    text = _TAG.sub("", _BREAK.sub("\n", resolve_brackets(text)))
    text = _OUTER_LINK.sub(lambda found: found[1] or "", text)
    text = _MAGIC.sub("", _QUOTES.sub("", text))
    text = _HOLLOW_END.sub(")", _HOLLOW_START.sub("(", _HOLLOW.sub("", text)))
    text = "\n".join(_sections(text.split("\n")))
    return _BEFORE_SIGN.sub("", html.unescape(text)).strip()


def _guarded(text: str) -> str:
    """Text that stands for itself, its brackets and quotes spelt so that no later step takes them for marks."""
    return re.sub(r"[\[\]{}'|=*#:;<>]", lambda found: f"&#{ord(found[0])};", text)


def _without_comments(text: str) -> str:
    parts, position = [], 0
    while (start := text.find("<!--", position)) >= 0:
        parts.append(text[position:start])
        end = text.find("-->", start)
        position = len(text) if end < 0 else end + 3
    return "".join([*parts, text[position:]])


def _without_elements(text: str) -> str:
    """Elements without text for readers removed, from their opening to the next closing tag of that name."""
    parts, position = [], 0
    unclosed: set[str] = set()
    for opening in _OPENING.finditer(text):
        name = opening[1].lower()
        if opening.start() < position:
            continue
        parts.append(text[position : opening.start()])
        position = opening.end()
        if opening[0].endswith("/>") or name in unclosed:
            continue
        closing = re.compile(rf"</{name}\s*>", re.IGNORECASE).search(text, position)
        if closing:
            position = closing.end()
        else:
            unclosed.add(name)
    return "".join([*parts, text[position:]])


def resolve_brackets(text: str) -> str:
    """Links become their text, templates and tables what they say in running text, mostly nothing.

    A bracket that is never closed loses only itself: one that closes ends the nearest of its sort that is open, and what
    was opened since is text. (The rows of an open table or template go later, for their lines begin with a bar.)
    """
    stack: list[tuple[str, list[str]]] = [("", [])]
    position = 0
    for bracket in _BRACKET.finditer(text):
        stack[-1][1].append(text[position : bracket.start()])
        position, mark = bracket.end(), bracket[0].strip(" \t:*")
        if mark not in _CLOSES:
            stack.append((mark, []))
            continue
        if not any(opened == _CLOSES[mark] for opened, _ in stack[-8:]):
            continue
        while stack[-1][0] != _CLOSES[mark]:
            opened, parts = stack.pop()
            stack[-1][1].extend([_left_open(opened), *parts])
        opened, parts = stack.pop()
        stack[-1][1].append(_MEANING[opened]("".join(parts)))
    stack[-1][1].append(text[position:])
    return "".join("".join([_left_open(opened), *parts]) for opened, parts in stack)


def _left_open(mark: str) -> str:
    """What stays of a bracket that is never closed: of a table its mark, by which its first line goes."""
    return mark if mark == "{|" else ""


def _link(content: str) -> str:
    target, *labels = content.split("|")
    prefix, colon, name = target.strip().partition(":")
    namespace = prefix.strip().lower()
    if colon and prefix and (namespace in FILES or namespace in CATEGORIES):
        return ""
    if colon and prefix and not labels and LANGUAGE.fullmatch(namespace):
        return ""
    if labels:
        return labels[-1] or re.sub(r"\s*\([^()]*\)$", "", name if colon else target)
    return target.strip().removeprefix(":")


def _template(content: str) -> str:
    """What a template within a sentence says; a hole in the sentence for those that are not known."""
    name, *arguments = content.split("|")
    name = name.strip().lower().replace("_", " ")
    if name.startswith("formatnum:"):
        return name.partition(":")[2]
    plain = [argument.strip() for argument in arguments if not re.match(r"\s*[^\W\d]\w*\s*=", argument)]
    plain = [re.sub(r"^\d\s*=\s*", "", argument) for argument in plain]
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    speak = _TEMPLATES.get(name) or (_last if name.startswith(("lang-", "langx")) else None)
    if speak is _first and not plain:
        plain = [value.strip() for key, value in named.items() if key.strip().lower() in ("texto", "text", "quote")]
    return speak(plain) if speak and (plain or speak in _SIGNS) else ""


def _first(arguments: list[str]) -> str:
    return arguments[0]


def _last(arguments: list[str]) -> str:
    return arguments[-1]


def _measure(arguments: list[str]) -> str:
    return " ".join(arguments[:2])


def _circa(arguments: list[str]) -> str:
    return f"c. {arguments[0]}"


def _sign(character: str) -> Callable[[list[str]], str]:
    return lambda _arguments: character


_NAMED_SIGNS = {
    "nbsp": "\xa0",
    "spaces": " ",
    "snd": " – ",
    "spaced ndash": " – ",
    "ndash": "–",
    "mdash": "—",
    "'": "'",
    "!": "|",
}
_SPOKEN = {name: _sign(sign) for name, sign in _NAMED_SIGNS.items()}
_SIGNS = set(_SPOKEN.values())
_TEMPLATES: dict[str, Callable[[list[str]], str]] = {
    **dict.fromkeys(("lang", "língua", "transl", "transliteration", "langx"), _last),
    **dict.fromkeys(
        (
            "nowrap", "nobr", "small", "big", "em", "strong", "smallcaps", "versalete", "abbr", "abreviação", "tooltip",
            "dica", "fmtn", "val", "nts", "formatnum", "pbpe", "pepb", "quote", "blockquote", "cquote", "citação",
            "citação2", "quote box", "ill", "ilc", "nihongo", "ruby", "sub", "sup", "not a typo", "sic", "as of", "poema",
            "poemquote", "verse translation",
        ),
        _first,
    ),
    **dict.fromkeys(("convert", "cvt", "converter"), _measure),
    **dict.fromkeys(("circa", "c."), _circa),
    **_SPOKEN,
}  # fmt: skip
_MEANING: dict[str, Callable[[str], str]] = {"[[": _link, "{{": _template, "{|": lambda _content: ""}


def _sections(lines: list[str]) -> Iterator[str]:
    """Lines without marks of lists and headings; sections of references and links, and headings over nothing, left out."""
    waiting: list[tuple[int, str]] = []  # headings whose text has not come yet
    dropped = 0
    for line in map(str.strip, lines):
        depth = _heading_depth(line)
        if depth:
            title = line.strip("= \t")
            if dropped and depth > dropped:
                continue
            dropped = depth if title.lower() in DROPPED_SECTIONS else 0
            waiting = [item for item in waiting if item[0] < depth]
            if not dropped and title:
                waiting.append((depth, title))
            continue
        if dropped or line.startswith(("|", "!", "{|", "----")):
            continue
        content = line.lstrip("*#:; ")
        if content:
            yield from (f"\n{title}\n" for _, title in waiting)
            waiting = []
        yield content


def _heading_depth(line: str) -> int:
    if len(line) < 3 or not (line.startswith("=") and line.endswith("=")) or len(line) > 500:
        return 0
    return min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6)

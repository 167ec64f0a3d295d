"""The skeleton of the report: one HTML file that asks for nothing from outside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from treino.messages import N_
from treino.report.writer import Writer

STYLE = Path(__file__).with_name("style.css")

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""What a browser may load for the page: nothing. Even a string that slipped through could not call home."""


@dataclass(frozen=True)
class Section:
    """A part of the page; `title` and `body` are HTML already, `anchor` is unique on the page."""

    anchor: str
    title: str
    body: str


def page(writer: Writer, title: str, header: str, sections: Iterable[Section]) -> str:
    """The whole document; `title` and `header` are HTML already. Sections without a body are left out."""
    shown = [section for section in sections if section.body]
    links = "".join(f'<li><a href="#{section.anchor}">{section.title}</a></li>' for section in shown)
    parts = "\n".join(
        f'<section id="{section.anchor}" aria-labelledby="{section.anchor}-title">'
        f'<h2 id="{section.anchor}-title">{section.title}</h2>\n{section.body}\n</section>'
        for section in shown
    )
    return f"""<!doctype html>
<html lang="{writer.language.replace("_", "-")}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="Treino">
<title>{title}</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
{header}
<nav aria-label="{writer.say(N_("Contents"))}"><ul>{links}</ul></nav>
<main>
{parts}
</main>
</body>
</html>
"""

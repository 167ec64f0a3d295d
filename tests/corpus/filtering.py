"""What the tests of the filters share: rows of documents, and pages put together from what the town tells."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pyarrow as pa

from treino.corpus.documents import DOCUMENTS, content_hash
from treino.corpus.world.documents import generate_document
from treino.corpus.world.facts import World
from treino.recipe import WorldSettings

TOWN = World.build(WorldSettings(), 11)


def rows_of(
    texts: Sequence[str], kind: str = "web", language: str = "pt", sources: Sequence[str] | None = None
) -> pa.RecordBatch:
    """Documents with these texts; ids in order."""
    rows = [
        {
            "id": f"{number:06d}",
            "text": text,
            "source": sources[number] if sources else f"site/{number}.html",
            "content_hash": content_hash(text),
            "language": language,
            "licence": "",
            "weight": 1.0,
            "meta": json.dumps({"kind": kind} if kind else {}),
        }
        for number, text in enumerate(texts)
    ]
    return pa.RecordBatch.from_pylist(rows, DOCUMENTS)


def page(number: int, paragraphs: int = 4) -> str:
    """A page of paragraphs, each of a few different documents of the town that tell in whole sentences."""
    chosen: list[str] = []
    index = number * 1000
    while len(chosen) < 4 * paragraphs:
        document = generate_document(TOWN, index)
        index += 1
        if document.kind in ("portrait", "story", "town", "mood"):
            chosen.append(" ".join(document.text.split()))
    return "\n\n".join(" ".join(chosen[place : place + 4]) for place in range(0, len(chosen), 4))


def damaged_page(number: int) -> str:
    """A page with something wrong with it, or not: what is decided by chance."""
    draw = random.Random(number)
    text = page(number, draw.choice([1, 3, 5]))
    lines = text.split("\n\n")
    damages = [
        lambda: text,
        lambda: text + "\n" + "\n".join(["Clique aqui"] * draw.randrange(1, 40)),
        lambda: "\n".join(draw.choices(lines, k=draw.randrange(2, 12))),
        lambda: text + " " + " ".join(["compre já o melhor sofá da cidade"] * draw.randrange(1, 30)),
        lambda: "\n".join(text.split()[: draw.randrange(10, 400)]),
        lambda: text.replace(" ", " # ", draw.randrange(0, 200)),
        lambda: text.replace(".", "...", draw.randrange(0, 200)),
        lambda: text + " " + " ".join(str(draw.randrange(10**6)) for _ in range(draw.randrange(0, 200))),
        lambda: "\n".join(f"• {line}" for line in lines) + "\n" + "\n".join(["• item"] * draw.randrange(0, 3)),
        lambda: text + draw.choice([" { return; }", " Lorem ipsum dolor sit amet.", ""]),
        lambda: " ".join(text.replace(".", "").split()[: draw.randrange(30, 120)]),
        lambda: " ".join(word[:2] for word in text.split()),
        lambda: "".join(text.split()) + " " + text,
        lambda: " ".join(word for word in text.split() if len(word) > 4),
    ]
    return damages[number % len(damages)]()

"""Boilerplate: lines that many pages of one site share, such as menus and notices; one counting pass, then a step."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from treino import events
from treino.corpus.documents import PARTS, read_documents
from treino.corpus.filters.outcome import Note, Verdict, carry_out, is_page
from treino.corpus.shards import Outcome
from treino.messages import N_

FEWEST, SHARE, ALWAYS = 10, 0.1, 200
"""A line is boilerplate in a site where at least `FEWEST` documents hold it, and `SHARE` of the site's or `ALWAYS`."""

MOST = 0.6
"""Share of a document's characters in such lines beyond which it is a copy of others, not a page with a menu: it stays
whole, for deduplication to judge.
"""

_BUCKETS = 1 << 24
_Site = str


def site_of(source: str, meta: str) -> _Site:
    """What a page shares its menus with: the host of its address, else the folder of its file."""
    address = json.loads(meta).get("url", "") if '"url"' in meta else source
    return urlsplit(address).netloc or source.rpartition("/")[0]


def repeated_lines(documents: Path, scope: Literal["web", "all"]) -> dict[_Site, frozenset[str]]:
    """The boilerplate lines of each site, over both parts. Equal documents count once.

    Two passes, for the lines of a large corpus do not fit into memory: the first counts hashes of lines in a table of fixed
    size, which may count too much but never too little; the second counts exactly the lines that may be frequent enough.
    """
    rough = np.zeros(_BUCKETS, np.uint32)
    sizes: Counter[_Site] = Counter()
    for site, lines in _pages(documents, scope):
        sizes[site] += 1
        np.add.at(rough, [_bucket(site, line) for line in lines], 1)
    least = {site: max(FEWEST, min(SHARE * size, ALWAYS)) for site, size in sizes.items() if size >= FEWEST}
    if not least:
        return {}
    exact: defaultdict[_Site, Counter[str]] = defaultdict(Counter)
    for site, lines in _pages(documents, scope):
        if site in least:
            exact[site].update(line for line in lines if rough[_bucket(site, line)] >= least[site])
    found = {
        site: frozenset(line for line, count in counts.items() if count >= least[site])
        for site, counts in exact.items()
    }
    return {site: lines for site, lines in found.items() if lines}


def _pages(documents: Path, scope: Literal["web", "all"]) -> Iterator[tuple[_Site, set[str]]]:
    """(site, its distinct lines) of every document in the scope, the first of each group of equal ones."""
    seen: set[int] = set()
    for part in PARTS:
        for batch in read_documents(documents, part, ["text", "source", "meta", "content_hash"]):
            events.progress("clean", len(seen), None, N_("documents"))
            rows = (batch[name].to_pylist() for name in ("text", "source", "meta", "content_hash"))
            for text, source, meta, content in zip(*rows, strict=True):
                key = int(content[:16], 16)
                if key not in seen and (scope == "all" or is_page(meta)):
                    seen.add(key)
                    yield site_of(source, meta), {line for line in map(str.strip, text.split("\n")) if line}


def _bucket(site: _Site, line: str) -> int:
    return zlib.crc32(f"{site}\n{line}".encode("utf-8", "surrogatepass")) % _BUCKETS


@dataclass(frozen=True)
class Boilerplate:
    """The step: the boilerplate lines of a document's site taken out of it."""

    lines: Mapping[_Site, frozenset[str]]
    scope: Literal["web", "all"] = "web"
    name: str = "boilerplate"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        columns = (rows[name].to_pylist() for name in ("text", "source", "meta"))
        return carry_out(rows, [self._verdict(*row) for row in zip(*columns, strict=True)])

    def _verdict(self, text: str, source: str, meta: str) -> Verdict:
        known = self.lines.get(site_of(source, meta)) if self.scope == "all" or is_page(meta) else None
        if not known:
            return Verdict(text)
        lines = text.split("\n")
        gone = [line for line in lines if line.strip() in known]
        share = sum(map(len, gone)) / max(1, sum(map(len, lines)))
        if not gone or share > MOST:
            return Verdict(text)
        kept = "\n".join(line for line in lines if line.strip() not in known)
        note = Note("boilerplate", f"{len(gone)}: {gone[0].strip()[:80]}")
        return Verdict(re.sub(r"\n{3,}", "\n\n", kept).strip(), (note,))

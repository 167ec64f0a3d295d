"""Web sites: from the first page along its links and site maps, within the site and the limits that the recipe sets.

The order of the pages is that of a breadth-first walk, and what was answered lies in a WARC: an interrupted crawl walks the
same way again, without asking for what it has, and goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin, urlsplit, urlunsplit

from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.fetch import MOST_REDIRECTS, REDIRECTS, Fetcher
from treino.corpus.sources.raw import Problems, Unreadable
from treino.corpus.sources.warc import Archive, Response, page_of

if TYPE_CHECKING:
    from treino.recipe import SourceSettings

LONGEST_ADDRESS = 1000
MOST_REPEATS = 3
"""Times that one part of a path may come again (`/a/b/a/b/a/b/…`): more is a loop of relative links."""

TRIED_PER_PAGE = 10
"""Addresses that are tried for every page that the limit allows: a site of broken links ends, too."""

MOST_SITEMAPS = 50
MOST_ADDRESSES = 100_000
"""Addresses that wait at most."""

_LOCATION = re.compile(rb"<loc>\s*(?:<!\[CDATA\[)?\s*([^<\]]{1,2000}?)\s*(?:\]\]>)?\s*</loc>", re.IGNORECASE)
_OTHER_FILES = re.compile(
    r"\.(?:jpe?g|png|gif|svg|webp|ico|bmp|tiff?|mp[34]|m4[av]|avi|mov|webm|og[gv]|wav|flac|css|js|json|rss|woff2?|ttf|eot|"
    r"zip|gz|bz2|xz|7z|rar|tar|tgz|exe|dmg|iso|apk|deb|rpm|pdf|docx?|xlsx?|pptx?|od[tsp]|epub|mobi)$",
    re.IGNORECASE,
)


def site(source: SourceSettings, folder: Path | None, problems: Problems) -> Iterator[RawDocument]:
    """The pages of a site. What was answered is kept below `folder` (a WARC), or for the time of the crawl only."""
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="treino-")))
        start = normal(source.path)
        if start is None:
            problems.add(source.path, "unknown_host")
            return
        host = re.sub(r"[^\w.-]", "_", urlsplit(start).netloc)
        name = f"{host}-{hashlib.sha256(start.encode()).hexdigest()[:8]}.warc.gz"
        archive = stack.enter_context(contextlib.closing(Archive(place / name)))
        fetcher = stack.enter_context(contextlib.closing(Fetcher(archive, source.allow_private)))
        yield from Crawl(start, source, fetcher, problems).documents()


class Crawl:
    """One walk over a site."""

    def __init__(self, start: str, source: SourceSettings, fetcher: Fetcher, problems: Problems) -> None:
        self._source, self._fetcher, self._problems = source, fetcher, problems
        self._start = start
        self._sites = {_site(start), *(_site(f"//{name}") for name in source.sites)}
        self._waiting: deque[tuple[str, int]] = deque([(start, 0)])
        self._seen = {start}

    def documents(self) -> Iterator[RawDocument]:
        """The documents of the pages, in the order of the walk."""
        pages = size = tried = 0
        if self._source.depth and self._fetcher.may_ask(self._start):
            for address in self._from_sitemaps():
                self._add(address, 1)
        while self._waiting:
            within = pages < self._source.pages and tried < TRIED_PER_PAGE * self._source.pages
            if not within or size >= self._source.megabytes * 1_000_000:
                self._problems.add(self._start, "crawl_limit", f"{len(self._waiting)}")
                return
            url, depth = self._waiting.popleft()
            tried += 1
            response = self._followed(url)
            if response is None:
                continue
            pages += 1
            size += len(response.body)
            page = page_of(response, response.url, self._problems, self._source.fast)
            if page is None:
                continue
            if depth < self._source.depth:
                for address in page.links:
                    self._add(address, depth + 1)
            if page.wanted and page.text.strip():
                if response.rule:
                    self._problems.add(response.url, response.rule)
                yield RawDocument(response.url, 0, page.text, {"kind": "web", "url": response.url, **page.meta})

    def _add(self, address: str, depth: int) -> None:
        """Let an address of the site wait, unless it is known."""
        url = normal(address)
        if url is None or url in self._seen or _site(url) not in self._sites or len(self._seen) >= MOST_ADDRESSES:
            return
        if _OTHER_FILES.search(urlsplit(url).path):
            return
        self._seen.add(url)
        if _is_endless(url):
            self._problems.add(url, "endless_addresses")
        else:
            self._waiting.append((url, depth))

    def _followed(self, url: str) -> Response | None:
        """The answer where the redirects end; None, and the reason told, where it may not be had or is an error."""
        for _hop in range(MOST_REDIRECTS):
            rule = self._forbidden(url)
            response = None if rule else self._fetcher.get(url)
            if response is None or not response.status:
                self._problems.add(url, rule or (response.rule if response else ""))
                return None
            if response.status not in REDIRECTS:
                break
            following = normal(urljoin(url, response.headers.get("location", "")))
            if following is None:
                self._problems.add(url, "redirects_nowhere")
                return None
            if following in self._seen and following != url:
                return None  # its turn came, or comes
            self._seen.add(following)
            url = following
        else:
            self._problems.add(url, "redirects_nowhere")
            return None
        if response.status != 200:
            self._problems.add(url, "http_error", str(response.status))
            return None
        return response

    def _forbidden(self, url: str) -> str:
        """The rule by which an address is not asked for, or nothing."""
        if _site(url) not in self._sites:
            return "other_site"
        if self._fetcher.may_ask(url):
            return ""
        robots = f"{urlunsplit((*urlsplit(url)[:2], '/robots.txt', '', ''))}"
        known = self._fetcher.get(robots, any_kind=True)
        return known.rule if not known.status else "robots"

    def _from_sitemaps(self) -> Iterator[str]:
        """The addresses that the site maps name: those that robots.txt lists, or the usual one."""
        robots = self._fetcher.robots(self._start)
        waiting = deque([*(robots.sitemaps if robots else ()), urljoin(self._start, "/sitemap.xml")])
        asked: set[str] = set()
        while waiting and len(asked) < MOST_SITEMAPS:
            url = normal(waiting.popleft())
            if url is None or url in asked or self._forbidden(url):
                continue
            asked.add(url)
            content = _sitemap(self._fetcher.get(url, any_kind=True))
            found = (unescape(item[1].decode("utf-8", "replace")) for item in _LOCATION.finditer(content))
            if b"<sitemapindex" in content[:2000]:
                waiting.extend(found)
            else:
                yield from found


def _sitemap(response: Response) -> bytes:
    """What a site map holds, unpacked where it is a .gz; nothing where it is none."""
    try:
        content = response.content() if response.status == 200 else b""
        if content.startswith(b"\x1f\x8b"):
            content = zlib.decompressobj(31).decompress(content, 50_000_000)
    except (Unreadable, zlib.error):
        return b""
    return content


def normal(address: str) -> str | None:
    """An address in one spelling: no fragment, small letters in the host, no standard port; None: not one of the web."""
    try:
        parts = urlsplit(urldefrag(address.strip())[0])
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https") or not host or parts.username or len(address) > LONGEST_ADDRESS:
        return None
    host = f"[{host}]" if ":" in host else host
    place = host if port in (None, {"http": 80, "https": 443}[scheme]) else f"{host}:{port}"
    path = re.sub(r"[\x00-\x20]", lambda found: f"%{ord(found[0]):02X}", parts.path) or "/"
    return urlunsplit((scheme, place, path, parts.query, ""))


def _site(address: str) -> str:
    """What one site has in common: the host without `www.`, and a port that is not the standard one."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(address)
        port = parts.port if parts.port not in (None, 80, 443) else ""
        return f"{(parts.hostname or '').removeprefix('www.')}:{port}"
    return ""


def _is_endless(url: str) -> bool:
    """Whether a path goes in circles."""
    counts = Counter(part for part in urlsplit(url).path.split("/") if part)
    return max(counts.values(), default=0) > MOST_REPEATS

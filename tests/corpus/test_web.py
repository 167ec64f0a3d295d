"""A web site, served on loopback: crawled politely, within its limits, never into a private network, and resumed."""

from __future__ import annotations

import _thread
import gzip
import signal
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from treino.corpus.collect import PAGES, collect
from treino.corpus.documents import read_rows
from treino.corpus.sources import fetch, web
from treino.corpus.sources.document import RawDocument
from treino.corpus.sources.fetch import checked_address, is_public
from treino.corpus.sources.raw import Problems, Unreadable
from treino.corpus.sources.read import read_source
from treino.recipe import CorpusSettings, SourceSettings, WorldSettings

STORY = (
    "O barco {} saiu do porto ao amanhecer, com seis pescadores e um cachorro, e só voltou três dias depois, quando a vila "
    "inteira já rezava na praia. Ninguém perguntou o que tinha acontecido no mar."
)


def story(name: str, *links: str, head: str = "") -> bytes:
    anchors = "".join(f'<li><a href="{link}">ir para {link}</a></li>' for link in links)
    return (
        f'<html lang="pt-BR"><head><title>Página {name}</title>{head}</head><body><nav><ul>{anchors}</ul></nav>'
        f"<article><h1>Página {name}</h1><p>{STORY.format(name)}</p></article></body></html>"
    ).encode()


class Site:
    """Pages by path: bytes, or (status, headers, body), or a function that writes by itself; and what was asked, when."""

    def __init__(self, pages: dict[str, Any]) -> None:
        self.pages, self.asked = pages, []
        self.hosts: set[str] = set()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((time.monotonic(), self.path))
                site.hosts.add(self.headers["Host"])
                found = site.pages.get(self.path, (404, {}, b""))
                if callable(found):
                    found = found(self)
                    if found is None:
                        return
                status, headers, body = found if isinstance(found, tuple) else (200, {}, found)
                self.send_response(status)
                for name, value in ({"Content-Type": "text/html"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def paths(self) -> list[str]:
        return [path for _, path in self.asked]

    def source(self, path: str = "/", **settings: Any) -> SourceSettings:
        return SourceSettings(path=self.address + path, **{"allow_private": True, **settings})


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(fetch, "DELAY", 0.0)
    monkeypatch.setattr(fetch, "BACKOFF", 0.01)
    sites: list[Site] = []

    def start(pages: dict[str, Any]) -> Site:
        sites.append(Site(pages))
        return sites[-1]

    yield start
    for site in sites:
        site.server.shutdown()
        site.server.server_close()


def crawl(source: SourceSettings, folder: Path | None = None) -> tuple[list[RawDocument], Problems]:
    problems = Problems()
    return list(read_source(source, WorldSettings(), Path(), 1, problems, records=folder)), problems


def names(documents: list[RawDocument]) -> list[str]:
    return [document.name.split("/", 3)[3] for document in documents]


ROBOTS = b"User-agent: *\nDisallow: /*/segredo\nDisallow: /*.php$\nSitemap: /mapa.xml\n"


def test_a_site_is_walked_as_its_robots_say(serve: Any) -> None:
    """Wildcards, site maps, loops, other sites, files that are no pages, fragments, and errors, which are named."""
    site = serve(
        {
            "/robots.txt": (200, {"Content-Type": "text/plain"}, ROBOTS),
            "/": story(
                "zero", "a", "/a#parte", "/x/segredo", "b.php", "http://fora.invalid/", "foto.jpg", "sumiu", "mailto:x"
            ),
            "/a": story("a", "/", "/a", "c/", "http://[ruim"),
            "/c/": story("c", "/a", "d"),
            "/c/d": story("d", "e"),
            "/c/e": story("e"),
            "/mapa.xml": (200, {"Content-Type": "text/xml"}, b"<urlset><url><loc>%s/so-no-mapa</loc></url></urlset>"),
            "/so-no-mapa": story("m"),
        }
    )
    kind, head, body = site.pages["/mapa.xml"]
    site.pages["/mapa.xml"] = (kind, head, body % site.address.encode())
    site.pages["/robots.txt"] = (200, {}, ROBOTS.replace(b"Sitemap: ", b"Sitemap: " + site.address.encode()))
    documents, problems = crawl(site.source())
    assert names(documents) == ["", "so-no-mapa", "a", "c/", "c/d"], "three links away, and no further"
    assert len(set(site.paths())) == len(site.paths()), "nothing is asked twice"
    assert not {"/x/segredo", "/b.php", "/foto.jpg", "/c/e"} & set(site.paths())
    assert problems.counts == {"robots": 2, "http_error": 1}
    first = documents[0]
    assert STORY.format("zero") in first.text
    assert first.meta == {"kind": "web", "url": f"{site.address}/", "title": "Página zero", "language": "pt-BR"}


def test_title_date_language_and_licence_are_kept(serve: Any) -> None:
    head = '<meta property="article:published_time" content="2024-05-06T10:00:00Z">'
    licence = "https://creativecommons.org/licenses/by/4.0/"
    body = story("x", head=f'{head}<link rel="license" href="{licence}">')
    (document,), _ = crawl(serve({"/": body}).source())
    assert document.meta["date"] == "2024-05-06"
    assert document.meta["licence"] == licence


@pytest.mark.parametrize("told", ["Crawl-delay: 0.3", "Request-rate: 10/3"])
def test_a_host_is_asked_at_the_pace_that_it_names(serve: Any, told: str) -> None:
    site = serve({"/robots.txt": f"User-agent: *\n{told}\n".encode(), "/": story("a", "b", "c"), "/b": story("b")})
    crawl(site.source())
    times = [when for when, path in site.asked if path != "/robots.txt"]
    assert len(times) == 4
    assert all(later - earlier >= 0.28 for earlier, later in pairwise(times))


def test_limits_of_depth_pages_and_bytes(serve: Any) -> None:
    pages = {f"/{number}": story(str(number), f"{number + 1}") for number in range(30)}
    site = serve(pages)
    assert names(crawl(site.source("/0", depth=0))[0]) == ["0"]
    documents, problems = crawl(site.source("/0", depth=20, pages=4))
    assert names(documents) == ["0", "1", "2", "3"]
    assert problems.counts == {"crawl_limit": 1}
    big = serve({f"/{n}": story(str(n), f"{n + 1}") + b"<!--" + b"x" * 600_000 + b"-->" for n in range(5)})
    assert names(crawl(big.source("/0", depth=9, megabytes=1))[0]) == ["0", "1"]


def test_addresses_that_go_in_circles_end(serve: Any) -> None:
    site = serve({})
    site.pages = Endless()  # type: ignore[assignment]
    documents, problems = crawl(site.source("/a/", depth=50))
    assert names(documents) == ["a/", "a/a/", "a/a/a/"]
    assert problems.counts == {"endless_addresses": 1}


class Endless(dict):
    """A page at every address below, with a link that goes one deeper."""

    def get(self, path: str, default: Any = None) -> Any:
        return story("a", "a/") if path.endswith("a/") else default


def test_broken_pages_and_old_encodings(serve: Any) -> None:
    told = {"Content-Type": "text/html; charset=iso-8859-1"}
    wrong = story("f", head='<meta charset="iso-8859-1">')
    broken = f"<html><body><div><p>{STORY.format('g')}<table><tr><td>sem fim<p></div></span><a href='h'".encode()
    site = serve(
        {
            "/": story("ação", "e", "f", "g", "t", "d"),
            "/e": (200, told, story("é à noite").decode().encode("cp1252")),
            "/f": wrong,
            "/g": broken,
            "/t": (200, {"Content-Type": "text/plain; charset=utf-16"}, STORY.format("t").encode("utf-16")),
            "/d": (200, {"Content-Type": "application/pdf"}, b"%PDF-1.4"),
        }
    )
    documents, problems = crawl(site.source())
    assert names(documents) == ["", "e", "f", "g", "t"]
    assert problems.counts == {"not_a_page": 1}
    for document, name in zip(documents, ["ação", "é à noite", "f", "g", "t"], strict=True):
        assert STORY.format(name) in document.text


def test_noindex_and_nofollow(serve: Any) -> None:
    hidden = story("a", "b", head='<meta name="robots" content="noindex, nofollow">')
    site = serve({"/": hidden, "/b": story("b")})
    documents, problems = crawl(site.source())
    assert (documents, problems.counts) == ([], {"noindex": 1})
    assert "/b" not in site.paths()
    told = serve({"/": (200, {"X-Robots-Tag": "noindex"}, story("a"))})
    assert crawl(told.source())[1].counts == {"noindex": 1}


def test_slow_and_endless_pages_are_cut_and_bombs_refused(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAGE_SECONDS", 0.6)
    monkeypatch.setattr(fetch, "PAGE_BYTES", 2_000_000)

    def forever(handler: BaseHTTPRequestHandler, pause: float, chunk: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.end_headers()
        try:
            handler.wfile.write(story("lenta"))
            while True:
                handler.wfile.write(chunk)
                time.sleep(pause)
        except OSError:
            pass

    bomb = gzip.compress(b"<p>" + b" " * 100_000_000)
    site = serve(
        {
            "/": story("a", "lenta", "longa", "bomba"),
            "/lenta": lambda handler: forever(handler, 0.05, b"."),
            "/longa": lambda handler: forever(handler, 0.0, b"<!--" + b"x" * 50_000 + b"-->"),
            "/bomba": (200, {"Content-Encoding": "gzip"}, bomb),
        }
    )
    started = time.monotonic()
    documents, problems = crawl(site.source())
    assert time.monotonic() - started < 20
    assert names(documents) == ["", "lenta", "longa"]
    assert problems.counts == {"page_cut": 2, "expands_without_bound": 1}


def test_what_fails_for_now_is_tried_again_and_other_errors_are_not(serve: Any) -> None:
    left = {"/": 2, "/ruim": 9}

    def busy(handler: BaseHTTPRequestHandler) -> Any:
        left[handler.path] -= 1
        return (503, {"Retry-After": "0"}, b"") if left[handler.path] >= 0 else story("a", "ruim", "errada")

    site = serve({"/": busy, "/ruim": busy, "/errada": (403, {}, b"")})
    documents, problems = crawl(site.source())
    assert names(documents) == [""]
    assert [site.paths().count(path) for path in ("/", "/ruim", "/errada")] == [3, 3, 1]
    assert problems.counts == {"http_error": 2}


def test_a_site_whose_robots_cannot_be_had_is_left_alone(serve: Any) -> None:
    site = serve({"/robots.txt": (500, {}, b""), "/": story("a")})
    documents, problems = crawl(site.source())
    assert (documents, problems.counts) == ([], {"robots": 1})
    assert "/" not in site.paths()
    site.server.shutdown()
    site.server.server_close()
    assert crawl(site.source())[1].counts == {"unreachable": 1}


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False), ("192.168.0.1", False),
        ("172.16.9.9", False), ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("::1", False), ("fe80::1", False), ("fc00::1", False), ("::ffff:127.0.0.1", False), ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False), ("255.255.255.255", False),
    ],
)  # fmt: skip
def test_addresses_of_the_public_internet(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1"])
def test_a_private_address_is_refused_however_it_is_spelt(host: str) -> None:
    with pytest.raises(Unreadable, match=r"private_address|unknown_host"):
        checked_address(host, 80, allow_private=False)


def test_nothing_private_is_asked_at_the_start_or_after_a_redirect(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = serve({"/": story("dentro"), "/dados": story("dados")})
    documents, problems = crawl(inner.source(allow_private=False))
    assert (documents, problems.counts, inner.asked) == ([], {"private_address": 1}, [])
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    target = inner.address.replace("127.0.0.1", "127.0.0.2")
    site = serve(
        {
            "/": story("a", "vai", "fora", "volta"),
            "/vai": (302, {"Location": f"{target}/dados"}, b""),
            "/fora": (301, {"Location": "http://exemplo.invalid/"}, b""),
            "/volta": (301, {"Location": "/volta"}, b""),
        }
    )
    source = site.source(allow_private=False, sites=(target.removeprefix("http://"),))
    documents, problems = crawl(source)
    assert names(documents) == [""]
    assert problems.counts == {"private_address": 1, "other_site": 1, "redirects_nowhere": 1}
    assert inner.asked == []


def test_the_address_that_was_checked_is_the_one_connected_to(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers with a public address first and a private one then (DNS rebinding) gains nothing."""
    site = serve({"/": story("a")})
    really = socket.getaddrinfo
    answers: list[str] = []

    def rebinding(host: str, *arguments: Any, **named: Any) -> Any:
        if host != "site.test":
            assert host == "127.0.0.1", "a name was looked up a second time, behind the check"
            return really(host, *arguments, **named)
        answers.append(host)
        return really("127.0.0.1", *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(fetch, "is_public", lambda address: address == "127.0.0.1")
    documents, _ = crawl(SourceSettings(path=f"http://site.test:{site.server.server_port}/", depth=0))
    assert len(documents) == 1
    assert len(answers) == len(site.asked) == 2
    assert site.hosts == {f"site.test:{site.server.server_port}"}


def test_redirects_within_the_site_are_followed(serve: Any) -> None:
    site = serve(
        {
            "/": (302, {"Location": "/casa/"}, b""),
            "/casa/": story("casa", "/", "/b"),
            "/b": (301, {"Location": "casa/"}, b""),
        }
    )
    documents, problems = crawl(site.source())
    assert (names(documents), problems.counts) == (["casa/"], {})


@pytest.mark.parametrize("damage", [0, 1, 40])
def test_an_interrupted_crawl_goes_on_without_asking_twice(serve: Any, tmp_path: Path, damage: int) -> None:
    pages = {f"/{number}": story(str(number), str(number + 1), str(number + 2)) for number in range(12)}
    site = serve(pages)
    source = site.source("/0", depth=20)
    walk = read_source(source, WorldSettings(), Path(), 1, Problems(), records=tmp_path)
    assert len(list(islice(walk, 5))) == 5
    walk.close()  # type: ignore[attr-defined]
    (kept,) = tmp_path.glob("*.warc.gz")
    if damage:  # the process died while it wrote the last page
        kept.write_bytes(kept.read_bytes()[:-damage])
    asked = len(site.asked)
    documents, problems = crawl(source, tmp_path)
    assert names(documents) == [str(number) for number in range(12)]
    assert problems.counts == {"http_error": 2}
    again = site.paths()[asked:]
    assert len(set(again) & set(site.paths()[:asked])) == (1 if damage else 0)
    asked = len(site.asked)
    assert [document.text for document in crawl(source, tmp_path)[0]] == [document.text for document in documents]
    assert len(site.asked) == asked, "everything was there"


def test_the_pages_are_kept_as_they_were_sent(serve: Any, tmp_path: Path) -> None:
    """The WARC is a source itself, so that the text can be taken anew; and it is what another reader takes for one."""
    pages = {"/": story("a", "b"), "/b": (200, {"Content-Encoding": "gzip"}, gzip.compress(story("b")))}
    documents, _ = crawl(serve(pages).source(), tmp_path)
    (kept,) = tmp_path.glob("*.warc.gz")
    again, problems = crawl(SourceSettings(path=str(kept)))
    assert [document.text for document in again] == [document.text for document in documents]
    assert [document.meta["url"] for document in again] == [document.name for document in documents]
    assert problems.counts == {}
    iterator = pytest.importorskip("fastwarc.warc").ArchiveIterator
    with open(kept, "rb") as file:
        found = {
            record.headers["WARC-Target-URI"]: record.reader.read()
            for record in iterator(file)
            if record.headers["WARC-Type"] == "response"
        }
    assert found[documents[0].name] == story("a", "b")
    assert documents[1].name in found


def test_the_stage_keeps_the_pages_and_takes_up_an_interrupted_crawl(serve: Any, tmp_path: Path) -> None:
    site = serve({f"/{number}": story(str(number), str(number + 1)) for number in range(30)})
    corpus = CorpusSettings(sources=(site.source("/0", depth=40, licence="CC0"),), held_out=0)
    given = site.pages["/9"]
    site.pages["/9"] = stopping
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # what a shell starts in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            collect(corpus, WorldSettings(), tmp_path / "a", 1, Path())
    finally:
        signal.signal(signal.SIGINT, before)
    site.pages["/9"] = given
    facts = collect(corpus, WorldSettings(), tmp_path / "a", 1, Path())
    assert facts["documents_out"] == 30
    assert site.paths().count("/3") == 1
    assert [path.parent for path in (tmp_path / "a").rglob("*.warc.gz")] == [tmp_path / "a" / PAGES]
    collect(corpus, WorldSettings(), tmp_path / "b", 1, Path())
    first, second = (list(read_rows(tmp_path / name, "training")) for name in "ab")
    assert first == second
    assert first[0]["licence"] == "CC0"


def stopping(handler: BaseHTTPRequestHandler) -> Any:
    """Ctrl-C in the middle of the crawl."""
    _thread.interrupt_main()
    time.sleep(0.2)
    return story("9")


def test_addresses_in_one_spelling() -> None:
    same = {
        web.normal(spelling) for spelling in ("HTTP://A.org", "http://a.org:80/#x", " http://a.org/ ", "http://a.org./")
    }
    assert same == {"http://a.org/"}
    same = {
        web.normal(f"http://{host}/a {path}?q=é")
        for host in ("são.br", "xn--so-sia.br")
        for path in ("ção", "%C3%A7%C3%A3o")
    }
    assert same == {"http://xn--so-sia.br/a%20%C3%A7%C3%A3o?q=%C3%A9"}
    for other in (
        "ftp://a.org/",
        "http://u:p@a.org/",
        "http:///x",
        "http://a.org:x/",
        "javascript:x",
        "http://[",
        "x" * 2000,
    ):
        assert web.normal(other) is None

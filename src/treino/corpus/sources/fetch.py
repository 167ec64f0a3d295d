"""Asking web servers: politely (robots.txt, one request at a time and host, with pauses), and never a machine of one's own
network unless that is allowed: the address that is connected to is the one that was checked, whatever a name server says
the next time.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from protego import Protego

from treino.corpus.sources.raw import Unreadable
from treino.corpus.sources.warc import TEXT_TYPES, Archive, Response

AGENT = "treino"
DELAY = 1.0
"""Seconds between two requests to a host that asks for no pause of its own."""

LONGEST_DELAY = 120.0
"""A host that asks for longer pauses is left alone."""

TRIES = 3
BACKOFF = 2.0
"""Seconds before the second try; twice as many before the third."""

LONGEST_RETRY = 120.0
PAGE_BYTES = 10_000_000
PAGE_SECONDS = 60.0
"""What is longer, or takes longer, is cut there."""

SILENCE = 20.0
"""Seconds without a byte after which a server counts as not reached."""

MOST_REDIRECTS = 8
REDIRECTS = (301, 302, 303, 307, 308)
ROBOTS_BYTES = 512_000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def checked_address(host: str, port: int, allow_private: bool) -> str:
    """The IP address of a host to connect to. `Unreadable`: it has none, or one that is not on the public Internet."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreadable("unknown_host") from error
    addresses = [str(item[4][0]).partition("%")[0] for item in found]
    if not allow_private and not all(is_public(address) for address in addresses):
        raise Unreadable("private_address")
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet, also where an IPv6 address only wraps an IPv4 one."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            wrapped = ipaddress.ip_address(int(ip) & 0xFFFFFFFF)
        if wrapped:
            return is_public(str(wrapped))
    return ip.is_global and not ip.is_multicast


class Fetcher:
    """Asks servers for one crawl. What is in the archive is not asked again; what was answered is put there."""

    def __init__(self, archive: Archive, allow_private: bool) -> None:
        self._archive, self._allow_private = archive, allow_private
        self._clients: dict[str, httpx.Client] = {}
        self._robots: dict[str, Protego | None] = {}
        self._ready: dict[str, float] = {}
        self._failed: dict[str, Response] = {}
        self.asked = 0

    def get(self, url: str, any_kind: bool = False) -> Response:
        """The answer to one request: redirects are not followed here. `any_kind`: not only text has its body read."""
        known = self._archive.find(url) or self._failed.get(url)
        if known:
            return known
        response = self._ask(url, any_kind)
        for attempt in range(1, TRIES):
            if not response.temporary or response.rule == "private_address":
                break
            time.sleep(_pause(response, attempt))
            response = self._ask(url, any_kind)
        if response.temporary:
            self._failed[url] = response
        else:
            self._archive.keep(response)
        return response

    def may_ask(self, url: str) -> bool:
        """Whether the host's robots.txt lets the page be taken."""
        robots = self.robots(url)
        return robots is not None and robots.can_fetch(url, AGENT) and self._delay(url) <= LONGEST_DELAY

    def robots(self, url: str) -> Protego | None:
        """The rules of the page's host (RFC 9309): none if it has no robots.txt; None where it cannot be had, which
        forbids everything.
        """
        origin = _origin(url)
        if origin not in self._robots:
            self._robots[origin] = self._asked_robots(f"{origin}/robots.txt")
        return self._robots[origin]

    def _asked_robots(self, url: str) -> Protego | None:
        for _ in range(MOST_REDIRECTS):
            response = self.get(url, any_kind=True)
            if response.status not in REDIRECTS:
                break
            url = urljoin(url, response.headers.get("location", ""))
        if response.temporary:
            return None
        if response.status != 200:
            return Protego.parse("")
        try:
            text = response.content()[:ROBOTS_BYTES].decode("utf-8-sig", "replace")
        except Unreadable:
            return None
        return Protego.parse(text)

    def _delay(self, url: str) -> float:
        robots = self._robots.get(_origin(url))
        if robots is None:
            return DELAY
        rate = robots.request_rate(AGENT)
        return max(DELAY, float(robots.crawl_delay(AGENT) or 0), rate.seconds / rate.requests if rate else 0)

    def _ask(self, url: str, any_kind: bool) -> Response:
        """One request, when the host may be asked again."""
        try:
            target = httpx.URL(url)
            host, port = target.host, target.port or (443 if target.scheme == "https" else 80)
            address = checked_address(target.raw_host.decode(), port, self._allow_private)
        except Unreadable as error:
            return Response(url, rule=str(error))
        except (httpx.InvalidURL, ValueError):
            return Response(url, rule="unknown_host")
        time.sleep(max(0.0, self._ready.get(host, 0.0) - time.monotonic()))
        self.asked += 1
        try:
            return self._answered(url, target, address, any_kind)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError):
            return Response(url, rule="unreachable")
        finally:
            self._ready[host] = time.monotonic() + self._delay(url)

    def _answered(self, url: str, target: httpx.URL, address: str, any_kind: bool) -> Response:
        headers = {
            "Host": target.netloc.decode(),
            "User-Agent": f"{AGENT} (text for a language model)",
            "Accept": "text/html,application/xhtml+xml,text/plain;q=0.9,*/*;q=0.1",
            "Accept-Encoding": "gzip, deflate",
        }
        names = {"sni_hostname": target.raw_host.decode()} if target.scheme == "https" else {}
        client = self._client(_origin(url))
        with client.stream("GET", target.copy_with(host=address), headers=headers, extensions=names) as answer:
            told = {
                name.lower(): value for name, value in answer.headers.items() if name.lower() != "transfer-encoding"
            }
            response = Response(url, answer.status_code, told)
            if not any_kind and (answer.status_code != 200 or response.kind not in TEXT_TYPES):
                return response
            body, rule = _body(answer)
        return Response(url, answer.status_code, told, body, rule)

    def _client(self, origin: str) -> httpx.Client:
        """A client of its own for each host: two hosts at one address may not share a connection."""
        if origin not in self._clients:
            self._clients[origin] = httpx.Client(trust_env=False, timeout=SILENCE, follow_redirects=False)
        return self._clients[origin]

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()


def _body(answer: httpx.Response) -> tuple[bytes, str]:
    """The body as it is sent, and the rule by which it was cut, if it was."""
    body, end = bytearray(), time.monotonic() + PAGE_SECONDS
    with contextlib.suppress(httpx.HTTPError):
        for chunk in answer.iter_raw():
            body += chunk
            if len(body) > PAGE_BYTES or time.monotonic() > end:
                return bytes(body[:PAGE_BYTES]), "page_cut"
        return bytes(body), ""
    return bytes(body), "page_cut"


def _pause(response: Response, attempt: int) -> float:
    """Seconds to wait before the next try: what the server says, else twice as long each time."""
    told = response.headers.get("retry-after", "")
    return min(LONGEST_RETRY, float(told)) if told.isdecimal() else BACKOFF * 2 ** (attempt - 1)


def _origin(url: str) -> str:
    parts: Any = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

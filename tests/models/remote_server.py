"""A little server on this machine that answers as an OpenAI-compatible one, by a rule of the test's."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server sends for one request: by default an answer of this text."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    wait: float = 0.0
    cut: bool = False
    logprobs: Any = None


Rule = Callable[[dict[str, Any]], Reply]


@dataclass
class Server:
    """Its address, and what it was asked: (headers, body) of every request."""

    address: str
    asked: list[tuple[dict[str, str], dict[str, Any]]]

    @property
    def texts(self) -> list[str]:
        """The text of every request."""
        return [body["messages"][-1]["content"] for _, body in self.asked]


def content(reply: Reply) -> bytes:
    if reply.raw is not None:
        return reply.raw
    if reply.status != 200:
        return json.dumps({"error": {"message": reply.text}}).encode()
    choice = {"message": {"role": "assistant", "content": reply.text}, "finish_reason": "stop"}
    if reply.logprobs is not None:
        choice["logprobs"] = {"content": reply.logprobs}
    usage = {"prompt_tokens": 40, "completion_tokens": 5}
    return json.dumps({"model": "tiny-1", "choices": [choice], "usage": usage}).encode()


@contextlib.contextmanager
def serving(rule: Rule) -> Iterator[Server]:
    """A server for the `with` block."""
    asked: list[tuple[dict[str, str], dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((dict(self.headers), body))
            reply = rule(body) if self.path == "/v1/chat/completions" else Reply("no such page", 404)
            time.sleep(reply.wait)
            data = content(reply)
            with contextlib.suppress(OSError):
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data) + (10 if reply.cut else 0)))
                self.end_headers()
                self.wfile.write(data)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}/v1", asked)
    finally:
        server.shutdown()
        server.server_close()

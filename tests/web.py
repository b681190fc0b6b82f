"""A web site on this machine: each test chooses what it answers."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


class Site(ThreadingHTTPServer):
    """Answers a GET of each path in `answers` as that says, and any other with 404."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []  # the paths of GET requests
        self.probed = 0  # HEAD requests
        self.closing = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Say nothing: that clients break off is what is tested."""


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_HEAD(self) -> None:
        self.server.probed += 1
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answers.get(self.path, status(404))(self)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Site]:
    """A site at work; its address is `url`."""
    with Site() as site:
        threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield site
        finally:
            site.closing.set()
            site.shutdown()


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def closed() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}/"


def content(body: bytes) -> Answer:
    return _sent(body, len(body))


def truncated(body: bytes) -> Answer:
    """The connection closes half-way."""
    return _sent(body[: len(body) // 2], len(body))


def status(code: int) -> Answer:
    return lambda handler: handler.send_error(code)


def to_whom(authorization: str, answer: Answer) -> Answer:
    """The answer for who brings this Authorization, and 401 for others."""
    return lambda handler: (answer if handler.headers.get("Authorization") == authorization else status(401))(handler)


def redirect(address: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.end_headers()

    return answer


def stalling(body: bytes) -> Answer:
    """Half of the body, then nothing, with the connection kept open."""

    def answer(handler: Handler) -> None:
        truncated(body)(handler)
        handler.wfile.flush()
        handler.server.closing.wait(60)

    return answer


def dripping(body: bytes) -> Answer:
    """A byte now and then: never long enough apart for a timeout between two reads."""

    def answer(handler: Handler) -> None:
        _head(handler, len(body))
        for byte in body:
            handler.wfile.write(bytes([byte]))
            if handler.server.closing.wait(0.02):
                return

    return answer


def dripping_head(handler: Handler) -> None:
    """A head without end, a byte now and then: there is never a response to break off."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n")
    while not handler.server.closing.wait(0.02):
        handler.wfile.write(b"x")


def _sent(body: bytes, announced: int) -> Answer:
    def answer(handler: Handler) -> None:
        _head(handler, announced)
        handler.wfile.write(body)

    return answer


def _head(handler: Handler, length: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()

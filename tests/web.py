"""A local web site; each test chooses its answers."""

import datetime
import ipaddress
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[["Handler"], None]


class Site(ThreadingHTTPServer):
    """Answers a GET request with the answer for its path in `answers`, or with 404."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.server_port}/"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []  # the paths of GET requests
        self.probed = 0  # HEAD requests
        self.closing = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Print nothing: tests close connections on purpose."""


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
def serving(certificate: Path | None = None) -> Iterator[Site]:
    """Start a site; its address is `url`: https if `certificate` is a file with a certificate and its key, otherwise http."""
    with Site(certificate) as site:
        threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield site
        finally:
            site.closing.set()
            site.shutdown()


def write_certificate(path: Path) -> Path:
    """Write a self-signed certificate for 127.0.0.1 and its key to one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(
        certificate.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    return path


@contextmanager
def silent() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def closed() -> str:
    """Return an address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}/"


def content(body: bytes) -> Answer:
    return _sent(body, len(body))


def truncated(body: bytes, sent: int | None = None) -> Answer:
    """Close the connection after half of the body, or after `sent` bytes."""
    return _sent(body[: len(body) // 2 if sent is None else sent], len(body))


def reset(body: bytes, sent: int) -> Answer:
    """Reset the connection after `sent` bytes."""

    def answer(handler: Handler) -> None:
        truncated(body, sent)(handler)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(handler.connection.detach())

    return answer


def chunked(parts: Iterable[bytes], *headers: tuple[str, str], code: int = 200, complete: bool = True) -> Answer:
    """Send the parts as chunks; the empty last chunk only if `complete`."""

    def answer(handler: Handler) -> None:
        handler.protocol_version, handler.close_connection = "HTTP/1.1", True
        handler.send_response(code)
        for header in (*headers, ("Transfer-Encoding", "chunked")):
            handler.send_header(*header)
        handler.end_headers()
        for part in parts:
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        if complete:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def status(code: int) -> Answer:
    return lambda handler: handler.send_error(code)


def to_whom(authorization: str, answer: Answer) -> Answer:
    """Send `answer` to requests with this Authorization, and 401 to others."""
    return lambda handler: (answer if handler.headers.get("Authorization") == authorization else status(401))(handler)


def redirect(address: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.end_headers()

    return answer


def stalling(body: bytes, sent: int | None = None) -> Answer:
    """Send half of the body, or `sent` bytes, and keep the connection open."""

    def answer(handler: Handler) -> None:
        truncated(body, sent)(handler)
        handler.wfile.flush()
        handler.server.closing.wait(60)

    return answer


def stalling_head(handler: Handler) -> None:
    """Send nothing and keep the connection open."""
    handler.server.closing.wait(60)


def dripping(body: bytes) -> Answer:
    """Send a byte every 20 ms, so that no read times out."""

    def answer(handler: Handler) -> None:
        _head(handler, len(body))
        for byte in body:
            handler.wfile.write(bytes([byte]))
            if handler.server.closing.wait(0.02):
                return

    return answer


def dripping_head(handler: Handler) -> None:
    """Send an endless header, a byte every 20 ms, so that the response never begins."""
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

"""Run the application with uvicorn: time limits for connections, and an end in order."""

import gc
import resource
import socket
from contextlib import suppress
from typing import Any

import uvicorn

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Protocol
except ImportError:  # there is no wheel of httptools for this machine
    from uvicorn.protocols.http.h11_impl import H11Protocol as Protocol  # type: ignore[assignment]

_HEADER_SECONDS = 10.0  # to send the headers of a request
_IDLE_SECONDS = 30  # between two requests of a connection
_STOP_SECONDS = 10  # for the requests under way when the server is asked to end
_CONNECTIONS = 2000  # more get 503
_FILES = 4096


def listen(host: str, port: int) -> socket.socket:
    """Bind the address. Raises OSError if that is not possible."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    bound.set_inheritable(True)
    return bound


def run(app: Any, bound: socket.socket, on_start: Any = None) -> None:
    """Answer requests to `bound` until SIGTERM or SIGINT: then no new connections, and 10 seconds for what is under way.

    Settings of the host, such as WEB_CONCURRENCY, UVICORN_* and FORWARDED_ALLOW_IPS, have no effect.
    """
    _allow_files()
    config = uvicorn.Config(
        app,
        http=HeaderTimeoutProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        workers=1,
        proxy_headers=False,
        server_header=False,
        forwarded_allow_ips="127.0.0.1",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    gc.collect()
    gc.freeze()  # what is there stays: a large JSON body would else have the collector look at all of it, for 20 ms
    _Server(config, on_start).run(sockets=[bound])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Any) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_start is not None:
            self._on_start()


def _allow_files() -> None:
    """Each connection is an open file, and some systems allow a process few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class HeaderTimeoutProtocol(Protocol):
    """Uvicorn's HTTP protocol with a timeout for the headers of a request: it closes a connection that exceeds it."""

    _deadline: Any = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits():
            self._expect_headers()
        else:
            self._forget_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _waits(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(_HEADER_SECONDS, self._close)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._deadline = None
        if self._waits():
            self.transport.close()

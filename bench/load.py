"""Send one HTTP request again and again over several connections of this machine, each as soon as it is answered."""

import asyncio
import time
from typing import Any, NamedTuple

import numpy as np


class Load(NamedTuple):
    """Answers per second, and milliseconds that half and 99 of 100 answers took at most."""

    per_second: float
    median: float
    p99: float
    failed: int


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, until: float, times: list[float], done: "asyncio.Future[None]") -> None:
        self._request, self._until, self._times, self._done = request, until, times, done
        self._buffer, self._missing = b"", 0
        self.failed = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._start = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        if not self._missing:
            at = self._buffer.lower().index(b"content-length: ") + 16
            self._missing = head + 4 + int(self._buffer[at : self._buffer.index(b"\r\n", at)])
        if len(self._buffer) < self._missing:
            return
        now = time.perf_counter()
        self._times.append(now - self._start)
        self.failed += not self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer, self._missing = b"", 0
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


def request(path: str, body: bytes, headers: dict[str, str], port: int) -> bytes:
    """The bytes of a POST request."""
    sent = {"Host": f"127.0.0.1:{port}", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def measure(message: bytes, port: int, connections: int, seconds: float) -> Load:
    """Send `message` for `seconds`."""
    import uvloop

    return uvloop.run(_measure(message, port, connections, seconds))


async def _measure(message: bytes, port: int, connections: int, seconds: float) -> Load:
    loop, times, ends, clients = asyncio.get_running_loop(), list[float](), [], []
    start = time.perf_counter()
    for _ in range(connections):
        ends.append(loop.create_future())
        _, client = await loop.create_connection(
            lambda end=ends[-1]: _Client(message, start + seconds, times, end), "127.0.0.1", port
        )
        clients.append(client)
    await asyncio.wait_for(asyncio.gather(*ends), seconds + 60)
    taken, failed = time.perf_counter() - start, sum(client.failed for client in clients)
    milliseconds = 1000 * np.array(times)
    return Load(len(times) / taken, float(np.median(milliseconds)), float(np.percentile(milliseconds, 99)), failed)

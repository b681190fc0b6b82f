"""Ask the application in this process, as uvicorn would."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.params import Layout
from pipeline.serving import app
from pipeline.serving.access import Access
from pipeline.serving.capture import Capture
from pipeline.serving.metrics import Metrics
from pipeline.serving.served_model import ServedModel, open_file
from pipeline.serving.service import Limits, Service

NAME = "mnist-dense"


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)


class Client:
    """A server without a socket."""

    def __init__(
        self,
        served: ServedModel,
        *,
        limits: Limits | None = None,
        access: Access | None = None,
        capture: Capture | None = None,
        layout: Layout | None = "mnist",
    ) -> None:
        self.service = Service(served, limits or Limits(10_000_000), access or Access(), Metrics(), capture, layout)
        self.app: Any = app.build(self.service)

    def ask(self, method: str, path: str, body: bytes | Sequence[bytes] = b"", **headers: str) -> Response:
        """Send a request, its body in one or several parts."""
        return asyncio.run(self.asked(method, path, body, **headers))

    def post(self, path: str, content: Any, **headers: str) -> Response:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.ask("POST", path, body, **{"Content_Type": "application/json", **headers})

    async def asked(self, method: str, path: str, body: bytes | Sequence[bytes] = b"", **headers: str) -> Response:
        return await asked(self.app, method, path, body, **headers)


async def asked(app: Any, method: str, path: str, body: bytes | Sequence[bytes] = b"", **headers: str) -> Response:
    """Ask an ASGI application. After a part of the body that is `...` the client sends no more, but keeps the line open."""
    parts, sent, wait = [body] if isinstance(body, bytes) else list(body), list[Any](), asyncio.Event()
    given = {"host": "127.0.0.1:5001", **{name.replace("_", "-").lower(): value for name, value in headers.items()}}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]

    async def receive() -> Any:
        if not parts:
            await wait.wait()
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts) or part == b"..."}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": encoded, "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    if not sent:
        return Response(0, {}, b"")
    start, *bodies = sent
    names = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Response(start["status"], names, b"".join(each.get("body", b"") for each in bodies))


def opened(path: Path) -> ServedModel:
    return open_file(path, NAME, None)

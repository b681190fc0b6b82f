"""Refuse requests that MLflow's scoring server would misread or fail on, and explain why.

MLflow truncates 3.5 to 3, reads `true` as 1, answers 500 to deeply nested JSON, and accepts bodies of any size.
"""

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

import numpy as np

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost")

_FIELDS = ("inputs", "instances")
_OPEN = ("/health", "/ping")  # health checks, which need no token


class RefusedRequestError(Exception):
    """A request that gets a 4xx response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """An ASGI application that passes accepted requests on to `app`."""

    def __init__(
        self, app: App, name: str, shape: tuple[int, int], max_bytes: int, hosts: Sequence[str] = LOCAL, token: str = ""
    ) -> None:
        """Guard `app`, whose only input `name` is uint8 `(n, *shape)`.

        Args:
            max_bytes: the largest request body.
            hosts: the host names that requests may use.
            token: required as `Authorization: Bearer`; empty requires none.
        """
        self.app, self.name, self.shape, self.max_bytes = app, name, shape, max_bytes
        self.hosts, self.token = hosts, token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
            check_origin(headers, self.hosts)
            if self.token and scope["path"] not in _OPEN:
                check_token(headers.get("authorization", ""), self.token)
            if scope["path"] == "/invocations":
                body = await self._body(receive)
                check_body(headers.get("content-type", ""), body, self.name, self.shape)
                receive = _replayed(body, receive)
        except RefusedRequestError as refused:
            await _answer(send, refused.status, str(refused))
            return
        await self.app(scope, receive, send)

    async def _body(self, receive: Receive) -> bytes:
        """Read the body; stop as soon as it is too long."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_bytes:
                raise RefusedRequestError(413, f"expected at most {self.max_bytes:,} bytes (serve.max_bytes), found more")
        return body


def check_origin(headers: MutableMapping[str, str], hosts: Sequence[str] = LOCAL) -> None:
    """Refuse requests that a page of another site makes a browser send (DNS rebinding, cross-site requests)."""
    host = _split(f"//{headers.get('host', '')}").hostname
    if host not in hosts:
        raise RefusedRequestError(403, f"expected the host {' or '.join(hosts)}, found {host}")
    origin = headers.get("origin")
    if origin is not None and _split(origin).netloc != headers["host"]:
        raise RefusedRequestError(403, f"expected no request of another site, found one of {origin}")


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise RefusedRequestError(400, f"expected an address, found {address}") from error


def check_token(given: str, token: str) -> None:
    """Refuse requests without the token. The comparison takes constant time."""
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise RefusedRequestError(401, "expected Authorization: Bearer and the token of this server")


def check_body(content_type: str, body: bytes, name: str, shape: tuple[int, int]) -> None:
    """Refuse a body that is not JSON with images of integer pixels from 0 to 255 under one of MLflow's fields."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise RefusedRequestError(415, f"expected Content-Type: application/json, found {content_type or 'none'}")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedRequestError(400, f"expected JSON, found {error}") from error
    if not isinstance(content, dict) or len(fields := [field for field in _FIELDS if field in content]) != 1:
        raise RefusedRequestError(400, f'expected {{"inputs": {{"{name}": [...]}}}}, found another content')
    given = content[fields[0]]
    images = given.get(name) if isinstance(given, dict) else given
    _check_images(images, shape)


def _check_images(images: Any, shape: tuple[int, int]) -> None:
    expected = f"whole numbers of 0 to 255 of shape (n, {shape[0]}, {shape[1]})"
    try:
        array = np.array(images)
    except (ValueError, RecursionError) as error:
        raise RefusedRequestError(400, f"expected {expected}, found lists of different lengths") from error
    if array.dtype.kind not in "iu":
        raise RefusedRequestError(400, f"expected {expected}, found {_kind(array)}")
    if array.ndim != 3 or array.shape[1:] != shape or not len(array):
        raise RefusedRequestError(400, f"expected {expected}, found shape {array.shape}")
    if int(array.min()) < 0 or int(array.max()) > 255:
        raise RefusedRequestError(400, f"expected {expected}, found {int(array.min())} to {int(array.max())}")
    if _holds_truth(images):
        raise RefusedRequestError(400, f"expected {expected}, found true or false among them")


def _kind(array: Any) -> str:
    return {"f": "numbers with a fraction, or NaN", "b": "true or false", "U": "text"}.get(array.dtype.kind, "something else")


def _holds_truth(images: list[list[list[Any]]]) -> bool:
    """Look for `true` and `false`, which NumPy converts to 1 and 0 among numbers."""
    return any(type(pixel) is bool for image in images for row in image for pixel in row)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return the body that was already read, then any later messages."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _answer(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

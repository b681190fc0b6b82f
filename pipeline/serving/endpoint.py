"""Bring a request over ASGI to the function that answers it: access, size, time, errors and counters."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from time import perf_counter
from typing import Any

from pipeline.core.errors import PipelineError, first_line
from pipeline.serving.exchange import Header, RefusedRequestError, Request, Response, error_response, json_response
from pipeline.serving.service import Service

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handle = Callable[[Request], Response]

_LARGE = 1_000_000  # bytes; reading and predicting them takes so long that other requests must not wait
_AT_ONCE = 2  # of the slow ones: each needs memory


class DisconnectedError(Exception):
    """The client is gone before its request was complete."""


class Endpoint:
    """An ASGI application that answers one route."""

    def __init__(
        self, service: Service, route: str, methods: Sequence[str], handle: Handle, *, health: bool = False, slow: bool = False
    ) -> None:
        """Response requests with one of `methods` by `handle`; without any, requests with every method.

        Args:
            route: its name in the metrics.
            health: neither host nor token is checked.
            slow: run `handle` beside the event loop.
        """
        self._service, self._route, self._handle, self._health, self._slow = service, route, handle, health, slow
        self._methods = methods
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        start, service = perf_counter(), self._service
        served = service.served
        try:
            headers = dict(scope["headers"])
            self._check(scope, headers)
            body = await self._body(headers, receive) if "POST" in self._methods else b""
            served = service.served
            answer = await self._answered(Request(served, scope.get("path_params", {}), headers, body))
        except RefusedRequestError as error:
            service.metrics.refused(error.reason)
            answer = error_response(error)
            if error.status == 405:
                answer = answer._replace(headers=((b"allow", ", ".join(self._methods).encode()),))
        except PipelineError as error:  # of the model, not of the request
            answer = json_response(
                {"error_code": "INTERNAL_ERROR", "message": first_line(error), "error": first_line(error)}, 500
            )
        except DisconnectedError:
            service.metrics.refused("disconnected")
            return
        await _send(send, answer, served.version)
        service.metrics.answered(self._route, answer.status, perf_counter() - start)

    def _check(self, scope: Message, headers: dict[bytes, bytes]) -> None:
        if not self._health:
            self._service.access.check(headers)
        if self._methods and scope["method"] not in self._methods:
            expected = " or ".join(self._methods)
            raise RefusedRequestError(405, "method", f"expected {expected}, found {scope['method']}")
        if (encoding := headers.get(b"content-encoding", b"identity").decode("latin-1")) != "identity":
            raise RefusedRequestError(415, "encoding", f"expected a body without Content-Encoding, found {encoding}")

    async def _answered(self, request: Request) -> Response:
        if not self._slow and len(request.body) < _LARGE:
            return self._handle(request)
        async with self._turn:
            return await asyncio.to_thread(self._handle, request)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Read the body: not at all if it is announced as too long, and never for longer than the limit."""
        limits = self._service.limits
        announced = headers.get(b"content-length", b"0")
        if len(announced) > 18 or not announced.isdigit() or int(announced) > limits.body_bytes:
            raise _too_long(limits.body_bytes)
        try:
            async with asyncio.timeout(limits.body_seconds):
                return await self._received(receive)
        except TimeoutError:
            expected = f"expected the body within {limits.body_seconds:g} s, found it incomplete"
            raise RefusedRequestError(408, "slow", expected) from None

    async def _received(self, receive: Receive) -> bytes:
        service, limits = self._service, self._service.limits
        parts: list[bytes] = []
        size, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise DisconnectedError
                part, more = message.get("body", b""), message.get("more_body", False)
                size += len(part)
                service.held += len(part)
                parts.append(part)
                if size > limits.body_bytes:
                    raise _too_long(limits.body_bytes)
                if service.held > limits.held_bytes:
                    raise RefusedRequestError(
                        503, "busy", "expected memory for the body, found that of other requests: try again"
                    )
        finally:
            service.held -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_long(most: int) -> RefusedRequestError:
    return RefusedRequestError(413, "size", f"expected at most {most:,} bytes (serve.max_bytes), found more")


async def _send(send: Send, answer: Response, version: str) -> None:
    headers: list[Header] = [
        (b"content-type", answer.media_type),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-model-version", version.encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})

"""Decide which requests are answered: by host name, by origin, and by the token of a server that others can reach."""

import hmac
import os
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from pipeline.serving import ports
from pipeline.serving.errors import ExposedError
from pipeline.serving.exchange import RefusedRequestError

LOCAL = ("127.0.0.1", "localhost")
TOKEN = "SERVE_TOKEN"  # environment variable that holds the token  # noqa: S105 - a name, no secret

_SHORTEST = 16  # characters; shorter tokens can be guessed


class Access:
    """What requests must show, but for the health routes, which orchestrators ask by the address of a container."""

    def __init__(self, hosts: tuple[str, ...] = LOCAL, token: str = "") -> None:
        """Accept requests for the names `hosts`. An empty `token` asks for none."""
        self._hosts = hosts
        self._credentials = f"Bearer {token}".encode() if token else b""

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raise RefusedRequestError unless a request with these headers may be answered."""
        check_origin(headers.get(b"host", b""), headers.get(b"origin"), self._hosts)
        if self._credentials and not hmac.compare_digest(headers.get(b"authorization", b""), self._credentials):
            raise RefusedRequestError(401, "token", "expected Authorization: Bearer and the token of this server")


def credentials(host: str, expose: str) -> tuple[tuple[str, ...], str]:
    """Return the host names that requests may use, and the token that they need: none if only this machine is served.

    Raises:
        ExposedError: the server would listen beyond this machine without names or a token.
    """
    if host == ports.HOST:
        return LOCAL, ""
    names, token = tuple(name.strip().lower() for name in expose.split(",") if name.strip()), os.environ.get(TOKEN, "")
    if not names:
        raise ExposedError(host, "--expose and the host names of the server", "none")
    if len(token) < _SHORTEST:
        raise ExposedError(host, f"a token of at least {_SHORTEST} characters in {TOKEN}", f"one of {len(token)}")
    return names, token


@lru_cache(maxsize=1024)  # nearly all requests bring the same
def check_origin(host: bytes, origin: bytes | None, hosts: tuple[str, ...] = LOCAL) -> None:
    """Refuse requests that a page of another site makes a browser send (DNS rebinding, cross-site requests)."""
    name = _split(f"//{host.decode('latin-1')}").hostname
    if name not in hosts:
        raise RefusedRequestError(403, "host", f"expected the host {' or '.join(hosts)}, found {name}")
    if origin is not None and _split(shown := origin.decode("latin-1")).netloc != host.decode("latin-1"):
        raise RefusedRequestError(403, "origin", f"expected no request of another site, found one of {shown}")


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise RefusedRequestError(400, "host", f"expected an address, found {address}") from error

"""Download files over https, with limits on size and time and short reasons for failures."""

import threading
from concurrent import futures
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from tqdm import tqdm

from pipeline.core import console
from pipeline.core.fetch_params import FetchParams
from pipeline.ingestion.errors import SourceRefusedError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CHUNK = 1024  # bytes; small, because a chunk of a slow source is only written when it is complete
_GRACE = 1  # seconds that an abandoned download has to close its file


def download(url: str, name: str, folder: Path, limits: FetchParams) -> Path:
    """Download `url` to a file in `folder`; `name` labels the progress bar.

    Raises:
        SourceRefusedError: it exceeds `limits`, or redirects to an address that is not accepted.
        OSError: any other failure; the errors of requests are OSErrors.
    """
    path = folder / "download"
    with console.progress(name, "B", unit_scale=True) as bar:
        transfer = _Transfer(url, path, limits, bar)
        thread = threading.Thread(target=transfer.run, daemon=True)
        thread.start()
        try:
            futures.wait([transfer.done], limits.deadline)
            if not transfer.done.done():
                raise SourceRefusedError(f"not complete after {limits.deadline:g} s (fetch.deadline)")
            transfer.done.result()
        finally:
            transfer.abandon()
            thread.join(_GRACE)
    return path


class _Transfer:
    """A download that can be abandoned in a thread of its own.

    Name resolution and the head of a response have no time limit in requests: its timeout only limits the wait for one read.
    """

    def __init__(self, url: str, path: Path, limits: FetchParams, bar: "tqdm[Any]") -> None:
        self.url, self.path, self.limits, self.bar = url, path, limits, bar
        self.done: futures.Future[None] = futures.Future()
        self.abandoned = False
        self.response: requests.Response | None = None

    def run(self) -> None:
        try:
            self._download()
            self.done.set_result(None)
        except Exception as error:
            self.done.set_exception(error)

    def _download(self) -> None:
        hooks = {"response": [check_redirect, self._watch]}
        with (
            requests.get(self.url, stream=True, timeout=self.limits.timeout, hooks=hooks) as response,
            self.path.open("wb") as file,
        ):
            response.raise_for_status()
            self.bar.total = int(response.headers.get("content-length", 0)) or None
            for chunk in response.iter_content(_CHUNK):
                if file.tell() + len(chunk) > self.limits.max_bytes:
                    raise SourceRefusedError(f"more than {self.limits.max_bytes:,} bytes (fetch.max_bytes)")
                file.write(chunk)
                self.bar.update(len(chunk))

    def _watch(self, response: requests.Response, **_: Any) -> None:
        self.response = response
        if self.abandoned:
            raise SourceRefusedError("abandoned")
        if response.is_redirect:
            response.close()  # requests would read the whole body, of any length, into memory

    def abandon(self) -> None:
        """End a download that still runs: a source that sends a byte now and then never reaches the read timeout."""
        self.abandoned = True
        if self.response is not None:
            with suppress(ValueError, RuntimeError, OSError):  # the response is already complete
                self.response.raw.shutdown()  # close() would wait for the read in progress


def check_scheme(url: str) -> None:
    """Raise SourceRefusedError unless `url` is https, or http on this machine."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SourceRefusedError("not an address") from error
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise SourceRefusedError(f"{parts.scheme}:// is not accepted: expected https, a file or a folder")


def check_redirect(response: requests.Response, **_: Any) -> None:
    """Refuse a redirect from https to http, or to any other scheme."""
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        check_scheme(target)
        if urlsplit(response.url).scheme == "https" != urlsplit(target).scheme:
            raise SourceRefusedError("redirects from https to http")


def reason(error: BaseException) -> str:
    """The root cause of an error, in a few words and without the URL."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.TooManyRedirects):
        return "redirects without end"
    if isinstance(error, requests.exceptions.InvalidURL):
        return "not an address"
    cause = error
    while below := cause.__cause__ or cause.__context__:
        cause = below
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    return type(error).__name__

"""Downloads: https only, bounded in size and time, and told in a few words when they fail."""

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pooch
import requests
from tqdm import tqdm

from pipeline.core import console
from pipeline.core.params import FetchParams
from pipeline.ingestion.errors import SourceRefusedError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_PARTING = 1  # seconds for a download that was broken off to let go of its file


def download(url: str, name: str, folder: Path, limits: FetchParams) -> Path:
    """The file at `url`, in `folder`; `name` is shown beside the progress.

    Raises:
        SourceRefusedError: it is larger or takes longer than `limits` allow, or it redirects to where it may not.
        OSError: every other failure; requests' errors are OSErrors.
    """
    transfer = _Transfer(name, limits)
    hooks = {"response": [check_redirect, transfer.watch]}
    downloader = pooch.HTTPDownloader(progressbar=transfer, timeout=limits.timeout, hooks=hooks)
    return transfer.run(lambda: pooch.retrieve(url, known_hash=None, fname="download", path=folder, downloader=downloader))


class _Transfer:
    """A download in a thread of its own, which can be left alone when it takes too long.

    Neither resolving a name nor reading the head of a response has a time limit in all; only the wait between two reads has.
    It is also the progress bar that pooch drives.
    """

    def __init__(self, name: str, limits: FetchParams) -> None:
        self.limits = limits
        self.total = 0
        self.received = 0
        self.bar: tqdm[Any] = console.progress(name, "B", unit_scale=True)
        self.response: requests.Response | None = None
        self.over = False
        self.path: str | None = None
        self.error: Exception | None = None

    def run(self, retrieve: Callable[[], str]) -> Path:
        """Wait for what `retrieve` returns, but not longer than the deadline."""
        thread = threading.Thread(target=self._keep, args=(retrieve,), daemon=True)
        thread.start()
        try:
            thread.join(self.limits.deadline)
            late = thread.is_alive()
        finally:
            self._break_off()
            thread.join(_PARTING)
            self.bar.close()
        if late:
            raise SourceRefusedError(f"not complete after {self.limits.deadline:g} s (fetch.deadline)")
        if self.error is not None:
            raise self.error
        return Path(str(self.path))

    def _keep(self, retrieve: Callable[[], str]) -> None:
        try:
            self.path = retrieve()
        except Exception as error:
            self.error = error

    def watch(self, response: requests.Response, **_: Any) -> None:
        """Have the deadline end this response: a source that drips never exceeds the time between two reads."""
        self.response = response
        if self.over:
            raise SourceRefusedError("nobody waits for it any more")
        if response.is_redirect:
            response.close()  # requests would read the whole body, of any length, into memory before it goes on

    def _break_off(self) -> None:
        self.over = True
        if self.response is not None:
            with suppress(ValueError, RuntimeError, OSError):  # the response is already complete
                self.response.raw.shutdown()  # close() would wait for the very read that it is to end

    def update(self, size: int) -> None:
        self.received += size
        if self.received - size > self.limits.max_bytes:  # pooch counts the last, shorter chunk in full
            raise SourceRefusedError(f"more than {self.limits.max_bytes:,} bytes (fetch.max_bytes)")
        self.bar.total = self.total
        self.bar.update(size)

    def reset(self) -> None:
        """Pooch rewinds the bar, then completes it."""
        self.received = 0
        self.bar.reset()

    def close(self) -> None:
        """Pooch is done with the bar."""


def check_scheme(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SourceRefusedError("not an address") from error
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise SourceRefusedError(f"{parts.scheme}:// is not accepted: expected https, a file or a folder")


def check_redirect(response: requests.Response, **_: Any) -> None:
    """Refuse to follow a redirect from https to anything less."""
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        check_scheme(target)
        if urlsplit(response.url).scheme == "https" != urlsplit(target).scheme:
            raise SourceRefusedError("redirects from https to http")


def reason(error: BaseException) -> str:
    """The cause at the bottom of a chain of wrapped errors, in a few words and without the URL."""
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

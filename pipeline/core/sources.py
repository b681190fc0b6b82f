"""Where data files come from: https addresses, folders, and single files."""

import gzip
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast
from urllib.parse import urljoin, urlsplit, urlunsplit

import pooch
import requests
from tqdm import tqdm

from pipeline.core import console
from pipeline.core.errors import SourceRefusedError
from pipeline.core.params import FetchParams

_GZIP = b"\x1f\x8b"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_url(source: str) -> bool:
    return "://" in source


def unreachable(sources: Sequence[str], timeout: float) -> dict[str, str]:
    """Ask every URL among `sources` at once, and return the reason for each that did not answer within `timeout` seconds.

    Threads, because resolving a name has no timeout of its own: a dead network costs `timeout` in all and no more.
    """
    reasons = {source: f"no answer in {timeout:g} s" for source in sources if is_url(source)}

    def ask(source: str) -> None:
        try:
            _check_scheme(source)
            requests.head(source, timeout=timeout, hooks={"response": _check_redirect}).close()
            reasons.pop(source, None)
        except SourceRefusedError as error:
            reasons[source] = str(error)
        except (OSError, ValueError) as error:
            reasons[source] = _reason(error)

    threads = [threading.Thread(target=ask, args=(source,), daemon=True) for source in tuple(reasons)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(reasons)


@contextmanager
def opened(source: str, name: str, limits: FetchParams) -> Iterator[BinaryIO | None]:
    """Open the file `name` at `source` for reading, decompressed; None where the source does not hold it.

    A source is a folder, or a single file: that whose name it bears, with or without `.gz`.

    Raises:
        SourceRefusedError: the source is down, slow, or sends what is not the file; also while the stream is read.
    """
    try:
        with TemporaryDirectory(prefix="fetch-") as folder:
            raw = _open(source, name, Path(folder), limits)
            if raw is None:
                yield None
                return
            with raw:
                compressed = raw.read(2) == _GZIP
                raw.seek(0)
                yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if compressed else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceRefusedError(f"truncated or corrupt gzip data ({error})") from error


def _open(source: str, name: str, folder: Path, limits: FetchParams) -> BinaryIO | None:
    try:
        path = _download(source, name, folder, limits) if is_url(source) else _find(Path(source), name)
        return path.open("rb") if path else None
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise SourceRefusedError(_reason(error)) from error


def _spellings(name: str) -> tuple[str, str]:
    return f"{name}.gz", name


def _find(source: Path, name: str) -> Path | None:
    if source.is_file():
        return source if source.name in _spellings(name) else None
    if not source.is_dir():
        raise SourceRefusedError("no such file or folder")
    return next((source / spelling for spelling in _spellings(name) if (source / spelling).is_file()), None)


def _candidates(source: str, name: str, names: Sequence[str]) -> tuple[str, ...]:
    """The addresses at which `source` may hold the file `name`, where it may as well be one of the files `names`."""
    parts = urlsplit(source)
    folder = parts.path.rstrip("/")
    last = folder.rpartition("/")[2]
    if last in _spellings(name):
        return (source,)
    if any(last in _spellings(other) for other in names):
        return ()
    return tuple(urlunsplit(parts._replace(path=f"{folder}/{spelling}")) for spelling in _spellings(name))


def _download(source: str, name: str, folder: Path, limits: FetchParams) -> Path | None:
    forbidden = None
    for url in _candidates(source, name, [file.name for _, file in limits.files]):
        try:
            with _Guard(name, limits) as guard:
                downloader = pooch.HTTPDownloader(
                    progressbar=guard, timeout=limits.timeout, hooks={"response": [_check_redirect, guard.watch]}
                )
                return Path(pooch.retrieve(url, known_hash=None, fname="download", path=folder, downloader=downloader))
        except requests.HTTPError as error:
            status = None if error.response is None else error.response.status_code
            if status == requests.codes.forbidden:  # S3's answer for what is absent, too
                forbidden = error
            elif status != requests.codes.not_found:
                raise
    if forbidden:
        raise forbidden
    return None


class _Guard:
    """The progress bar that pooch drives, which also ends a download that is too large or takes too long."""

    def __init__(self, name: str, limits: FetchParams) -> None:
        self.limits = limits
        self.total = 0
        self.received = 0
        self.bar: tqdm[Any] = console.progress(name, "B", unit_scale=True)
        self.response: requests.Response | None = None
        self.late = False
        self.timer = threading.Timer(limits.deadline, self._break_off)
        self.timer.daemon = True

    def __enter__(self) -> "_Guard":
        self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self.late:
            raise SourceRefusedError(f"not complete after {self.limits.deadline:g} s (fetch.deadline)")

    def watch(self, response: requests.Response, **_: Any) -> None:
        """Have the deadline end this response: a source that drips never exceeds the time between two reads."""
        self.response = response
        if self.late:
            self._break_off()

    def _break_off(self) -> None:
        self.late = True
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
        self.timer.cancel()
        self.bar.close()


def _check_scheme(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SourceRefusedError("not an address") from error
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise SourceRefusedError(f"{parts.scheme}:// is not accepted: expected https, a file or a folder")


def _check_redirect(response: requests.Response, **_: Any) -> None:
    """Refuse to follow a redirect from https to anything less."""
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        _check_scheme(target)
        if urlsplit(response.url).scheme == "https" != urlsplit(target).scheme:
            raise SourceRefusedError("redirects from https to http")


def _reason(error: BaseException) -> str:
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

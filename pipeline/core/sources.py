"""Where data files come from: https addresses, folders, and single files."""

import gzip
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast
from urllib.parse import urljoin, urlsplit

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
        except (requests.RequestException, ValueError) as error:
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

    A source whose last part is the name, with or without `.gz`, is that one file; any other is the folder it stands in.

    Raises:
        SourceRefusedError: the source is down, slow, or sends what is not the file; also while the stream is read.
    """
    try:
        with TemporaryDirectory(prefix="fetch-") as folder:
            path = _download(source, name, Path(folder), limits) if is_url(source) else _find(source, name)
            if path is None:
                yield None
                return
            with path.open("rb") as raw:
                compressed = raw.read(2) == _GZIP
                raw.seek(0)
                yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if compressed else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceRefusedError(f"truncated or corrupt gzip data ({error})") from error


def _candidates(source: str, name: str) -> tuple[str, ...]:
    folder = source.rstrip("/")
    if folder.rpartition("/")[2] in (name, f"{name}.gz"):
        return (folder,)
    return (f"{folder}/{name}.gz", f"{folder}/{name}")


def _find(source: str, name: str) -> Path | None:
    if not Path(source).exists():
        raise SourceRefusedError("no such file or folder")
    return next((Path(candidate) for candidate in _candidates(source, name) if Path(candidate).is_file()), None)


def _download(source: str, name: str, folder: Path, limits: FetchParams) -> Path | None:
    for url in _candidates(source, name):
        guard = _Guard(name, limits)
        downloader = pooch.HTTPDownloader(
            progressbar=guard, timeout=limits.timeout, hooks={"response": [_check_redirect, guard.watch]}
        )
        try:
            return Path(pooch.retrieve(url, known_hash=None, fname="download", path=folder, downloader=downloader))
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code == requests.codes.not_found:
                continue
            raise SourceRefusedError(_reason(error)) from error
        except (requests.RequestException, OSError, ValueError) as error:
            raise SourceRefusedError(_reason(error)) from error
        finally:
            guard.close()
    return None


class _Guard:
    """The progress bar that pooch drives, which also ends a download that is too large or takes too long."""

    def __init__(self, name: str, limits: FetchParams) -> None:
        self.limits = limits
        self.total = 0
        self.received = 0
        self.bar: tqdm[Any] = console.progress(name, "B", unit_scale=True)
        self.timer: threading.Timer | None = None

    def watch(self, response: requests.Response, **_: Any) -> None:
        """Break the connection off at the deadline: a source that drips never exceeds the time between two reads."""
        self.timer = threading.Timer(self.limits.deadline, response.raw.close)
        self.timer.daemon = True
        self.timer.start()

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
        if self.timer:
            self.timer.cancel()
        self.bar.close()


def _check_scheme(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise SourceRefusedError(f"{parts.scheme}:// is not accepted: expected https, a file or a folder")


def _check_redirect(response: requests.Response, **_: Any) -> None:
    """Refuse to follow a redirect from https to anything less."""
    if response.is_redirect:
        _check_scheme(urljoin(response.url, response.headers["location"]))


def _reason(error: Exception) -> str:
    """The last of a chain of wrapped network errors, which names the cause, in a few words and without the URL."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.TooManyRedirects):
        return "redirects without end"
    if isinstance(error, requests.ConnectionError):
        return "no connection, or it broke off"
    return type(error).__name__

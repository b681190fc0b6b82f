"""Open data files at a source: an https address, a folder, or a single file."""

import gzip
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, cast
from urllib.parse import urlsplit, urlunsplit

import requests

from pipeline.core.fetch_params import FetchParams
from pipeline.ingestion import downloads
from pipeline.ingestion.errors import SourceRefusedError

_GZIP = b"\x1f\x8b"
# An address that ends like this is a data set in one file. All others are folders of IDX files, or one of them.
_DATA_SUFFIXES = (".bz2", ".csv", ".csv.gz", ".npz", ".parquet", ".tar", ".tar.gz", ".tar.xz", ".tgz", ".tsv", ".zip")


def is_url(source: str) -> bool:
    return "://" in source


def unreachable(sources: Sequence[str], timeout: float) -> dict[str, str]:
    """Ask all URLs among `sources` at once; return the reason for each that does not answer within `timeout` seconds.

    Threads, because name resolution has no timeout: a dead network costs `timeout` seconds in total.
    """
    reasons = {source: f"no answer in {timeout:g} s" for source in sources if is_url(source)}

    def ask(source: str) -> None:
        try:
            downloads.check_scheme(source)
            requests.head(source, timeout=timeout, hooks={"response": downloads.check_redirect}).close()
            reasons.pop(source, None)
        except SourceRefusedError as error:
            reasons[source] = str(error)
        except (OSError, ValueError) as error:
            reasons[source] = downloads.reason(error)

    threads = [threading.Thread(target=ask, args=(source,), daemon=True) for source in tuple(reasons)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(reasons)


class Probe:
    """Knows which URLs answer. Asks all at once when the first is needed, see `unreachable`."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.reasons: dict[str, str] = {}
        self.asked: set[str] = set()

    def refusal(self, source: str, upcoming: Sequence[str]) -> str | None:
        """The reason why `source` cannot be used, or None; `upcoming` are sources that may be needed later."""
        if is_url(source) and source not in self.asked:
            asked = {source, *upcoming} - self.asked
            self.asked |= asked
            self.reasons |= unreachable(sorted(asked), self.timeout)
        return self.reasons.get(source)


@contextmanager
def opened(source: str, name: str, limits: FetchParams) -> Iterator[BinaryIO | None]:
    """Open the file `name` at `source` for reading, decompressed; None if the source does not have it.

    A source is a folder, or a single file that is named `name`, with or without `.gz`.

    Raises:
        SourceRefusedError: the source fails, is slow, or sends something else; also while the stream is read.
    """
    try:
        with TemporaryDirectory(prefix="fetch-", ignore_cleanup_errors=True) as folder:
            raw = _open(source, name, Path(folder), limits)
            if raw is None:
                yield None
                return
            with raw:
                compressed = raw.read(2) == _GZIP
                raw.seek(0)
                packed = cast(BinaryIO, _WithDeadline(raw, limits.deadline)) if is_url(source) else raw
                yield cast(BinaryIO, gzip.GzipFile(fileobj=packed)) if compressed else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceRefusedError(f"truncated or corrupt gzip data ({error})") from error


def names_idx(source: str, params: FetchParams) -> bool:
    """Whether the four IDX files that `fetch.files` names are expected at `source`, and not a data set in another layout."""
    names = [file.name for _, file in params.files]
    if is_url(source):
        last = urlsplit(source).path.rpartition("/")[2]
        return any(last in _spellings(name) for name in names) or not last.lower().endswith(_DATA_SUFFIXES)
    path = Path(source)
    if path.is_dir():
        return any((path / spelling).exists() for name in names for spelling in _spellings(name))
    return not path.exists() or any(path.name in _spellings(name) for name in names)


@contextmanager
def local(source: str, folder: Path, limits: FetchParams) -> Iterator[Path]:
    """The file or folder at a source: an https address is downloaded to a new folder in `folder` first.

    Raises:
        SourceRefusedError: the source fails, or is slow.
    """
    if not is_url(source):
        if not Path(source).exists():
            raise SourceRefusedError("no such file or folder")
        yield Path(source)
        return
    name = urlsplit(source).path.rpartition("/")[2] or "download"
    with TemporaryDirectory(prefix="source-", dir=folder, ignore_cleanup_errors=True) as below:
        try:
            path = downloads.download(source, name, Path(below), limits)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            raise SourceRefusedError(downloads.reason(error)) from error
        yield path.rename(path.with_name(name))


class _WithDeadline:
    """A file to decompress by a deadline: gzip reads names, padding and empty members of any length byte by byte."""

    def __init__(self, raw: BinaryIO, deadline: float) -> None:
        self._deadline, self._end = deadline, time.monotonic() + deadline
        self._raw = raw
        self.seek = raw.seek

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() > self._end:
            raise SourceRefusedError(f"not unpacked after {self._deadline:g} s (fetch.deadline)")
        return self._raw.read(size)


def _open(source: str, name: str, folder: Path, limits: FetchParams) -> BinaryIO | None:
    try:
        path = _download(source, name, folder, limits) if is_url(source) else _find(Path(source), name)
        return path.open("rb") if path else None
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise SourceRefusedError(downloads.reason(error)) from error


def _spellings(name: str) -> tuple[str, str]:
    return f"{name}.gz", name


def _find(source: Path, name: str) -> Path | None:
    if source.is_file():
        return source if source.name in _spellings(name) else None
    if not source.is_dir():
        raise SourceRefusedError("no such file or folder")
    return next((source / spelling for spelling in _spellings(name) if (source / spelling).is_file()), None)


def _candidates(source: str, name: str, names: Sequence[str]) -> tuple[str, ...]:
    """The URLs to try for the file `name`; none if `source` is the URL of another one of the files `names`."""
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
            return downloads.download(url, name, folder, limits)
        except requests.HTTPError as error:
            status = None if error.response is None else error.response.status_code
            if status == requests.codes.forbidden:  # S3 also answers this for a missing file
                forbidden = error
            elif status != requests.codes.not_found:
                raise
    if forbidden:
        raise forbidden
    return None

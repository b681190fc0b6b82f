"""Unpack zip and tar archives, bounded in size, and never outside of the folder."""

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from pipeline.core.errors import first_line
from pipeline.data import folders
from pipeline.ingestion.samples import LayoutError

_CHUNK = 1 << 20
_MOST_MEMBERS = 20_000_000


class _Member(NamedTuple):
    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


def is_archive(path: Path) -> bool:
    """Whether `path` is a zip or tar archive, by its content. An npz file, a zip of arrays, is none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(not name.endswith(".npy") for name in archive.namelist())
    try:
        return path.stat().st_size > 0 and tarfile.is_tarfile(path)
    except (OSError, EOFError, ValueError):
        return False


def unpack(path: Path, folder: Path, max_bytes: int) -> None:
    """Unpack the archive `path` into the empty `folder`.

    Raises:
        LayoutError: a name leads out of the folder, a member is a link or a device, two names are one file on this disk,
            it is encrypted, damaged, or larger than `max_bytes`.
    """
    left, members, written = max_bytes, 0, set[Path]()
    try:
        for member in _members(path):
            members += 1
            target = _target(path, member.name, folder)
            if target is None:
                continue
            if member.size > left or members > _MOST_MEMBERS:
                raise _too_large(path, max_bytes)
            if target.exists() and target not in written:
                expected = "names that differ in more than their case, because this disk does not tell them apart"
                raise LayoutError(path, expected, member.name)
            written.add(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            left -= _copy(path, member, target, min(left, member.size), max_bytes)
    except LayoutError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise LayoutError(path, "a complete archive", first_line(error)) from error


def _members(path: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield _Member(info.filename, info.file_size, lambda info=info: archive.open(info))  # type: ignore[misc]
        return
    with tarfile.open(path) as tar:
        for entry in tar:
            if not (entry.isfile() or entry.isdir()):
                raise LayoutError(path, "files and folders in the archive", f"the link or device {entry.name!r}")
            if entry.isfile():
                yield _Member(entry.name, entry.size, lambda entry=entry: tar.extractfile(entry))  # type: ignore[misc]


def _target(path: Path, name: str, folder: Path) -> Path | None:
    """Where a member goes; None if it holds no data."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or ".." in parts or parts[0].startswith("/") or ":" in parts[0]:
        raise LayoutError(path, "names that stay within the archive", f"{name!r}, so nothing was unpacked")
    return None if any(map(folders.holds_no_data, parts)) else folder.joinpath(*parts)


def _copy(path: Path, member: _Member, target: Path, most: int, max_bytes: int) -> int:
    content = member.open()
    if content is None:
        return 0
    written = 0
    with closing(content), target.open("wb") as out:
        while chunk := content.read(_CHUNK):
            written += len(chunk)
            if written > most:  # more than the archive's directory says
                raise _too_large(path, max_bytes)
            out.write(chunk)
    return written


def _too_large(path: Path, max_bytes: int) -> LayoutError:
    return LayoutError(path, f"an archive of at most {max_bytes:,} bytes unpacked (fetch.max_bytes)", "more")

"""Atomic writes: a file is complete or absent. It is written beside its final path, flushed to disk, then renamed."""

import csv
import errno
import gzip
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from pipeline.core import processes
from pipeline.core.errors import MissingInputError, UnusableInputError

_PART = re.compile(r"\..*\.(\d+)\.part.*")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends, the file there replaces `path`. If the block raises, it is removed.

    The temporary name keeps the suffix, from which Keras and ONNX derive the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(path)
    try:
        yield part
        _flush(part)
        os.replace(part, path)
        _flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Like `replacing`, for a folder: yield an empty one to fill. For a moment, neither the old nor the new one exists."""
    with scratch(path) as part, scratch(path.with_name(f"{path.name}.old")) as old:
        yield part
        for written in (*part.rglob("*"), part):
            _flush(written)
        if path.is_dir():
            path.rename(old)
        elif path.exists():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        part.rename(path)
        _flush(path.parent)


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, on the same disk; it is removed when the block ends."""
    part = _beside(path)
    part.mkdir(parents=True)
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def _flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard_parts(folder: Path, deep: bool = True) -> None:
    """Remove the temporary files of this process and of processes that are gone from `folder`.

    Args:
        folder: where to look; it may be missing.
        deep: whether to look into subfolders.
    """
    for above, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            if (found := _PART.fullmatch(name)) and (int(found[1]) == os.getpid() or not processes.is_alive(int(found[1]))):
                left = Path(above, name)
                if name in folders:
                    folders.remove(name)
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)
        if not deep:
            break


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write JSON with a fixed layout: equal content gives equal bytes. NaN raises ValueError, because JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raise MissingInputError if `path` does not exist, UnusableInputError if it is not JSON."""
    try:
        return json.loads(require(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UnusableInputError(path, "JSON", f"{error.msg} in line {error.lineno}") from error
    except UnicodeDecodeError as error:
        raise UnusableInputError(path, "JSON", "bytes that are not text") from error


def require(path: Path) -> Path:
    """Return `path`, or raise MissingInputError if the file does not exist."""
    if not path.is_file():
        raise MissingInputError(path)
    return path


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of the file's bytes."""
    with require(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """Hexadecimal MD5 of the file's bytes, which DVC uses as its name in the cache."""
    with require(path).open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed with gzip, by its content."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def open_decompressed(path: Path) -> BinaryIO:
    """Open a file to read its bytes, decompressed if it is a gzip file, whatever its name."""
    return cast(BinaryIO, gzip.open(path) if is_gzip(path) else path.open("rb"))

"""Files that are whole or absent: written beside their place, flushed to disk, then renamed."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core.errors import MissingInputError, UnusableInputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the place of `path` when the block ends well, else it is removed.

    The temporary name keeps the suffix, by which Keras and ONNX choose a format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        descriptor = os.open(part, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """Write `content` with a fixed layout, so that equal content is equal bytes. NaN is refused: it is not JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raise MissingInputError when `path` is absent, UnusableInputError when it is not JSON."""
    try:
        return json.loads(require(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UnusableInputError(path, "JSON", f"{error.msg} in line {error.lineno}") from error
    except UnicodeDecodeError as error:
        raise UnusableInputError(path, "JSON", "bytes that are not text") from error


def require(path: Path) -> Path:
    """Return `path`, or raise MissingInputError when there is no such file."""
    if not path.is_file():
        raise MissingInputError(path)
    return path


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of the file's bytes."""
    with require(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: Path) -> str:
    """Hexadecimal MD5 of the file's bytes, by which DVC names it."""
    with require(path).open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()

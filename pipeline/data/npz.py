"""Read npz files, the zip archives of arrays that `numpy.savez` writes, without unpickling anything."""

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import first_line
from pipeline.data import idx
from pipeline.data.errors import IdxError, MissingArrayError
from pipeline.data.idx import Hashed, Pixels

# The methods that NumPy writes. With others, the size of one decompressed read has no bound.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LISTED = 5
_MOST_AT_ONCE = 1 << 20  # bytes; arrays are read in pieces of that size
_CORRUPT = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def decode(stream: BinaryIO, npys: Mapping[str, tuple[int, Path]], max_bytes: int) -> dict[str, Hashed]:
    """Copy uint8 arrays of an npz file to `.npy` files, in constant memory.

    Args:
        npys: the number of dimensions and the `.npy` file of each array, by its name in the npz file.
        max_bytes: the largest size of one array, uncompressed.

    Raises:
        IdxError: it is not an npz file, lacks an array, or an array has another type or number of dimensions.
    """
    with _opened(stream) as archive:
        names = _names(archive)
        if not npys.keys() <= set(names):
            raise MissingArrayError(f"arrays named {' and '.join(npys)}", _listed(names))
        return {name: _decode(archive, name, *target, max_bytes) for name, target in npys.items()}


def read(stream: BinaryIO, name: str, max_bytes: int) -> Pixels:
    """Read the only uint8 array of an npz file, or the one called `name`, of up to `max_bytes` uncompressed.

    Raises:
        IdxError: it is not an npz file, lacks the array, or the array has another type.
    """
    with _opened(stream) as archive:
        names = _names(archive)
        if len(names) != 1 and name not in names:
            raise IdxError(f"one array, or one named {name}", _listed(names))
        name = names[0] if len(names) == 1 else name
        with _member(archive, name) as content:
            shape = _read_shape(content, name)
            if (length := math.prod(shape)) > max_bytes:
                raise IdxError(f"{name} of at most {max_bytes:,} bytes", f"a header that announces {length:,}")
            found = b"".join(_pieces(content, length + 1))
    if len(found) != length:
        raise IdxError(f"{length:,} bytes for shape {shape}", f"{len(found):,}" if len(found) < length else "more")
    return np.frombuffer(found, np.uint8).reshape(shape)


def names(stream: BinaryIO) -> list[str]:
    """The names of the arrays in an npz file, or IdxError if it is none."""
    with _opened(stream) as archive:
        return _names(archive)


def extract(stream: BinaryIO, name: str, npy: Path, max_bytes: int) -> npt.NDArray[Any]:
    """Copy an array of any type of numbers or text to the file `npy`, in constant memory, and map it.

    Raises:
        IdxError: it is larger than `max_bytes`, damaged, or of Python objects (a pickle), which are never loaded.
    """
    with _opened(stream) as archive, _member(archive, name) as content, npy.open("wb") as out:
        for piece in _pieces(content, max_bytes + 1):
            out.write(piece)
        if out.tell() > max_bytes:
            raise IdxError(f"{name} of at most {max_bytes:,} bytes (fetch.max_bytes)", "more")
    try:
        array: npt.NDArray[Any] = np.load(npy, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "object" in str(error).casefold():
            raise IdxError(f"{name} as an array of numbers", "Python objects (a pickle), which are never loaded") from error
        raise IdxError(f"{name} as an array of numbers", first_line(error)) from error
    except Exception as error:  # NumPy evaluates the header as Python, so a damaged one can raise anything
        raise IdxError(f"{name} as an array of numbers", first_line(error)) from error
    return array


def _pieces(content: IO[bytes], most: int) -> Iterator[bytes]:
    while most and (piece := content.read(min(most, _MOST_AT_ONCE))):
        yield piece
        most -= len(piece)


@contextmanager
def _opened(stream: BinaryIO) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], _Bounded(stream)))
    except Exception as error:  # a damaged directory can make zipfile raise anything
        raise _corrupt(error) from error
    try:
        with archive:
            yield archive
    except _CORRUPT as error:
        raise _corrupt(error) from error


def _corrupt(error: Exception) -> IdxError:
    return IdxError("an npz file", f"a truncated or corrupt zip archive ({error})")


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _listed(names: Sequence[str]) -> str:
    return (", ".join(map(repr, names[:_LISTED])) or "none") + (", …" if len(names) > _LISTED else "")


def _decode(archive: zipfile.ZipFile, name: str, dimensions: int, npy: Path, max_bytes: int) -> Hashed:
    with _member(archive, name) as stream:
        shape = _read_shape(stream, name)
        if len(shape) != dimensions:
            raise IdxError(f"{name} of {dimensions} dimension(s)", f"shape {shape}")
        return idx.decode(cast(BinaryIO, _Chained(idx.header(shape), stream)), dimensions, npy, max_bytes)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in _METHODS or member.flag_bits & 1:
        raise IdxError(f"{name} stored or deflated, as numpy.savez writes it", "another compression or an encryption")
    try:
        return archive.open(member)
    except (ValueError, OSError) as error:  # the offset lies outside the file
        raise IdxError("an npz file", f"a zip archive with {name} nowhere") from error


def _read_shape(stream: IO[bytes], name: str) -> tuple[int, ...]:
    """Read the header of the array at the current position of `stream`; return its shape."""
    try:
        version = np.lib.format.read_magic(stream)
        # Later versions have no bound on the length of the header, and NumPy reads all of it.
        shape, transposed, dtype = np.lib.format.read_array_header_1_0(stream) if version == (1, 0) else ((), False, None)
        idx.header(shape)
    except _CORRUPT:
        raise
    except Exception as error:  # NumPy evaluates the header as Python, so a damaged one can raise anything
        raise IdxError(f"{name} in .npy format", "a header that is none") from error
    if dtype is None:
        raise IdxError(f"{name} in .npy format 1.0", "format {}.{}".format(*version))
    if dtype.hasobject:
        raise IdxError(f"{name} of uint8", "Python objects (a pickle), which are never loaded")
    if dtype != np.uint8:
        raise IdxError(f"{name} of uint8", str(dtype))
    if transposed:
        raise IdxError(f"{name} row by row, as numpy.ascontiguousarray gives them", "the order of Fortran")
    return tuple(shape)


class _Bounded:
    """A file that limits the size of one read: zipfile would read a directory of any size at once."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_AT_ONCE:
            raise zipfile.BadZipFile("a directory of more than a megabyte")
        return self._stream.read(size)


class _Chained:
    """A header followed by a stream."""

    def __init__(self, header: bytes, rest: IO[bytes]) -> None:
        self.header = header
        self.rest = rest

    def read(self, size: int) -> bytes:
        taken, self.header = self.header[:size], self.header[size:]
        return taken or self.rest.read(size)

"""npz files, as `numpy.savez` writes them: zip archives of arrays. They are read without unpickling anything."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np

from pipeline.core import idx
from pipeline.core.errors import IdxError
from pipeline.core.idx import Decoded

# What numpy writes. The others decompress without a bound on what one read gives.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LISTED = 5
_CORRUPT = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def decode(stream: BinaryIO, npys: Mapping[str, tuple[int, Path]], max_bytes: int) -> dict[str, Decoded]:
    """Copy uint8 arrays of an npz file to `.npy` files, in constant memory.

    Args:
        npys: of each array, by its name in the file, the number of dimensions and where it goes.
        max_bytes: of one array, decompressed.

    Raises:
        IdxError: it is no npz file, lacks an array, or holds another type or number of dimensions.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            if not npys.keys() <= set(names):
                found = ", ".join(map(repr, names[:_LISTED])) or "none"
                raise IdxError(f"arrays named {' and '.join(npys)}", found + (", …" if len(names) > _LISTED else ""))
            return {name: _decode(archive, name, *target, max_bytes) for name, target in npys.items()}
    except _CORRUPT as error:
        raise IdxError("an npz file", f"a truncated or corrupt zip archive ({error})") from error


def _decode(archive: zipfile.ZipFile, name: str, dimensions: int, npy: Path, max_bytes: int) -> Decoded:
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in _METHODS or member.flag_bits & 1:
        raise IdxError(f"{name} stored or deflated, as numpy.savez writes it", "another compression or an encryption")
    try:
        opened = archive.open(member)
    except (ValueError, OSError) as error:  # of seeking to where there is nothing
        raise IdxError("an npz file", f"a zip archive with {name} nowhere") from error
    with opened as stream:
        shape = _read_shape(stream, name)
        if len(shape) != dimensions:
            raise IdxError(f"{name} of {dimensions} dimension(s)", f"shape {shape}")
        return idx.decode(cast(BinaryIO, _Chained(idx.header(shape), stream)), dimensions, npy, max_bytes)


def _read_shape(stream: IO[bytes], name: str) -> tuple[int, ...]:
    """The shape of the array whose bytes come next in `stream`, once its header is read."""
    try:
        version = np.lib.format.read_magic(stream)
        # Later versions have no bound on the length of the header, and numpy reads it whole.
        shape, transposed, dtype = np.lib.format.read_array_header_1_0(stream) if version == (1, 0) else ((), False, None)
        idx.header(shape)
    except _CORRUPT:
        raise
    except Exception as error:  # numpy reads the header as Python, so a damaged one fails in as many ways as Python has
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


class _Chained:
    """A header and what follows it, to be read as one."""

    def __init__(self, header: bytes, rest: IO[bytes]) -> None:
        self.header = header
        self.rest = rest

    def read(self, size: int) -> bytes:
        taken, self.header = self.header[:size], self.header[size:]
        return taken or self.rest.read(size)

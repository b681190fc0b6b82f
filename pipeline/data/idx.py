"""IDX files of uint8 and the `.npy` files that they are decoded to.

An array is identified by the SHA-256 of its uncompressed IDX file, whatever file it is stored in.
The format: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
"""

import hashlib
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from pipeline.data.errors import IdxError

_UINT8 = 0x08  # the code of the element type
_CHUNK = 1 << 20  # bytes read at a time

ALL = slice(None)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Hashed:
    """The shape of an array, and the SHA-256 of its IDX file."""

    shape: tuple[int, ...]
    sha256: str
    digest: Any = field(default=None, compare=False, repr=False)  # hashlib's object, to hash another file after this one


def decode(stream: BinaryIO, dimensions: int, npy: Path, max_bytes: int) -> Hashed:
    """Copy an uncompressed IDX stream of uint8 to the `.npy` file at `npy`, in constant memory.

    The header decides how many bytes are read; `max_bytes` limits what the header may announce.

    Raises:
        IdxError: the magic number, element type, number of dimensions or length is wrong.
    """
    magic = _read(stream, 4, "an IDX header")
    zeros, kind, found = struct.unpack(">HBB", magic)
    if zeros != 0 or found == 0:
        raise IdxError("the magic number of an IDX file", f"bytes {magic.hex(' ')}")
    if kind != _UINT8:
        raise IdxError("elements of type uint8 (0x08)", f"type 0x{kind:02x}")
    if found != dimensions:
        raise IdxError(f"{_meaning(dimensions)} of {dimensions} dimension(s)", f"{_meaning(found)} of {found}")
    shape = struct.unpack(f">{dimensions}I", _read(stream, 4 * dimensions, "the sizes in an IDX header"))
    length = math.prod(shape)
    if length == 0:
        raise IdxError("at least one element", f"shape {shape}")
    if length > max_bytes:
        raise IdxError(f"at most {max_bytes:,} bytes (fetch.max_bytes)", f"a header that announces {length:,}")
    hashed = write(npy, shape, _read_elements(stream, shape))
    if stream.read(1):
        raise IdxError(f"{length:,} bytes for shape {shape}", "more: trailing bytes follow")
    return hashed


def _read(stream: BinaryIO, size: int, what: str) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise IdxError(f"{what} ({size} bytes)", f"{len(content)} bytes")
    return content


def _meaning(dimensions: int) -> str:
    return {3: "images", 1: "labels"}.get(dimensions, "an array")


def hash_rows(npy: Path, rows: slice = ALL, after: Hashed | None = None) -> Hashed | None:
    """Hash rows of a `.npy` file as an IDX file of their own; None if the file is not a complete array of uint8.

    Args:
        after: hash the IDX file of this array first, then these rows: the SHA-256 of both files, one after the other.
    """
    digest = after.digest.copy() if after else hashlib.sha256()
    with npy.open("rb") as file:
        if not (stored := _read_shape(file)):
            return None
        shape = _shape_of_rows(stored, rows)
        digest.update(header(shape))
        for chunk in _read_rows(file, stored, rows):
            digest.update(chunk)
    return Hashed(shape, digest.hexdigest(), digest)


def sha256(*npys: Path, rows: slice = ALL, after: Hashed | None = None) -> str | None:
    """The SHA-256 of the IDX files of rows of `.npy` files, one after the other; arguments and None as in `hash_rows`."""
    for npy in npys:
        if (after := hash_rows(npy, rows, after)) is None:
            return None
    return after.sha256 if after else None


def _shape_of_rows(shape: Sequence[int], rows: slice) -> tuple[int, ...]:
    return (len(range(shape[0])[rows]), *shape[1:])


def _read_rows(file: BinaryIO, shape: Sequence[int], rows: slice) -> Iterator[bytes]:
    """Read rows of an array of `shape` that starts at the current position of `file`."""
    file.seek(rows.indices(shape[0])[0] * math.prod(shape[1:]), os.SEEK_CUR)
    return _read_elements(file, _shape_of_rows(shape, rows))


def _read_elements(stream: BinaryIO, shape: Sequence[int]) -> Iterator[bytes]:
    left = length = math.prod(shape)
    while left:
        if not (chunk := stream.read(min(_CHUNK, left))):
            raise IdxError(f"{length:,} bytes for shape {shape}", f"{length - left:,}: the file is truncated")
        left -= len(chunk)
        yield chunk


def header(shape: Sequence[int]) -> bytes:
    """The first bytes of an IDX file of uint8 of this shape."""
    return struct.pack(f">HBB{len(shape)}I", 0, _UINT8, len(shape), *shape)


def _read_shape(file: BinaryIO) -> tuple[int, ...] | None:
    """Read the header of a `.npy` file and return the shape; None if the file is not a complete C-ordered array of uint8."""
    try:
        version = np.lib.format.read_magic(file)
        shape, transposed, dtype = np.lib.format.read_array_header_1_0(file)
        header(shape)
        whole = os.fstat(file.fileno()).st_size == file.tell() + math.prod(shape)
    except Exception:  # NumPy evaluates the header as Python, so a damaged one can raise anything
        return None
    return shape if version == (1, 0) and not transposed and dtype == np.uint8 and whole else None


def mapped(npy: Path) -> Pixels:
    """The uint8 array at `npy`, memory-mapped."""
    array: Pixels = np.load(npy, mmap_mode="r", allow_pickle=False)
    return array


def shape(npy: Path) -> tuple[int, ...]:
    """The shape of the array at `npy`, from its header."""
    return tuple(mapped(npy).shape)


def concatenate(pieces: Sequence[tuple[Path, slice]], npy: Path) -> Hashed:
    """Write rows of uint8 `.npy` files, one after the other, to the file `npy`, in constant memory."""
    shapes = [_shape_of_rows(shape(source), rows) for source, rows in pieces]
    return write(npy, (sum(rows for rows, *_ in shapes), *shapes[0][1:]), _read_pieces(pieces))


def _read_pieces(pieces: Sequence[tuple[Path, slice]]) -> Iterator[bytes]:
    for source, rows in pieces:
        with source.open("rb") as file:
            yield from _read_rows(file, _read_shape(file) or (0,), rows)


def write(npy: Path, shape: tuple[int, ...], chunks: Iterable[bytes]) -> Hashed:
    """Write the elements of a uint8 array of `shape`, in C order, to the file `npy`, in constant memory."""
    digest = hashlib.sha256(header(shape))
    descr = np.lib.format.dtype_to_descr(np.dtype(np.uint8))
    with npy.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
        for chunk in chunks:
            digest.update(chunk)
            out.write(chunk)
    return Hashed(shape, digest.hexdigest(), digest)

"""IDX files of uint8, and the `.npy` files that they are decoded to, which tell the SHA-256 of the IDX file too.

The format: http://yann.lecun.com/exdb/mnist/, "the IDX file format".
"""

import hashlib
import math
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.data.errors import IdxError

_UINT8 = 0x08  # the code of the element type
_CHUNK = 1 << 20

Pixels = npt.NDArray[np.uint8]


class Decoded(NamedTuple):
    """What `decode` wrote: the shape, and the SHA-256 of the IDX file's decompressed content."""

    shape: tuple[int, ...]
    sha256: str


def decode(stream: BinaryIO, dimensions: int, npy: Path, max_bytes: int) -> Decoded:
    """Copy an IDX stream of uint8 to the `.npy` file at `npy`, in constant memory.

    The header decides how many bytes are read, and `max_bytes` bounds what the header may ask for.

    Raises:
        IdxError: the magic number, element type, number of dimensions or length is not right.
    """
    magic = _read(stream, 4, "an IDX header")
    zeros, kind, found = struct.unpack(">HBB", magic)
    if zeros != 0 or found == 0:
        raise IdxError("the magic number of an IDX file", f"bytes {magic.hex(' ')}")
    if kind != _UINT8:
        raise IdxError("elements of type uint8 (0x08)", f"type 0x{kind:02x}")
    if found != dimensions:
        raise IdxError(f"{_meaning(dimensions)} of {dimensions} dimension(s)", f"{_meaning(found)} of {found}")
    sizes = _read(stream, 4 * dimensions, "the sizes in an IDX header")
    shape = struct.unpack(f">{dimensions}I", sizes)
    length = math.prod(shape)
    if length == 0:
        raise IdxError("at least one element", f"shape {shape}")
    if length > max_bytes:
        raise IdxError(f"at most {max_bytes:,} bytes (fetch.max_bytes)", f"a header that announces {length:,}")

    digest = hashlib.sha256(magic + sizes)
    with npy.open("wb") as out:
        _write_header(out, shape)
        left = length
        while left:
            chunk = stream.read(min(_CHUNK, left))
            if not chunk:
                raise IdxError(f"{length:,} bytes for shape {shape}", f"{length - left:,}: the file is truncated")
            digest.update(chunk)
            out.write(chunk)
            left -= len(chunk)
    if stream.read(1):
        raise IdxError(f"{length:,} bytes for shape {shape}", "more: trailing bytes follow")
    return Decoded(shape, digest.hexdigest())


def _read(stream: BinaryIO, size: int, what: str) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise IdxError(f"{what} ({size} bytes)", f"{len(content)} bytes")
    return content


def _meaning(dimensions: int) -> str:
    return {3: "images", 1: "labels"}.get(dimensions, "an array")


def sha256(*npys: Path, rows: slice = slice(None)) -> str | None:
    """SHA-256 of the IDX files, one after the other, that the uint8 `.npy` files were decoded from; None if they were not.

    Args:
        rows: of those rows only, as if they were files of their own.
    """
    digest = hashlib.sha256()
    for npy in npys:
        with npy.open("rb") as file:
            if not (shape := _read_shape(file)):
                return None
            taken = _taken(shape, rows)
            digest.update(header(taken))
            for chunk in _read_rows(file, shape, rows):
                digest.update(chunk)
    return digest.hexdigest()


def _taken(shape: Sequence[int], rows: slice) -> tuple[int, ...]:
    return (len(range(shape[0])[rows]), *shape[1:])


def _read_rows(file: BinaryIO, shape: Sequence[int], rows: slice) -> Iterator[bytes]:
    """The bytes of `rows` of an array of `shape`, whose first byte comes next in `file`, in pieces."""
    file.seek(rows.indices(shape[0])[0] * math.prod(shape[1:]), os.SEEK_CUR)
    left = math.prod(_taken(shape, rows))
    while left and (chunk := file.read(min(_CHUNK, left))):
        yield chunk
        left -= len(chunk)


def header(shape: Sequence[int]) -> bytes:
    """What an IDX file of uint8 of this shape begins with."""
    return struct.pack(f">HBB{len(shape)}I", 0, _UINT8, len(shape), *shape)


def _read_shape(file: BinaryIO) -> tuple[int, ...] | None:
    """The shape by the header of a `.npy` file, which is read; None unless the file is uint8 row by row, and all there."""
    try:
        version = np.lib.format.read_magic(file)
        shape, transposed, dtype = np.lib.format.read_array_header_1_0(file)
        header(shape)
        whole = os.fstat(file.fileno()).st_size == file.tell() + math.prod(shape)
    except Exception:  # numpy reads the header as Python, so a damaged one fails in as many ways as Python has
        return None
    return shape if version == (1, 0) and not transposed and dtype == np.uint8 and whole else None


def mapped(npy: Path) -> Pixels:
    """The uint8 array at `npy`, memory-mapped."""
    array: Pixels = np.load(npy, mmap_mode="r", allow_pickle=False)
    return array


def shape(npy: Path) -> tuple[int, ...]:
    """The shape of the array at `npy`, from its header."""
    return tuple(mapped(npy).shape)


def concatenate(pieces: Sequence[tuple[Path, slice]], npy: Path) -> tuple[int, ...]:
    """Write rows of uint8 `.npy` files, whose rows are of one size, to another; return the shape. In constant memory."""
    shapes = [_taken(shape(source), rows) for source, rows in pieces]
    whole = (sum(rows for rows, *_ in shapes), *shapes[0][1:])
    with npy.open("wb") as out:
        _write_header(out, whole)
        for source, rows in pieces:
            with source.open("rb") as file:
                out.writelines(_read_rows(file, _read_shape(file) or (0,), rows))
    return whole


def _write_header(out: BinaryIO, shape: tuple[int, ...]) -> None:
    descr = np.lib.format.dtype_to_descr(np.dtype(np.uint8))
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})

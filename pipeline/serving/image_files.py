"""Read unlabelled images from image files (PNG, JPEG, ...) and array files (npy, npz, IDX)."""

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from pipeline.core import files
from pipeline.core.errors import first_line
from pipeline.core.params import Layout
from pipeline.data import folders, idx, npz
from pipeline.data.errors import IdxError, ImageFileError
from pipeline.data.idx import Pixels
from pipeline.serving import parquet_files, preprocessing
from pipeline.serving.errors import UnknownLayoutError, UnreadableImageError
from pipeline.serving.preprocessing import Images

_MOST_BYTES = 4_000_000_000  # of a decompressed array
_ARRAY = "images"  # the array to read from an npz file that holds several
_IDX_MAGIC = b"\0\0\x08\x03"  # uint8, three dimensions
_NPY_MAGIC = b"\x93NUMPY"
_IDX_HEADER = 16  # bytes


class Reading(NamedTuple):
    """How image files are read: their layout, all of their frames or the first, and whether images are stored transposed."""

    layout: Layout | None = "mnist"  # None: nothing says it, and only arrays can be read
    all_frames: bool = False
    transpose: bool = False


def read(path: Path, shape: tuple[int, int], how: Reading = Reading()) -> Images:  # noqa: B008 - immutable
    """Read an image file, or all images of an npy, npz or IDX file.

    Only image files are preprocessed to `shape` (height, width); arrays must have it already. The images of an npy or an
    uncompressed IDX file are memory-mapped.

    Raises:
        UnreadableImageError: the file has another format, is damaged, or holds arrays of another shape.
        UnknownLayoutError: it is an image file, and `how` has no layout.
    """
    if how.transpose:
        images = read(path, (shape[1], shape[0]), how._replace(transpose=False))
        return Images(images.pixels.swapaxes(1, 2), (*images.changes, "transposed"))
    if decode := _decoder(path):
        return Images(_checked(decode(path), shape, path))
    if how.layout is None:
        raise UnknownLayoutError(str(path))
    try:
        return preprocessing.read(path, shape, how.layout, how.all_frames)
    except ImageFileError as error:
        raise UnreadableImageError(path, error.expected, error.found) from error
    except OSError as error:
        raise UnreadableImageError(path, "a file", error.strerror or str(error)) from error


def read_arrays(source: Path, shape: tuple[int, int]) -> Pixels:
    """Read every image of the npy, npz, IDX and Parquet files of `source`, a file or a folder: `(n, height, width)` uint8.

    Raises:
        UnreadableImageError: a file has another format, is damaged, or holds arrays of another shape; or there is no file.
    """
    arrays = []
    for path in _files(source):
        decode = partial(parquet_files.read, shape=shape) if path.suffix == ".parquet" else _decoder(path)
        if decode is None:  # preprocessing an image file would remove what makes it unusual
            raise UnreadableImageError(path, "an npy, npz, IDX or Parquet file", f"another file type (*{path.suffix})")
        arrays.append(_checked(decode(path), shape, path))
    if not arrays:
        raise UnreadableImageError(source, "a file, or a folder with files", "an empty folder")
    return np.concatenate(arrays)


def in_folder(folder: Path) -> tuple[list[Path], str | None]:
    """The files directly in a folder that may hold images, sorted by name, and what was left out, in a line.

    Raises:
        UnreadableImageError: there are none.
    """
    entries = sorted(folder.iterdir())
    found = [path for path in entries if path.is_file() and not folders.holds_no_data(path.name)]
    if not found:
        raise UnreadableImageError(folder, "a folder with images", "none in it")
    others = [path.name for path in entries if path not in set(found)]
    return found, f"left out: {folders.listed(others)}" if others else None


def _files(source: Path) -> Iterator[Path]:
    """Yield the file `source`, or the data files directly in the folder `source`, sorted by name."""
    if source.is_dir():
        yield from sorted(path for path in source.iterdir() if path.is_file() and not folders.holds_no_data(path.name))
    else:
        yield source


def _decoder(path: Path) -> Callable[[Path], Pixels] | None:
    """Choose the reader of an array file by its content, or by its name if it is damaged; None for any other file."""
    found = _decoder_by_content(path)
    if found is None and path.name.removesuffix(".gz").endswith(("ubyte", ".idx")):
        return _read_idx
    return found or {".npy": _read_npy, ".npz": _read_npz}.get(path.suffix)


def _decoder_by_content(path: Path) -> Callable[[Path], Pixels] | None:
    try:
        with files.open_decompressed(path) as stream:
            if stream.read(len(_IDX_MAGIC)) == _IDX_MAGIC:
                return _read_idx
        with path.open("rb") as file:
            return _read_npy if file.read(len(_NPY_MAGIC)) == _NPY_MAGIC else None
    except (OSError, EOFError, zlib.error):
        return None


def _read_idx(path: Path) -> Pixels:
    try:
        mapped = _mapped_idx(path)
        return _decoded_idx(path) if mapped is None else mapped
    except IdxError as error:
        raise UnreadableImageError(path, error.expected, error.found) from error
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableImageError(path, "an IDX file", str(error) or "a truncated file") from error


def _mapped_idx(path: Path) -> Pixels | None:
    """Map an uncompressed IDX file of images; None if the file is compressed or its size contradicts its header."""
    with path.open("rb") as file:
        header = file.read(_IDX_HEADER)
    if len(header) < _IDX_HEADER or not header.startswith(_IDX_MAGIC):
        return None
    sizes = struct.unpack(">3I", header[4:])
    if path.stat().st_size != _IDX_HEADER + math.prod(sizes) or 0 in sizes:
        return None
    return np.asarray(np.memmap(path, np.uint8, "r", _IDX_HEADER, sizes))


def _decoded_idx(path: Path) -> Pixels:
    with files.open_decompressed(path) as stream, TemporaryDirectory() as folder:
        npy = Path(folder) / "images.npy"
        idx.decode(stream, 3, npy, _MOST_BYTES)
        return np.asarray(np.load(npy, allow_pickle=False))


def _read_npy(path: Path) -> Pixels:
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except Exception as error:  # numpy evaluates the header as Python, so a damaged one can raise almost any exception
        raise UnreadableImageError(path, "an npy file of numbers", first_line(error)) from error


def _read_npz(path: Path) -> Pixels:
    try:
        with path.open("rb") as stream:
            return npz.read(stream, _ARRAY, _MOST_BYTES)
    except IdxError as error:
        raise UnreadableImageError(path, error.expected, error.found) from error
    except OSError as error:
        raise UnreadableImageError(path, "an npz file", str(error)) from error


def _checked(array: Pixels, shape: tuple[int, int], path: Path) -> Pixels:
    pixels = array[None] if array.ndim == 2 else array
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or not len(pixels):
        raise UnreadableImageError(path, f"uint8 (n, {shape[0]}, {shape[1]})", f"{array.dtype} {array.shape}")
    return pixels
